"""Which processor cores this process works on.

Threads of one Python process take turns anyway, and waking one on another core costs more than a short call's
own work. So a service whose calls are short reads keeps all its threads on one core; the processes it starts,
which do the long work, get all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Field of `/proc/<thread>/stat` after the name in brackets that holds the core it last ran on (proc(5)).
_CORE_FIELD = 36


class CpuAffinity:
    """The cores that this process was given. Does nothing where the system has no such thing as affinity."""

    def __init__(self) -> None:
        self._given = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else frozenset()
        self._kept = False

    def keep_to_one(self) -> None:
        """From now on this thread, and every thread that it starts, runs on the core that it is on now."""
        if len(self._given) > 1:
            os.sched_setaffinity(0, {self._current()})
            self._kept = True

    @contextmanager
    def all(self) -> Iterator[None]:
        """Within, this thread may use all cores again; a process or thread started here keeps them."""
        if not self._kept:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._given)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    def _current(self) -> int:
        try:
            fields = Path("/proc/thread-self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
            core = int(fields[_CORE_FIELD])
        except (OSError, ValueError, IndexError):
            core = -1
        return core if core in self._given else min(self._given)
