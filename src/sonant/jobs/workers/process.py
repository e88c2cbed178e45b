"""Run a worker process: take tasks from a pipe, fetch ahead, return results in order."""

from __future__ import annotations

import logging
import os
import queue
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import NamedTuple

from sonant.jobs.entry import Fetch, Role, Task, TaskResult, prepare
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Detector
from sonant.jobs.inspect import inspect
from sonant.jobs.model_registry import Embedders, embedders
from sonant.jobs.work_time import work_time_since
from sonant.jobs.workers.engines.local import DEPTH, READY, Answers
from sonant.settings import Audio
from sonant.storage.model_files import ModelFiles
from sonant.threads import start_once
from sonant.voice.models import Models

log = logging.getLogger(__name__)

#: The longest that an answer waits for others of its message.
ANSWER_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExecutor:
    """Executes tasks in a process. Built once there, with its inference session."""

    fetch: Fetch
    models: Models
    detectors: Sequence[Detector]
    rules: Audio
    embedder_of: Embedders | None = None
    """Finds the voice models that users have added."""

    def fetch_first(self, task: Task) -> bytes | Exception:
        """Fetch a task's first recording, or the reason why that fails, while another task is in work."""
        return first_recording(task, self.fetch)

    def execute(self, task: Task, first: bytes | Exception) -> TaskResult | Refusal:
        """Execute a task. Never raises: a bug becomes a refusal and a line in the log."""
        if not task.measure:
            return self._execute(task, first)
        started_ns = time.time_ns()
        result = self._execute(task, first)
        return replace(result, worked=work_time_since(started_ns))

    def _execute(self, task: Task, first: bytes | Exception) -> TaskResult | Refusal:
        uri = task.audio[0].s3_uri if task.audio else ""
        process = inspect if task.inspect else prepare
        fetched = _Prefetched(self.fetch, uri, first)
        try:
            return process(task, fetched, self.models, self.detectors, self.rules, self.embedder_of)
        except Exception:
            log.exception("a request could not be processed")
            return Refusal(500, "internal failure while the recording was processed; see the service's log")


def serve_tasks(
    pipe: Connection,
    fetch: Fetch,
    load_models: Callable[[], Models],
    detectors: Sequence[Detector],
    rules: Audio,
    files: ModelFiles | None = None,
) -> None:
    """Serve tasks until the other end of the pipe is closed; then end the process at once.

    `files` holds the voice models that users have added.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C in a terminal is for the service, which ends this process
    ahead: queue.Queue[_Fetched] = queue.Queue(DEPTH)

    def receive() -> None:
        while True:
            try:
                tasks: tuple[Task, ...] = pipe.recv()
            except (EOFError, OSError):
                # The runner has ended: no result could be committed any more.
                os._exit(0)
            for task in tasks:
                ahead.put(_Fetched(task, first_recording(task, fetch), last=task is tasks[-1]))

    # Without this thread no task would arrive: the engine replaces a worker that ends.
    start_once(receive, "tasks", failed=lambda _: os._exit(1))
    models = load_models()
    embedder_of = None if files is None else embedders(files, models)
    executor = TaskExecutor(
        fetch=fetch, models=models, detectors=detectors, rules=rules, embedder_of=embedder_of
    )
    pipe.send(READY)
    results: list[tuple[int, TaskResult | Refusal]] = []
    seconds = 0.0
    while True:
        one = ahead.get()
        begun_s = time.monotonic()
        results.append((one.task.task_id, executor.execute(one.task, one.first)))
        seconds += time.monotonic() - begun_s
        if one.last or seconds >= ANSWER_S:
            pipe.send(Answers(results, seconds))
            results, seconds = [], 0.0


class _Fetched(NamedTuple):
    """A task with its first recording."""

    task: Task
    first: bytes | Exception
    last: bool
    """Whether it is the last of its message."""


def first_recording(task: Task, fetch: Fetch) -> bytes | Exception:
    if not task.audio:
        return b""
    try:
        return fetch(task.role, task.audio[0].s3_uri)
    except Exception as fault:  # noqa: BLE001 - raised again where the task is executed
        return fault


class _Prefetched:
    """Returns the first file from memory, once, and fetches the others."""

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
