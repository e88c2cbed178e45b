"""The thread that steps the listeners of all streams of a process.

It never waits for a database or a worker.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable

from sonant.sessions.listener import Request, StreamListener
from sonant.threads import start_loop
from sonant.voice.models import Models

log = logging.getLogger(__name__)

#: How often streams are looked at for a block of audio, in seconds.
TICK_S = 0.025
#: Increment of the thread's nice value (Linux). When cores are short, calls of the API go before detection of
#: speech, and that before what the workers compute of the speech (`assembly.worker_process`).
LISTENER_NICE = 3


class ListenerThread:
    """Steps listeners. `add`, `post` and `wake` may be called from any thread and never wait."""

    def __init__(
        self, load_models: Callable[[], Models], perform: Callable[[StreamListener, Request], None]
    ) -> None:
        """`perform` carries out a listener's request elsewhere; it must not wait."""
        self._load_models, self._perform = load_models, perform
        self._models: Models | None = None
        self._wake = threading.Event()
        self._posted: deque[Callable[[], None]] = deque()
        self._listeners: set[StreamListener] = set()  # used in the thread only
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. Raises RuntimeError when the system has none to give."""
        self._thread = start_loop(self._run, "live listener")

    def add(self, listener: StreamListener) -> None:
        """Step this listener until it is finished."""
        self.post(lambda: self._listeners.add(listener))

    def post(self, task: Callable[[], None]) -> None:
        """Run `task` in the thread, soon."""
        self._posted.append(task)
        self._wake.set()

    def wake(self) -> None:
        """Step all listeners now."""
        self._wake.set()

    def close(self) -> None:
        """End the thread and wait for it."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def run_once(self) -> None:
        """Run the posted tasks and step every listener once. The thread does nothing else."""
        while self._posted:
            _run_logged(self._posted.popleft())
        for listener in list(self._listeners):
            self._step(listener)
            if listener.finished:
                self._listeners.discard(listener)

    def _run(self) -> None:
        _lower_priority()
        while not self._closing:
            self._wake.wait(TICK_S if self._listeners else None)
            self._wake.clear()
            self.run_once()

    def _step(self, listener: StreamListener) -> None:
        try:
            if self._models is None:
                self._models = self._load_models()
            listener.step(self._models)
            self._perform_requests(listener)
        except Exception:
            log.exception("live calls: session %s: internal failure", listener.key.session_id)
            listener.abort()
            _run_logged(lambda: self._perform_requests(listener))

    def _perform_requests(self, listener: StreamListener) -> None:
        for request in listener.take_requests():
            self._perform(listener, request)


def _lower_priority() -> None:
    """Run this thread at a lower priority than the process's others, however often this is called."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        nice = os.getpriority(os.PRIO_PROCESS, os.getpid()) + LISTENER_NICE
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def _run_logged(task: Callable[[], None]) -> None:
    try:
        task()
    except Exception:
        log.exception("live calls: internal failure")
