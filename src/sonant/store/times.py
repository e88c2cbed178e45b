"""Time as the database keeps it: whole microseconds since 1970 UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def now() -> datetime:
    """The real clock; everything that depends on time takes a function like this one."""
    return datetime.now(UTC)


def to_us(moment: datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def floor_hour(moment: datetime) -> datetime:
    """LastAccessedAt is exact to one hour."""
    return moment.replace(minute=0, second=0, microsecond=0)
