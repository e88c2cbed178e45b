"""Writes the audit trail: one thread, group commit, bounded memory.

A call that changes something waits until its record is on the disk; a call that only reads does not. Records
that arrive while the disk is busy are written and synced together. After a failed write, records wait in
memory and are tried again every second; until then calls that must be recorded are refused.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sonant.audit.file import Announce, ChainFile
from sonant.audit.key_files import KeyFiles
from sonant.audit.polls import PollSums
from sonant.audit.record import Record, document
from sonant.errors import InternalServer, SonantError
from sonant.settings import Audit
from sonant.threads import start_loop
from sonant.token_bucket import TokenBucket

log = logging.getLogger(__name__)

#: How long records of reads are collected before they are written.
COLLECT_S = 0.02
#: Least interval between syncs of records of reads.
SYNC_S = 1.0
#: Pause after a failed write.
RETRY_S = 1.0
#: How long a call waits for space in memory, or for its record to reach the disk.
WAIT_S = 10.0
#: Records that are written and synced together at most.
MAX_BATCH = 1000


class Trail:
    """Records calls. Safe for several threads."""

    def __init__(
        self,
        folder: Path,
        settings: Audit,
        *,
        region: str,
        clock: Callable[[], datetime],
        keys: KeyFiles | None = None,
        announce: Announce | None = None,
    ) -> None:
        """`keys` seal the lines, and `announce` records a chain before its first sealed line.

        Raises SetupError when the folder cannot be used or its last line is damaged.
        """
        self._settings, self._region, self._clock = settings, region, clock
        self._file = ChainFile(folder, settings.max_file_bytes, keys, announce)
        self._polls = PollSums(settings.sum_polls_s)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # there is space again, or records became durable
        self._wake, self._urgent, self._stop = threading.Event(), threading.Event(), threading.Event()
        self._pending: deque[Record] = deque()
        self._accepted = 0  # number of records ever accepted
        self._written = 0  # number of these that are on the disk
        self._failing = False
        self._lost = 0
        self._unsigned = _RateLimit(settings.unsigned_per_s)
        self._thread = start_loop(self._run, "audit")

    @property
    def failing(self) -> bool:
        """Whether the last write failed and was not repeated with success yet."""
        return self._failing

    @property
    def waiting(self) -> int:
        """How many records wait for the disk."""
        return len(self._pending)

    def require(self) -> None:
        """Raise InternalServer when a change could not be recorded. To be called before the change."""
        if self._failing and self._settings.required:
            raise InternalServer

    def add(self, record: Record) -> None:
        """Record a call, and wait for the disk if it changes something.

        Raises InternalServer when it is not recorded in time. A change that was made is recorded as soon as
        the disk can be written again.
        """
        if self._failing:
            record.parameters = {}  # records that wait for a full disk must stay small
        if record.principal_arn is None and not record.details:  # those with details are summed already
            suppressed = self._unsigned.take()
            if suppressed is None:
                return
            record.suppressed = suppressed
        if record.polled and self._polls.count(record, time.monotonic()):
            return
        durable = record.changes and record.principal_arn is not None
        with self._lock:
            if len(self._pending) >= self._settings.max_waiting and not self._wait_for_space():
                if self._settings.required:
                    raise InternalServer
                self._lost += 1
                return
            self._pending.append(record)
            self._accepted += 1
            number, first = self._accepted, len(self._pending) == 1
        if durable:
            self._urgent.set()
        if first or durable:
            self._wake.set()
        if durable:
            self._wait_for_disk(number)

    def close(self) -> None:
        """Write all records, and stop the thread."""
        self._stop.set()
        self._urgent.set()
        self._wake.set()
        self._thread.join(WAIT_S)
        self._file.close()

    def _wait_for_space(self) -> bool:
        """Return whether there is space. Needs the lock. Does not wait while writes fail."""
        return self._changed.wait_for(
            lambda: len(self._pending) < self._settings.max_waiting, 0 if self._failing else WAIT_S
        )

    def _wait_for_disk(self, number: int) -> None:
        with self._lock:
            self._changed.wait_for(lambda: self._written >= number or self._failing, WAIT_S)
            recorded = self._written >= number
        if not recorded and self._settings.required:
            raise InternalServer

    def _run(self) -> None:
        synced_at = time.monotonic()
        while True:
            # Unsynced records of reads are synced within a second, even when no more arrive.
            unsynced = self._file.unsynced
            self._wake.wait(SYNC_S if unsynced else self._polls.next_s(time.monotonic()))
            self._wake.clear()
            self._urgent.wait(0 if self._stop.is_set() else COLLECT_S)
            self._urgent.clear()
            self._add_sums()
            try:
                while batch := self._next():
                    self._file.write([document(record, self._region) for record in batch], self._clock())
                    durable = any(record.changes for record in batch)
                    if durable or time.monotonic() - synced_at >= SYNC_S:
                        self._file.sync()
                        synced_at = time.monotonic()
                    self._file.commit()
                    self._done(len(batch))
                if self._file.unsynced and (self._stop.is_set() or time.monotonic() - synced_at >= SYNC_S):
                    self._file.sync()
                    synced_at = time.monotonic()
            except Exception as fault:  # noqa: BLE001 - logged in `_write_failed`; this thread must not end
                self._write_failed(fault)
                if self._stop.wait(RETRY_S):
                    log.error("the audit trail could not be completed: %d records lost", len(self._pending))
                    return
                self._wake.set()
                continue
            if self._stop.is_set() and not self._pending:
                return

    def _add_sums(self) -> None:
        """Add the sums of polls whose interval has ended, at the end all of them."""
        due = self._polls.due(float("inf") if self._stop.is_set() else time.monotonic())
        if due:
            with self._lock:
                self._pending.extend(due)
                self._accepted += len(due)

    def _next(self) -> list[Record]:
        """Return the next records to write, which stay pending until they are written."""
        with self._lock:
            return [self._pending[index] for index in range(min(len(self._pending), MAX_BATCH))]

    def _done(self, count: int) -> None:
        with self._lock:
            for _ in range(count):
                self._pending.popleft()
            self._written += count
            recovered, self._failing = self._failing, False
            lost, self._lost = self._lost, 0
            self._changed.notify_all()
        if recovered:
            log.warning("the audit trail is written again")
        if lost:
            log.error("%d calls were answered without a record", lost)

    def _write_failed(self, fault: Exception) -> None:
        with self._lock:
            before, self._failing = self._failing, True
            self._changed.notify_all()
        if not before:
            defect = None if isinstance(fault, OSError | SonantError) else fault
            log.error("the audit trail cannot be written: %s; trying again", fault, exc_info=defect)
        self._file.undo()


class _RateLimit:
    """A token bucket for unauthenticated calls: a flood of them must not fill the disk."""

    def __init__(self, per_s: float) -> None:
        self._bucket = TokenBucket(per_s, max(1.0, per_s), time.monotonic())
        self._refused = 0
        self._lock = threading.Lock()

    def take(self) -> int | None:
        """Return how many calls were refused since the last accepted one, or None to refuse this one."""
        with self._lock:
            if not self._bucket.take(time.monotonic()):
                self._refused += 1
                return None
            refused, self._refused = self._refused, 0
            return refused
