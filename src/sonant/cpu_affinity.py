"""Choose the processor cores of this process's threads.

Threads of one Python process run one at a time anyway (global interpreter lock), and waking one on another
core costs more than a short call's own work. So a service whose calls are short reads keeps all its threads
on one core; the processes that it starts for long work get all cores. Live calls keep a service busy: on one
core it would wait behind a worker while another core is free, so it is released when they begin.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Field of `/proc/<thread>/stat`, counted after the name in brackets, with the core it last ran on (proc(5)).
_CORE_FIELD = 36


class CpuAffinity:
    """The cores that this process may use. Does nothing on systems without CPU affinity."""

    def __init__(self) -> None:
        self._allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else frozenset()
        self._pinned = False

    def keep_to_one(self) -> None:
        """Pin this thread, and all threads that it starts from now on, to the core that it runs on."""
        if len(self._allowed) > 1:
            os.sched_setaffinity(0, {self._current()})
            self._pinned = True

    @contextmanager
    def all(self) -> Iterator[None]:
        """Allow this thread all cores within the context; processes and threads started there keep them."""
        if not self._pinned:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._allowed)
        try:
            yield
        finally:
            if self._pinned:
                os.sched_setaffinity(0, before)

    def release(self) -> None:
        """Allow all threads of this process all cores again."""
        if not self._pinned:
            return
        self._pinned = False
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # it has ended
                os.sched_setaffinity(int(thread.name), self._allowed)

    def _current(self) -> int:
        try:
            fields = Path("/proc/thread-self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
            core = int(fields[_CORE_FIELD])
        except (OSError, ValueError, IndexError):
            core = -1
        return core if core in self._allowed else min(self._allowed)
