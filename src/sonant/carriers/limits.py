"""Limits the streams of a process, and the recordings in its memory, in all and for each account."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack

from sonant.errors import Throttling
from sonant.fairness import FairSlots

#: Uploaded recordings held in memory at once, each up to `audio.max_file_bytes`; one account has all but one.
MAX_RECORDINGS = 4
#: How long the audio left at the end of a stream may take to be processed, in seconds. 200 calls that begin
#: together keep two cores busy for two to four minutes; none of them has failed for that.
DRAIN_S = 600.0


class ConnectionLimiter:
    """Counts connections. Methods may be called from any thread."""

    def __init__(self, most: int, most_per_account: int) -> None:
        self._most, self._most_per_account = most, most_per_account
        self.recordings = FairSlots(
            MAX_RECORDINGS, "The service processes as many uploaded recordings as it may."
        )
        """Uploaded recordings in memory."""
        self._in_use = 0
        self._by_account: Counter[str] = Counter()
        self._lock = threading.Lock()

    def acquire(self) -> ConnectionSlot:
        """Take a slot for a connection whose account is not known yet. Raises Throttling."""
        with self._lock:
            if self._in_use >= self._most:
                raise Throttling(f"The service carries {self._most} streams, the most it may.")
            self._in_use += 1
        return ConnectionSlot(self)

    @property
    def in_use(self) -> int:
        """How many slots are taken."""
        return self._in_use

    def assign(self, account_id: str) -> None:
        """Count a slot for an account. Raises Throttling."""
        with self._lock:
            if self._by_account[account_id] >= self._most_per_account:
                raise Throttling(f"The account has {self._most_per_account} streams, the most it may.")
            self._by_account[account_id] += 1

    def release(self, account_id: str | None) -> None:
        """Free a slot and, if it was assigned, its account's count."""
        with self._lock:
            self._in_use -= 1
            if account_id is not None:
                self._by_account[account_id] -= 1
                if not self._by_account[account_id]:
                    del self._by_account[account_id]


class ConnectionSlot:
    """One connection's slot, a context manager that frees it."""

    def __init__(self, limiter: ConnectionLimiter) -> None:
        self._limiter = limiter
        self._account_id: str | None = None
        self._lock, self._left = threading.Lock(), False
        self._recording = ExitStack()

    def assign(self, account_id: str, *, recording: bool = False) -> None:
        """Set the account, once it is known; `recording` takes room for one in memory, too. Raises
        Throttling, also when the connection was left meanwhile."""
        with self._lock:
            if self._left:
                raise Throttling("The connection has ended.")
            self._limiter.assign(account_id)
            self._account_id = account_id
            if recording:
                self._recording.enter_context(self._limiter.recordings.held(account_id))

    def __enter__(self) -> ConnectionSlot:
        return self

    def __exit__(self, *_fault: object) -> None:
        with self._lock:
            self._left = True
            self._recording.close()
            self._limiter.release(self._account_id)
