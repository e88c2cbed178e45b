"""Sums the calls that an open page of the console repeats, so that a shift is not a hundred megabytes.

The first call is recorded like every other. Those that repeat it (same caller, address, operation, parameters
and result) are counted, and recorded as one call with the number of calls when the interval ends.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime

from sonant.audit.record import Record

#: Different polls that are counted at once; further ones are recorded one by one.
MOST_POLLS = 10_000


@dataclass(slots=True)
class _Sum:
    """The calls of one kind since the first that was recorded."""

    ends_s: float
    calls: int = 0
    first: datetime | None = None
    last: Record | None = None


class PollSums:
    """Counts repeated calls. Safe for several threads; times are those of a monotonic clock, in seconds."""

    def __init__(self, interval_s: float) -> None:
        """`interval_s` 0 counts nothing."""
        self._interval_s = interval_s
        self._sums: dict[Hashable, _Sum] = {}
        self._lock = threading.Lock()

    def count(self, record: Record, now_s: float) -> bool:
        """Count a call. Returns False for one that must be recorded itself."""
        if self._interval_s <= 0 or record.principal_arn is None:
            return False
        if record.changes and record.error is None:
            return False
        kind = _kind(record)
        with self._lock:
            found = self._sums.get(kind)
            if found is None:
                if len(self._sums) < MOST_POLLS:
                    self._sums[kind] = _Sum(ends_s=now_s + self._interval_s)
                return False
            found.calls += 1
            found.first = found.first or record.time
            found.last = record
        return True

    def due(self, now_s: float) -> list[Record]:
        """Return the sums whose interval has ended, each as its last call, and forget them.

        A poll that went on is counted anew without a record of its own; one that did not is forgotten.
        """
        records = []
        with self._lock:
            for kind in [kind for kind, one in self._sums.items() if one.ends_s <= now_s]:
                ended = self._sums.pop(kind)
                if ended.last is None or ended.first is None:
                    continue
                ended.last.summed = (ended.calls, ended.first)
                records.append(ended.last)
                self._sums[kind] = _Sum(ends_s=now_s + self._interval_s)
        return records

    def next_s(self, now_s: float) -> float | None:
        """Return the time until the first interval ends; None when nothing is counted."""
        with self._lock:
            ends = [one.ends_s for one in self._sums.values()]
        return max(0.0, min(ends) - now_s) if ends else None


def _kind(record: Record) -> Hashable:
    error = "" if record.error is None else record.error.code
    return (
        record.principal_arn,
        record.access_key_id,
        record.source_ip,
        record.region,
        record.operation.name,
        error,
        repr(sorted(record.parameters.items())),
    )
