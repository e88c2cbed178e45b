"""The worker process: takes tasks from a pipe, fetches one ahead, gives results back in order."""

from __future__ import annotations

import logging
import os
import queue
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from sonant.jobs.entry import Fetch, Role, Task, TaskResult, prepare
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Detector
from sonant.jobs.inspect import inspect
from sonant.jobs.model_registry import Embedders, embedders
from sonant.jobs.workers.local import DEPTH, READY
from sonant.settings import Audio
from sonant.storage.model_files import ModelFiles
from sonant.threads import start_once
from sonant.voice.models import Models

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExecutor:
    """What does tasks in a process: made once there, with its inference session."""

    fetch: Fetch
    models: Models
    detectors: Sequence[Detector]
    rules: Audio
    embedder_of: Embedders | None = None
    """Finds the voice models that users have added."""

    def first(self, task: Task) -> bytes | Exception:
        """A task's first recording, or why it cannot be had: may be fetched while another is worked on."""
        return first_recording(task, self.fetch)

    def do(self, task: Task, first: bytes | Exception) -> TaskResult | Refusal:
        """Never raises: a fault of ours is told as a refusal, and written to the log."""
        uri = task.audio[0].s3_uri if task.audio else ""
        work_on = inspect if task.inspect else prepare
        fetched = _Prefetched(self.fetch, uri, first)
        try:
            return work_on(task, fetched, self.models, self.detectors, self.rules, self.embedder_of)
        except Exception:
            log.exception("a request could not be processed")
            return Refusal(500, "internal failure while the recording was processed; see the service's log")


def work(
    pipe: Connection,
    fetch: Fetch,
    load_models: Callable[[], Models],
    detectors: Sequence[Detector],
    rules: Audio,
    files: ModelFiles | None = None,
) -> None:
    """Serve tasks until the other end of the pipe is gone; then the process ends, whatever it was doing.

    `files` holds the voice models that users have added.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the service, which ends us
    ahead: queue.Queue[tuple[Task, bytes | Exception]] = queue.Queue(DEPTH)

    def receive() -> None:
        while True:
            try:
                task: Task = pipe.recv()
            except (EOFError, OSError):
                # The runner is gone: nothing that is still computed here could be committed.
                os._exit(0)
            ahead.put((task, first_recording(task, fetch)))

    # Without it no task would ever come: the engine replaces a worker that ends.
    start_once(receive, "tasks", failed=lambda _: os._exit(1))
    models = load_models()
    embedder_of = None if files is None else embedders(files, models)
    executor = TaskExecutor(
        fetch=fetch, models=models, detectors=detectors, rules=rules, embedder_of=embedder_of
    )
    pipe.send(READY)
    while True:
        task, first = ahead.get()
        pipe.send((task.task_id, executor.do(task, first)))


def first_recording(task: Task, fetch: Fetch) -> bytes | Exception:
    if not task.audio:
        return b""
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
