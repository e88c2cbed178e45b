"""Time in the database, as whole microseconds since 1970 UTC, and checks of the wall clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: The largest difference between the clocks of several hosts.
_CLOCK_TOLERANCE = timedelta(hours=1)
#: The wall clock has jumped when it differs from elapsed time by more than this between two checks.
_JUMP_S = 60.0


def now() -> datetime:
    """Return the present time. Whatever depends on time takes a function like this one."""
    return datetime.now(UTC)


def latest_lease_us(now: datetime, longest: timedelta) -> int:
    """Return the latest end of a valid lease of at most `longest`; later ones come from wrong clocks."""
    return to_us(now + longest + _CLOCK_TOLERANCE)


def to_us(moment: datetime) -> int:
    """Return a time in microseconds since 1970 UTC."""
    return (moment - EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """Return the time of microseconds since 1970 UTC."""
    return EPOCH + timedelta(microseconds=microseconds)


def floor_hour(moment: datetime) -> datetime:
    """Return the start of the hour: LastAccessedAt has that precision."""
    return moment.replace(minute=0, second=0, microsecond=0)


class ClockWatch:
    """Detects jumps of the wall clock, after which it may be wrong for a while."""

    def __init__(self, clock: Callable[[], datetime], monotonic_s: Callable[[], float]) -> None:
        self._clock, self._monotonic_s = clock, monotonic_s
        self._offset_s = self._present_offset_s()
        self._jumped_s = float("-inf")

    def steady_s(self) -> float:
        """Return the seconds since the last jump. To be called regularly."""
        offset_s = self._present_offset_s()
        if abs(offset_s - self._offset_s) > _JUMP_S:
            self._jumped_s = self._monotonic_s()
        self._offset_s = offset_s
        return self._monotonic_s() - self._jumped_s

    def _present_offset_s(self) -> float:
        return self._clock().timestamp() - self._monotonic_s()
