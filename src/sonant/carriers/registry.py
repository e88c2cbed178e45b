"""The carriers that Sonant supports, and those that the settings configure."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

from sonant.carriers import providers
from sonant.carriers.carrier import Carrier
from sonant.carriers.servers import ServerCarrier
from sonant.settings import Settings

#: Builds each carrier from the settings, None where they do not configure it. The name is the module's, the
#: last part of the carrier's path and of its ARN in the audit trail.
CARRIERS: dict[str, Callable[[Settings], Carrier | ServerCarrier | None]] = {
    module.name: import_module(f"{providers.__name__}.{module.name}").carrier
    for module in iter_modules(providers.__path__)
}


def configured_carriers(settings: Settings) -> dict[str, Carrier | ServerCarrier]:
    """Build the carriers that the settings configure, by name. Raises SetupError for one whose password could
    be guessed."""
    built = {name: build(settings) for name, build in CARRIERS.items()}
    return {name: carrier for name, carrier in built.items() if carrier is not None}
