"""The states of a job and the steps between them.

    SUBMITTED ──begin──► IN_PROGRESS ──all succeeded──► COMPLETED
        │                    ├────────some failed─────► COMPLETED_WITH_ERRORS
        └───────fail─────────┴────────fail────────────► FAILED

States only move forward. The store guards the same steps with conditional updates.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    SUBMITTED = "SUBMITTED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    COMPLETED_WITH_ERRORS = "COMPLETED_WITH_ERRORS"
    FAILED = "FAILED"

    @property
    def final(self) -> bool:
        return self not in (Status.SUBMITTED, Status.IN_PROGRESS)


class Event(StrEnum):
    BEGIN = "begin"
    """A runner claimed the job; again after a restart."""
    SUCCEED = "all requests succeeded"
    SUCCEED_PARTLY = "all requests are finished, some badly"
    FAIL = "the job as a whole cannot go on"


_STEPS: dict[tuple[Status, Event], Status] = {
    (Status.SUBMITTED, Event.BEGIN): Status.IN_PROGRESS,
    (Status.SUBMITTED, Event.FAIL): Status.FAILED,
    (Status.IN_PROGRESS, Event.BEGIN): Status.IN_PROGRESS,
    (Status.IN_PROGRESS, Event.SUCCEED): Status.COMPLETED,
    (Status.IN_PROGRESS, Event.SUCCEED_PARTLY): Status.COMPLETED_WITH_ERRORS,
    (Status.IN_PROGRESS, Event.FAIL): Status.FAILED,
}


def advance(status: Status, event: Event) -> Status:
    """Find the status after an event. Raises ValueError for a step that the diagram does not have."""
    try:
        return _STEPS[status, event]
    except KeyError:
        raise ValueError(f"a job that is {status} does not allow the event: {event}") from None
