"""Plans the threads of a service that use the database, and so the connections that they need."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sonant.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadPlan:
    """Threads of one process by what they do. Each has one transaction at a time, so each needs one
    connection at most, and a pool of `total` connections is never exhausted."""

    calls: int
    """Operations (`gateway.threads`)."""
    long_calls: int
    """Operations that may take seconds."""
    reads: int
    """On SQLite, one thread for all operations that only read."""
    streams: int
    """Open streams of live calls and decode uploads; some milliseconds each."""
    pages: int
    """The console."""
    readiness: int
    metrics: int
    live_calls: int
    """Store what was heard, and enroll speakers in calls."""
    replays: int
    """Read a domain's recordings into the replay index; up to half a minute each."""
    background: int
    """The main thread, housekeeping, and the delivery of events to three sinks."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


def plan_threads(settings: Settings) -> ThreadPlan:
    return ThreadPlan(
        calls=settings.gateway.threads,
        long_calls=2,
        reads=1 if settings.embedded else 0,
        streams=4,
        pages=4,
        readiness=1,
        metrics=1,
        live_calls=2,
        replays=2,
        background=6,
    )
