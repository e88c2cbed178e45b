"""Key stores: each module is one, found by its name; it defines `BACK_END`, a `KeyBackEnd`."""
