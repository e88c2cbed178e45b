"""Time as the database keeps it: whole microseconds since 1970 UTC."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: By how much clocks of several hosts may differ.
_APART = timedelta(hours=1)
#: The wall clock jumps when it goes otherwise than time by more than this between two looks.
_JUMP_S = 60.0


def now() -> datetime:
    """The real clock; everything that depends on time takes a function like this one."""
    return datetime.now(UTC)


def far_us(now: datetime, longest: timedelta) -> int:
    """No lease of at most `longest` lasts until then: one that says so was written by a wrong clock."""
    return to_us(now + longest + _APART)


def to_us(moment: datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def floor_hour(moment: datetime) -> datetime:
    """LastAccessedAt is exact to one hour."""
    return moment.replace(minute=0, second=0, microsecond=0)


class ClockWatch:
    """Notices when the wall clock jumps: what it says then may be wrong for a while."""

    def __init__(self, clock: Callable[[], datetime], monotonic_s: Callable[[], float]) -> None:
        self._clock, self._monotonic_s = clock, monotonic_s
        self._ahead_s = self._look()
        self._jumped_s = float("-inf")

    def steady_s(self) -> float:
        """For how long it has gone as time goes, in seconds; call it again and again."""
        ahead_s = self._look()
        if abs(ahead_s - self._ahead_s) > _JUMP_S:
            self._jumped_s = self._monotonic_s()
        self._ahead_s = ahead_s
        return self._monotonic_s() - self._jumped_s

    def _look(self) -> float:
        return self._clock().timestamp() - self._monotonic_s()
