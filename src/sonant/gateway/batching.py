"""One thread for short blocking work, which it takes over in batches.

Waking a thread, and then the event loop, costs as much as a short request's own work. Under load, requests
that arrived while the thread was busy are handed over together, and their results come back together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sonant.errors import Throttling
from sonant.fairness import FairQueue
from sonant.threads import start_loop

#: Results wait for at most this many tasks.
BATCH = 16

R = TypeVar("R")

_Task = tuple[Callable[[], Any], "asyncio.Future[Any]"]
_Outcome = tuple["asyncio.Future[Any]", Any, Exception | None]

#: Tasks that may wait where nothing else is said.
MOST_WAITING = 1000


class _Dropped(Throttling):
    """The task was refused while it waited; it is not in the queue any more."""


def _nothing() -> None:
    pass


class BatchingExecutor:
    """Runs tasks in a thread of its own, in the order of their arrival.

    Tasks are so short that their order needs no shares; the queue has them: when it is full, the newest task
    of the caller with most tasks is refused (see `fairness`).
    """

    def __init__(
        self, name: str, begin: Callable[[], object] = _nothing, *, most_waiting: int = MOST_WAITING
    ) -> None:
        """Start the thread; it calls `begin` before tasks that were handed over together. At most
        `most_waiting` tasks run or wait at once."""
        self._begin = begin
        self._admitted: FairQueue[_Task] = FairQueue(1, most_waiting)  # the event loop's alone
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread = start_loop(self._serve, name)

    async def run(self, work: Callable[[], R]) -> R:
        """Run `work` for the caller "", as `run_for` does."""
        return await self.run_for("", work)

    async def run_for(self, caller: Hashable, work: Callable[[], R]) -> R:
        """Run a caller's `work` in the thread and return its result; to be awaited on the event loop. Raises
        Throttling when too many tasks wait, and whatever `work` raises."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        task: _Task = (work, future)
        refused = self._admitted.add(caller, task)
        if refused is task:
            raise Throttling("Rate exceeded")
        if refused is not None:
            refused[1].set_exception(_Dropped("Rate exceeded"))
        self._queue.put(task)
        try:
            return await future
        finally:
            if future.cancelled() or not isinstance(future.exception(), _Dropped):
                self._admitted.remove(caller, task)

    def switch(self, _caller: Hashable) -> bool:
        """Return True: the task of a thread may always go on for a caller who is known only now."""
        return True

    def close(self) -> None:
        """Finish the tasks that were handed over and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _serve(self) -> None:
        ending = False
        while not ending and (task := self._queue.get()) is not None:
            outcomes: list[_Outcome] = []
            tasks = [task]
            ending = self._add_waiting(tasks, BATCH)
            while tasks:
                self._begin()
                outcomes += [_run(work, future) for work, future in tasks]
                tasks = []
                ending = ending or self._add_waiting(tasks, BATCH - len(outcomes))
            _deliver(outcomes)

    def _add_waiting(self, tasks: list[_Task], most: int) -> bool:
        """Add waiting tasks, up to `most` in all. Returns whether the executor is to end."""
        while len(tasks) < most:
            try:
                task = self._queue.get_nowait()
            except Empty:
                return False
            if task is None:
                return True
            tasks.append(task)
        return False


def _run(work: Callable[[], Any], future: asyncio.Future[Any]) -> _Outcome:
    if future.done():  # refused or cancelled while it waited
        return future, None, None
    try:
        return future, work(), None
    except Exception as fault:  # noqa: BLE001 - raised again by `run`
        return future, None, fault


def _deliver(outcomes: list[_Outcome]) -> None:
    try:
        outcomes[0][0].get_loop().call_soon_threadsafe(_resolve, outcomes)
    except RuntimeError:
        return  # the loop has closed: nothing waits for the results any more


def _resolve(outcomes: list[_Outcome]) -> None:
    for future, result, fault in outcomes:
        if future.done():  # cancelled meanwhile
            continue
        if fault is not None:
            future.set_exception(fault)
        else:
            future.set_result(result)
