"""What work costs, as a number of calls: the same on every machine, however busy."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Calls of functions in this thread by name, Python's (`read_manifest`) and C's (`posix.open`)."""
    calls: Counter[str] = Counter()
    before = sys.getprofile()

    def note(frame: FrameType, event: str, called: Any) -> None:
        if event == "call":
            calls[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            calls[f"{getattr(called, '__module__', None)}.{called.__qualname__}"] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        calls.pop("builtins.sys.setprofile", None)
        calls.pop("sys.setprofile", None)


class CountedBytes(bytes):
    """Bytes that count how many of them are copied by slices, theirs and those of what is joined to them."""

    copied = 0
    """Of all together; to be set to 0 by who looks."""

    def __getitem__(self, where: Any) -> Any:
        found = super().__getitem__(where)
        if isinstance(where, slice):
            CountedBytes.copied += len(found)
            return CountedBytes(found)
        return found

    def __radd__(self, other: bytes) -> CountedBytes:
        return CountedBytes(bytes(other) + bytes(self))
