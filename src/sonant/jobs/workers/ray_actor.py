"""Define the Ray actor: one inference session on a host of the cluster. Does not import Ray.

Calls are numbered and come two at a time, each with one task or several: while one task is executed, the
audio of the next is fetched.
"""

from __future__ import annotations

import logging
import os
import pickle
import platform
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol

from sonant import __version__
from sonant.errors import SonantError
from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.workers.sealed_messages import MessageCipher, cut

log = logging.getLogger(__name__)

#: The beginning of an answer: how long its tasks took, in seconds.
SECONDS = "<d"


class Executor(Protocol):
    """Executes tasks; see `process.TaskExecutor`."""

    def fetch_first(self, task: Task) -> bytes | Exception: ...

    def execute(self, task: Task, first: bytes | Exception) -> TaskResult | Refusal: ...


#: Builds an executor on the actor's host. Raises SonantError when that host cannot execute tasks.
ExecutorFactory = Callable[..., Executor]


class RayWorker:
    """The actor. Messages are sealed under `key`, which the runner drew for its actors."""

    def __init__(self, key: bytes) -> None:
        self._cipher = MessageCipher(key)
        self._executor: Executor | None = None
        self._ahead = ThreadPoolExecutor(1, "fetching")
        self._turn = threading.Condition()
        self._next = 0

    def location(self) -> tuple[str, int]:
        """Return the actor's host name and process id."""
        return platform.node(), os.getpid()

    def start(self, version: str, sealed: bytes) -> str:
        """Build the executor from a sealed (factory, arguments). Returns the reason if it fails, or ""."""
        if version != __version__:
            return f"{platform.node()} has Sonant {__version__}, the runner {version}"
        try:
            factory, arguments = self._cipher.open(sealed)
            self._executor = factory(*arguments)
        except SonantError as fault:
            return f"{platform.node()}: {fault}"
        except (ImportError, AttributeError, pickle.UnpicklingError) as fault:
            log.exception("the actor cannot start")
            return f"{platform.node()}: {type(fault).__name__}, see the actor's log"
        return ""

    def wait(self) -> None:
        """Never return: the call fails when the actor ends."""
        threading.Event().wait()

    def execute(
        self, number: int, answer_pieces: int, task_pieces: tuple[int, ...], *sealed: bytes
    ) -> tuple[bytes, ...] | bytes:
        """Execute sealed tasks, in the order of the calls' numbers.

        `task_pieces` says how many of `sealed` make up each task. Returns the seconds
        that it took (SECONDS), and the sealed list of the results, in `answer_pieces` pieces.
        """
        try:
            tasks = [self._cipher.open(b"".join(pieces)) for pieces in _divided(sealed, task_pieces)]
            executor = self._executor
            assert executor is not None, "tasks are only sent to actors that are ready"
            first = executor.fetch_first(tasks[0])
            with self._turn:
                self._turn.wait_for(lambda: self._next == number)
            results, begun_s = [], time.monotonic()
            for at, task in enumerate(tasks, 1):
                ahead = self._ahead.submit(executor.fetch_first, tasks[at]) if at < len(tasks) else None
                results.append(executor.execute(task, first))
                if ahead is not None:
                    first = ahead.result()
        finally:
            with self._turn:
                self._next = number + 1
                self._turn.notify_all()
        answer = struct.pack(SECONDS, time.monotonic() - begun_s) + self._cipher.seal(results)
        return cut(answer, answer_pieces) if answer_pieces > 1 else answer


def _divided(pieces: Sequence[bytes], counts: Sequence[int]) -> Iterator[Sequence[bytes]]:
    """Divide pieces into groups of these sizes."""
    rest = iter(pieces)
    for count in counts:
        yield tuple(islice(rest, count))
