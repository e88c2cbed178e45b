"""How many streams a process carries at once, in all and for one account."""

from __future__ import annotations

import threading
from collections import Counter

from sonant.errors import Throttling


class ConnectionLimiter:
    """Taken and left from any thread."""

    def __init__(self, most: int, most_per_account: int) -> None:
        self._most, self._most_per_account = most, most_per_account
        self._taken = 0
        self._by_account: Counter[str] = Counter()
        self._lock = threading.Lock()

    def visit(self) -> ConnectionSlot:
        """A place for a connection of which nothing is known yet. Raises Throttling."""
        with self._lock:
            if self._taken >= self._most:
                raise Throttling(f"The service carries {self._most} streams, the most it may.")
            self._taken += 1
        return ConnectionSlot(self)

    @property
    def taken(self) -> int:
        return self._taken

    def _name(self, account_id: str) -> None:
        with self._lock:
            if self._by_account[account_id] >= self._most_per_account:
                raise Throttling(f"The account has {self._most_per_account} streams, the most it may.")
            self._by_account[account_id] += 1

    def _leave(self, account_id: str | None) -> None:
        with self._lock:
            self._taken -= 1
            if account_id is not None:
                self._by_account[account_id] -= 1
                if not self._by_account[account_id]:
                    del self._by_account[account_id]


class ConnectionSlot:
    """One connection's place; leave it with `with`."""

    def __init__(self, places: ConnectionLimiter) -> None:
        self._places = places
        self._account_id: str | None = None

    def name(self, account_id: str) -> None:
        """Whose it is, once that is known. Raises Throttling."""
        self._places._name(account_id)
        self._account_id = account_id

    def __enter__(self) -> ConnectionSlot:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._places._leave(self._account_id)
