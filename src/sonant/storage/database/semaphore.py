"""A semaphore that admits threads in the order of their arrival."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class FairSemaphore:
    """Admits at most `size` threads at once. A thread that leaves admits the one that has waited longest.

    With a plain lock or a queue pool, a thread that comes back at once overtakes those that are still waking
    up, again and again.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._in_use = 0
        self._queue: deque[threading.Event] = deque()
        self._mutex = threading.Lock()

    @property
    def in_use(self) -> int:
        """Number of threads that are admitted."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """Number of threads that wait."""
        return len(self._queue)

    @contextmanager
    def acquired(self, timeout_s: float) -> Iterator[None]:
        """Wait to be admitted, and leave at the end. Raises TimeoutError after `timeout_s`."""
        self._acquire(timeout_s)
        try:
            yield
        finally:
            self._release()

    def _acquire(self, timeout_s: float) -> None:
        with self._mutex:
            if self._in_use < self.size:
                self._in_use += 1
                return
            admitted = threading.Event()
            self._queue.append(admitted)
        try:
            if admitted.wait(timeout_s):
                return
        except BaseException:  # Ctrl-C in the main thread
            if self._was_admitted(admitted):
                self._release()
            raise
        if not self._was_admitted(admitted):
            raise TimeoutError

    def _was_admitted(self, admitted: threading.Event) -> bool:
        """Return whether the thread was admitted after it had stopped waiting; else leave the queue."""
        with self._mutex:
            if admitted in self._queue:
                self._queue.remove(admitted)
                return False
        return True

    def _release(self) -> None:
        with self._mutex:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._in_use -= 1
