"""A monotonic clock that is moved by hand."""

from __future__ import annotations


class ManualClock:
    """Call it for the time, in seconds."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
