"""Event sinks: destinations that store events in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sonant.errors import SonantError
from sonant.settings import Events, Settings
from sonant.settings.registries import EVENT_SINKS


class SinkFault(SonantError):
    """A delivery failed and is tried again. The message holds no secret and no document."""


class Sink(Protocol):
    """One destination of events. Its module defines `BACK_END`, a function that makes it from `Settings`."""

    @property
    def name(self) -> str:
        """Name of the sink's cursor, unique among sinks."""
        ...

    def deliver(self, documents: Sequence[bytes]) -> int:
        """Deliver JSON documents in order, and return how many, from the first on, are stored for good.

        Raises SinkFault when none is.
        """
        ...

    def close(self) -> None: ...


def build_sinks(settings: Settings) -> list[Sink]:
    """Make the sinks that the settings name. Raises SetupError for an unknown or incomplete one."""
    return [EVENT_SINKS.get(name)(settings) for name in sink_names(settings.events)]


def sink_names(events: Events) -> list[str]:
    """Return the names in `events.sinks`, each once. Raises SetupError for an unknown name."""
    names = list(dict.fromkeys(name.strip() for name in events.sinks.split(",") if name.strip()))
    for name in names:
        EVENT_SINKS.check(name)
    return names


def events_folder(data: Path) -> Path:
    """Return the folder of the `file` sink."""
    return data / "events"
