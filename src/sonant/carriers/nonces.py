"""Nonces of signed requests: each is good for one request, as long as its signature is accepted."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime

#: Nonces that are remembered at most; at 15 s a nonce this is 6,600 connections a second.
MOST_NONCES = 100_000


class NonceCache:
    """Remembers the nonces of the last seconds. To be used by one thread."""

    def __init__(self, lifetime_s: float, most: int = MOST_NONCES) -> None:
        """`lifetime_s`: how long a request with a nonce could be accepted again."""
        self._lifetime_s, self._most = lifetime_s, most
        self._ends: OrderedDict[str, float] = OrderedDict()

    def use(self, nonce: str, now: datetime) -> bool:
        """Use a nonce of a request whose signature is right. Returns False for one that cannot be used.

        That is one that was used before, or any while the cache is full of those that still count: no nonce
        is forgotten before its time.
        """
        moment = now.timestamp()
        while self._ends and next(iter(self._ends.values())) <= moment:
            self._ends.popitem(last=False)
        if nonce in self._ends or len(self._ends) >= self._most:
            return False
        self._ends[nonce] = moment + self._lifetime_s
        return True
