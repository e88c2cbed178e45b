"""Plan the threads of a service that use the database, and so its number of connections."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sonant.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadPlan:
    """Threads of one process by use.

    Each has at most one transaction at a time, so a pool of `total` connections is never exhausted. The names
    are the `use` label of the metric `sonant_threads`.
    """

    calls: int
    """Operations (`gateway.threads`)."""
    long_calls: int
    """Operations that may take seconds."""
    comparisons: int
    """Comparisons of recordings (`gateway.comparisons`)."""
    reads: int
    """On SQLite, one thread for all operations that only read."""
    streams: int
    """Start streams of live calls; some milliseconds each. More threads than two start two hundred calls no
    sooner, one at a time computes anyway, but each further one makes writes and reads wait longer."""
    pages: int
    """Pages of the console."""
    readiness: int
    """Readiness checks."""
    metrics: int
    """Scrapes of `/metrics`."""
    live_calls: int
    """Store the results of live calls, and enroll speakers in calls."""
    replays: int
    """Load the recordings of domains into replay indexes; up to half a minute each."""
    background: int
    """The main thread, housekeeping, the heads of the audit trail, and deliveries to three event sinks."""

    @property
    def total(self) -> int:
        """All threads, and so the connections that they need."""
        return sum(getattr(self, field.name) for field in fields(self))


def plan_threads(settings: Settings) -> ThreadPlan:
    """Plan the threads of one service process."""
    return ThreadPlan(
        calls=settings.gateway.threads,
        long_calls=2,
        comparisons=settings.gateway.comparisons,
        reads=1 if settings.embedded else 0,
        streams=2,
        pages=4,
        readiness=1,
        metrics=1,
        live_calls=2,
        replays=2,
        background=7,
    )
