"""Carriers by provider: each module is one, found by its name; it defines `carrier(settings)`."""
