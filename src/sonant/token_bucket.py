"""Limit rates by token buckets."""

from __future__ import annotations


class TokenBucket:
    """A token bucket: `per_s` tokens a second flow in, up to `size`; each event takes one.

    The caller gives the time, of any clock in seconds; one that goes back adds nothing. A new bucket is full.
    Not safe for several threads. `storage.repositories.callers.take_call` does the same arithmetic in SQL.
    """

    __slots__ = ("_filled_at_s", "_per_s", "_size", "_tokens")

    def __init__(self, per_s: float, size: float, now_s: float) -> None:
        self._per_s, self._size = per_s, size
        self._tokens, self._filled_at_s = size, now_s

    def take(self, now_s: float) -> bool:
        """Take one token; return whether there was one."""
        self.add(max(0.0, now_s - self._filled_at_s) * self._per_s)
        self._filled_at_s = max(self._filled_at_s, now_s)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def add(self, tokens: float) -> None:
        """Add tokens, as far as there is room."""
        self._tokens = min(self._size, self._tokens + tokens)
