"""Define the Ray actor: one inference session on a host of the cluster. Does not import Ray.

Calls are numbered and come two at a time: while one task is executed, the audio of the next is fetched.
"""

from __future__ import annotations

import logging
import os
import pickle
import platform
import threading
from collections.abc import Callable
from typing import Any, Protocol

from sonant import __version__
from sonant.errors import SonantError
from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.workers.sealed_messages import MessageCipher, cut

log = logging.getLogger(__name__)


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

    def execute(self, number: int, pieces: int, *sealed: bytes) -> tuple[bytes, ...] | bytes:
        """Execute a sealed task in the order of numbers. Returns the sealed result in `pieces` pieces."""
        try:
            task: Any = self._cipher.open(b"".join(sealed))
            assert self._executor is not None, "tasks are only sent to actors that are ready"
            first = self._executor.fetch_first(task)
            with self._turn:
                self._turn.wait_for(lambda: self._next == number)
            result = self._executor.execute(task, first)
        finally:
            with self._turn:
                self._next = number + 1
                self._turn.notify_all()
        answer = self._cipher.seal(result)
        return cut(answer, pieces) if pieces > 1 else answer
