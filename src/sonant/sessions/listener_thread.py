"""The thread that listens to all streams of a process. It never waits for a database or a worker."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from sonant.sessions.listener import StreamListener
from sonant.threads import start_loop
from sonant.voice.models import Models

log = logging.getLogger(__name__)

#: How often is looked whether a stream has a block of audio.
TICK_S = 0.025


class ListenerThread:
    """Methods may be called from any thread and never wait, but for `close`."""

    def __init__(self, load_models: Callable[[], Models]) -> None:
        self._load_models = load_models
        self._models: Models | None = None
        self._wake = threading.Event()
        self._posted: deque[Callable[[], None]] = deque()
        self._streams: set[StreamListener] = set()  # the thread's own
        self._closing = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, listener: StreamListener) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = start_loop(self._run, "live hearing")
        self.post(lambda: self._streams.add(listener))

    def post(self, step: Callable[[], None]) -> None:
        """Have something done in the thread, soon."""
        self._posted.append(step)
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(TICK_S if self._streams else None)
            self._wake.clear()
            while self._posted:
                _safely(self._posted.popleft())
            for listener in list(self._streams):
                if not self._step(listener):
                    self._streams.discard(listener)

    def _step(self, listener: StreamListener) -> bool:
        try:
            if self._models is None:
                self._models = self._load_models()
            return listener.step(self._models)
        except Exception:
            log.exception("live calls: session %s: internal failure", listener.place.session_id)
            _safely(listener.break_off)
            return False


def _safely(step: Callable[[], None]) -> None:
    try:
        step()
    except Exception:
        log.exception("live calls: internal failure")
