"""Where events go. A sink takes documents in order and says how many of them it has for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from sonant.errors import SetupError, SonantError
from sonant.settings import Events, Settings


class SinkFault(SonantError):
    """A delivery failed; it is tried again. The message holds no secret and no document."""


class Sink(Protocol):
    """One way to tell others."""

    @property
    def name(self) -> str:
        """Names the sink's cursor; one of a kind."""
        ...

    def deliver(self, documents: Sequence[bytes]) -> int:
        """Hand over JSON documents, in order; how many, from the first on, were taken for good.

        Raises SinkFault when none was.
        """
        ...

    def close(self) -> None: ...


def build_sinks(settings: Settings) -> list[Sink]:
    """The sinks that the settings name. Raises SetupError for an unknown one or one that lacks a setting."""
    return [_MAKERS[name](settings) for name in sink_names(settings.events)]


def sink_names(events: Events) -> list[str]:
    """What `events.sinks` names, each once. Raises SetupError for an unknown name."""
    names = list(dict.fromkeys(name.strip() for name in events.sinks.split(",") if name.strip()))
    for name in names:
        if name not in _MAKERS:
            raise SetupError(f"setting events.sinks names {name!r}, known are: {', '.join(_MAKERS)}")
    return names


def events_folder(data: Path) -> Path:
    return data / "events"


def _file(settings: Settings) -> Sink:
    from sonant.events.sinks.file import FileSink

    events = settings.events
    return FileSink(
        events_folder(settings.data) / "events.jsonl", max_bytes=events.file_max_bytes, keep=events.file_keep
    )


def _webhook(settings: Settings) -> Sink:
    from sonant.events.sinks.webhook import WebhookSink

    events = settings.events
    return WebhookSink(
        events.webhook_url, secret=events.webhook_secret, time_limit_s=events.webhook_time_limit_s
    )


def _eventbridge(settings: Settings) -> Sink:
    from sonant.events.sinks.eventbridge import EventBridgeSink

    events = settings.events
    return EventBridgeSink(
        bus=events.eventbridge_bus,
        source=events.eventbridge_source,
        region=events.eventbridge_region or settings.region,
        endpoint=events.eventbridge_endpoint,
    )


_MAKERS: dict[str, Callable[[Settings], Sink]] = {
    "file": _file,
    "webhook": _webhook,
    "eventbridge": _eventbridge,
}
