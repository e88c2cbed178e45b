"""The writer of the audit trail: one thread, group commit, bounded memory.

A call that changes something waits until its record is on the disk; a call that only reads does not.
Records that come while the disk is busy are written and synced together. When the disk refuses, records wait
in memory and are tried again each second; until then nothing that must be recorded is begun.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sonant.audit.file import ChainFile
from sonant.audit.record import Record, document
from sonant.errors import InternalServer
from sonant.settings import Audit
from sonant.threads import start_loop
from sonant.token_bucket import TokenBucket

log = logging.getLogger(__name__)

#: How long reads are gathered before they are written.
GATHER_S = 0.02
#: How often records of reads are synced at most.
SYNC_S = 1.0
#: Pause after the disk refused.
RETRY_S = 1.0
#: How long a call waits for room, or for its record to reach the disk.
WAIT_S = 10.0
#: Records written and synced in one go.
MOST_AT_ONCE = 1000


class Trail:
    """Raises SetupError when the folder cannot be used or its last line is damaged."""

    def __init__(self, folder: Path, settings: Audit, *, region: str, clock: Callable[[], datetime]) -> None:
        self._settings, self._region, self._clock = settings, region, clock
        self._file = ChainFile(folder, settings.max_file_bytes)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # room was made, or records became durable
        self._wake, self._urgent, self._stop = threading.Event(), threading.Event(), threading.Event()
        self._pending: deque[Record] = deque()
        self._taken = 0  # records ever accepted, in order
        self._written = 0  # of these, how many are on the disk
        self._failing = False
        self._lost = 0
        self._unsigned = _UnsignedLimit(settings.unsigned_per_s)
        self._thread = start_loop(self._run, "audit")

    @property
    def failing(self) -> bool:
        """The disk refused the last write, and it has not been made good yet."""
        return self._failing

    def require(self) -> None:
        """To be called before something is changed. Raises InternalServer if it could not be recorded."""
        if self._failing and self._settings.required:
            raise InternalServer

    def add(self, record: Record) -> None:
        """Record a call; wait for the disk if it changes something.

        Raises InternalServer if it cannot be recorded. A changing call that took effect is recorded all the
        same as soon as the disk takes it.
        """
        if self._failing:
            record.parameters = {}  # what waits for a full disk must stay small
        if record.principal_arn is None:
            suppressed = self._unsigned.take()
            if suppressed is None:
                return
            record.suppressed = suppressed
        durable = record.changes and record.principal_arn is not None
        with self._lock:
            if len(self._pending) >= self._settings.max_waiting and not self._wait_for_room():
                if self._settings.required:
                    raise InternalServer
                self._lost += 1
                return
            self._pending.append(record)
            self._taken += 1
            ticket, first = self._taken, len(self._pending) == 1
        if durable:
            self._urgent.set()
        if first or durable:
            self._wake.set()
        if durable:
            self._wait_for_disk(ticket)

    def close(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        self._urgent.set()
        self._wake.set()
        self._thread.join(WAIT_S)
        self._file.close()

    def _wait_for_room(self) -> bool:
        """Whether there is room now; called with the lock held. No use in waiting for a disk that refuses."""
        return self._changed.wait_for(
            lambda: len(self._pending) < self._settings.max_waiting, 0 if self._failing else WAIT_S
        )

    def _wait_for_disk(self, ticket: int) -> None:
        with self._lock:
            self._changed.wait_for(lambda: self._written >= ticket or self._failing, WAIT_S)
            recorded = self._written >= ticket
        if not recorded and self._settings.required:
            raise InternalServer

    def _run(self) -> None:
        synced_at = time.monotonic()
        while True:
            # Reads that are written but not synced yet are synced within a second, also when no more come.
            unsynced = self._file.unsynced
            self._wake.wait(SYNC_S if unsynced else None)
            self._wake.clear()
            self._urgent.wait(0 if self._stop.is_set() else GATHER_S)
            self._urgent.clear()
            try:
                while batch := self._next():
                    self._file.write([document(record, self._region) for record in batch], self._clock())
                    durable = any(record.changes for record in batch)
                    if durable or time.monotonic() - synced_at >= SYNC_S:
                        self._file.sync()
                        synced_at = time.monotonic()
                    self._file.keep()
                    self._done(len(batch))
                if self._file.unsynced and (self._stop.is_set() or time.monotonic() - synced_at >= SYNC_S):
                    self._file.sync()
                    synced_at = time.monotonic()
            except Exception as fault:  # noqa: BLE001 - told in `_refused`; this thread must not end
                self._refused(fault)
                if self._stop.wait(RETRY_S):
                    log.error("the audit trail could not be completed: %d records lost", len(self._pending))
                    return
                self._wake.set()
                continue
            if self._stop.is_set() and not self._pending:
                return

    def _next(self) -> list[Record]:
        """Records to be written next; they stay pending until they are."""
        with self._lock:
            return [self._pending[index] for index in range(min(len(self._pending), MOST_AT_ONCE))]

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

    def _refused(self, fault: Exception) -> None:
        with self._lock:
            before, self._failing = self._failing, True
            self._changed.notify_all()
        if not before:
            log.error("the audit trail cannot be written; trying again", exc_info=fault)
        self._file.undo()


class _UnsignedLimit:
    """Limits the records of unsigned calls, so that a flood of them does not fill the disk."""

    def __init__(self, per_s: float) -> None:
        self._bucket = TokenBucket(per_s, max(1.0, per_s), time.monotonic())
        self._refused = 0
        self._lock = threading.Lock()

    def take(self) -> int | None:
        """Return how many calls were refused since the last accepted one; None to refuse this one."""
        with self._lock:
            if not self._bucket.take(time.monotonic()):
                self._refused += 1
                return None
            refused, self._refused = self._refused, 0
            return refused
