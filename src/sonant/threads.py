"""Start threads that log every exception. No other module starts a thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sonant.backoff import Backoff

log = logging.getLogger(__name__)

#: Bounds of the pauses before a failed loop is started again.
PAUSE_LEAST_S, PAUSE_MOST_S = 0.1, 5.0


def start_loop(work: Callable[[], object], name: str) -> threading.Thread:
    """Run `work` in a daemon thread until it returns; log each exception and call it again after a pause.

    `work` is then called on the state that the failed call left, which must allow that. Raises RuntimeError
    when the system cannot start a thread; keep the result only after that.
    """

    def run() -> None:
        pauses = Backoff(PAUSE_LEAST_S, PAUSE_MOST_S)
        while True:
            started_s = time.monotonic()
            try:
                work()
                return
            except Exception:
                if time.monotonic() - started_s > PAUSE_MOST_S:
                    pauses.reset()
                pause_s = pauses.next_s()
                log.exception("the thread %r failed; it goes on in %.1f s", name, pause_s)
                time.sleep(pause_s)

    return _start(run, name)


def start_once(
    work: Callable[[], object], name: str, *, failed: Callable[[Exception], object]
) -> threading.Thread:
    """Run `work` in a daemon thread; log an exception and pass it to `failed`.

    `failed` must release every thread that waits for the result of `work`. Raises RuntimeError when the
    system cannot start a thread.
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
