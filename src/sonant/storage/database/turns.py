"""Admission to something scarce, in the order of arrival."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Admits at most `most` threads at once; the others wait in line.

    A thread that leaves hands its turn to the one that has waited longest. With a plain lock or a queue
    pool, a thread that comes back at once overtakes those that are still waking up, again and again.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken = 0
        self._line: deque[threading.Event] = deque()
        self._mutex = threading.Lock()

    @property
    def taken(self) -> int:
        """Threads that have a turn."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Threads in line."""
        return len(self._line)

    @contextmanager
    def held(self, wait_s: float) -> Iterator[None]:
        """Raises TimeoutError when no turn came within `wait_s`."""
        self._take(wait_s)
        try:
            yield
        finally:
            self._leave()

    def _take(self, wait_s: float) -> None:
        with self._mutex:
            if self._taken < self.most:
                self._taken += 1
                return
            called = threading.Event()
            self._line.append(called)
        try:
            if called.wait(wait_s):
                return
        except BaseException:  # Ctrl-C in the main thread
            self._step_out(called, leave=True)
            raise
        if not self._step_out(called, leave=False):
            raise TimeoutError

    def _step_out(self, called: threading.Event, *, leave: bool) -> bool:
        """Leave the line. True when the turn was handed over meanwhile; with `leave` it is handed on."""
        with self._mutex:
            if called in self._line:
                self._line.remove(called)
                return False
        if leave:
            self._leave()
        return True

    def _leave(self) -> None:
        with self._mutex:
            if self._line:
                self._line.popleft().set()
            else:
                self._taken -= 1
