"""Compute pauses between attempts."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Exponential backoff with jitter, within bounds.

    The n-th pause since the last success is drawn evenly from [`least_s` * 2^(n-1), `least_s` * 2^n], cut at
    `most_s`; at the end from the upper half below `most_s`. So processes that failed together do not try
    again together (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), and a number
    of attempts still takes a certain time at least, which jitter down to zero would not give. Not safe for
    several threads.
    """

    def __init__(
        self,
        least_s: float,
        most_s: float,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`uniform` draws a number between two bounds; tests pass an exact one."""
        self._least_s, self._most_s, self._uniform = min(least_s, most_s), most_s, uniform
        self._ceiling_s = self._least_s

    def next_s(self) -> float:
        """Return the pause after one more failure, in seconds."""
        self._ceiling_s = min(self._most_s, 2 * self._ceiling_s)
        return self._uniform(max(self._least_s, self._ceiling_s / 2), self._ceiling_s)

    def reset(self) -> None:
        """Start over with the shortest pauses after a success."""
        self._ceiling_s = self._least_s
