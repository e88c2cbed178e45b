"""The new setting is read, checked against its range, and listed with its unit."""

from sonant.errors import SetupError
from sonant.settings import Settings, loading
from sonant.settings.listing import all_settings

NAME, VARIABLE = "gateway.keep_alive_s", "SONANT_GATEWAY_KEEP_ALIVE_S"

assert Settings().gateway.keep_alive_s == 30.0
assert loading.load(environment={VARIABLE: "5"}).gateway.keep_alive_s == 5.0
assert all_settings()[NAME].declared.unit == "seconds"

for wrong in ("0", "3601", "soon"):
    try:
        loading.load(environment={VARIABLE: wrong})
    except SetupError as fault:
        assert NAME in str(fault), fault
        assert "1 to 3,600" in str(fault), fault
    else:
        raise AssertionError(f"{wrong} is accepted")
