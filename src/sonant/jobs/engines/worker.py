"""The worker process: takes tasks from a pipe, fetches one ahead, gives results back in order."""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from sonant.jobs.engines.local import DEPTH, READY
from sonant.jobs.entry import Fetch, Prepared, Role, Task, prepare
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Detector
from sonant.jobs.inspect import inspect
from sonant.settings import Audio
from sonant.voice.models import Models

log = logging.getLogger(__name__)


def work(
    pipe: Connection,
    fetch: Fetch,
    load_models: Callable[[], Models],
    detectors: Sequence[Detector],
    rules: Audio,
) -> None:
    """Serve tasks until the other end of the pipe is gone; then the process ends, whatever it was doing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the service, which ends us
    ahead: queue.Queue[tuple[Task, bytes | Exception]] = queue.Queue(DEPTH)

    def receive() -> None:
        while True:
            try:
                task: Task = pipe.recv()
            except (EOFError, OSError):
                # The runner is gone: nothing that is still computed here could be committed.
                os._exit(0)
            ahead.put((task, _first(task, fetch)))

    threading.Thread(target=receive, daemon=True).start()
    models = load_models()
    pipe.send(READY)
    while True:
        task, first = ahead.get()
        pipe.send(
            (
                task.ticket,
                _safely(task, _Prefetched(fetch, task.audio[0].s3_uri, first), models, detectors, rules),
            )
        )


def _safely(
    task: Task, fetch: Fetch, models: Models, detectors: Sequence[Detector], rules: Audio
) -> Prepared | Refusal:
    try:
        return (inspect if task.inspect else prepare)(task, fetch, models, detectors, rules)
    except Exception:
        log.exception("a request could not be processed")
        return Refusal(500, "internal failure while the recording was processed; see the service's log")


def _first(task: Task, fetch: Fetch) -> bytes | Exception:
    try:
        return fetch(task.role, task.audio[0].s3_uri)
    except Exception as fault:  # noqa: BLE001 - raised again where the task is done
        return fault


class _Prefetched:
    """Gives the first file from memory, once, and fetches the others."""

    def __init__(self, fetch: Fetch, uri: str, first: bytes | Exception) -> None:
        self._fetch, self._uri = fetch, uri
        self._first: bytes | Exception | None = first

    def __call__(self, role: Role, uri: str) -> bytes:
        if uri == self._uri and self._first is not None:
            first, self._first = self._first, None
            if isinstance(first, Exception):
                raise first
            return first
        return self._fetch(role, uri)
