"""The Ray actor: one inference session on some host of the cluster. Knows nothing of Ray itself.

Calls come in numbered, and two at a time: while one task is worked on, the next one's audio is fetched.
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
from sonant.jobs.workers.parcels import Parcels, cut

log = logging.getLogger(__name__)


class Doer(Protocol):
    """What an actor does tasks with; see `worker.Hands`."""

    def first(self, task: Task) -> bytes | Exception: ...

    def do(self, task: Task, first: bytes | Exception) -> TaskResult | Refusal: ...


#: Makes a doer on the actor's host; raises SonantError when that host cannot do tasks.
Maker = Callable[..., Doer]


class Listener:
    """What passes through Ray is sealed under `key`, which the runner drew for this cluster of actors."""

    def __init__(self, key: bytes) -> None:
        self._parcels = Parcels(key)
        self._doer: Doer | None = None
        self._turn = threading.Condition()
        self._next = 0

    def place(self) -> tuple[str, int]:
        """Where the actor was put: host name, process id."""
        return platform.node(), os.getpid()

    def begin(self, version: str, sealed: bytes) -> str:
        """Get ready with a sealed (maker, arguments). Returns why this host cannot do tasks, or nothing."""
        if version != __version__:
            return f"{platform.node()} has Sonant {__version__}, the runner {version}"
        try:
            maker, arguments = self._parcels.open(sealed)
            self._doer = maker(*arguments)
        except SonantError as fault:
            return f"{platform.node()}: {fault}"
        except (ImportError, AttributeError, pickle.UnpicklingError) as fault:
            log.exception("the actor cannot begin")
            return f"{platform.node()}: {type(fault).__name__}, see the actor's log"
        return ""

    def stay(self) -> None:
        """Never returns: whoever waits for it learns of the actor's end."""
        threading.Event().wait()

    def hear(self, number: int, pieces: int, *sealed: bytes) -> tuple[bytes, ...] | bytes:
        """Do the sealed task, when its number has come; the sealed result in so many pieces."""
        try:
            task: Any = self._parcels.open(b"".join(sealed))
            assert self._doer is not None, "tasks are given to those who have said they are ready"
            first = self._doer.first(task)
            with self._turn:
                self._turn.wait_for(lambda: self._next == number)
            result = self._doer.do(task, first)
        finally:
            with self._turn:
                self._next = number + 1
                self._turn.notify_all()
        answer = self._parcels.seal(result)
        return cut(answer, pieces) if pieces > 1 else answer
