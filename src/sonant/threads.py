"""Threads that no fault ends unseen, and the pauses between attempts. No other module starts a thread."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Pauses before a loop that failed goes on.
PAUSE_LEAST_S, PAUSE_MOST_S = 0.1, 5.0


class Backoff:
    """Pauses that double from one failure to the next, each shortened by chance to no less than half.

    Chance keeps many that failed for one reason from trying again at the same moment.
    """

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s, self._most_s = least_s, most_s
        self._next_s = least_s

    def next_s(self) -> float:
        """The pause after one more failure, in seconds."""
        pause_s, self._next_s = self._next_s, min(self._most_s, 2 * self._next_s)
        return pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def reset(self) -> None:
        """Begin again with the shortest: it has worked."""
        self._next_s = self._least_s


def start_loop(work: Callable[[], object], name: str) -> threading.Thread:
    """Run `work` in a daemon thread until it returns; when it raises it is logged and run again.

    What `work` holds must survive that: it is called a second time on the same state. Raises RuntimeError
    when the system has no thread to give; keep the result only after that.
    """

    def run() -> None:
        pauses = Backoff(PAUSE_LEAST_S, PAUSE_MOST_S)
        while True:
            begun_s = time.monotonic()
            try:
                work()
                return
            except Exception:
                if time.monotonic() - begun_s > PAUSE_MOST_S:
                    pauses.reset()
                pause_s = pauses.next_s()
                log.exception("the thread %r failed; it goes on in %.1f s", name, pause_s)
                time.sleep(pause_s)

    return _start(run, name)


def start_once(
    work: Callable[[], object], name: str, *, failed: Callable[[Exception], object]
) -> threading.Thread:
    """Run `work` in a daemon thread; when it raises, that is logged and `failed` is called with the fault.

    `failed` must leave nobody waiting for what `work` was to do. Raises RuntimeError when the system has no
    thread to give.
    """

    def run() -> None:
        try:
            work()
        except Exception as fault:
            log.exception("the thread %r failed", name)
            failed(fault)

    return _start(run, name)


def _start(run: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
