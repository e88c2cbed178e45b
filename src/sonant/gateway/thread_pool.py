"""Bounded pools of threads for the blocking work of one kind of request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from sonant.errors import Throttling
from sonant.threads import start_loop

P = ParamSpec("P")
T = TypeVar("T")

_Task = tuple["Future[Any]", Callable[[], Any]]


def _nothing() -> None:
    pass


class DaemonExecutor(Executor):
    """As `ThreadPoolExecutor`, but work that hangs does not keep the process from ending."""

    def __init__(self, most_threads: int, name: str) -> None:
        """Threads are started as they are needed, and called `name` with a number."""
        self._most_threads, self._name = most_threads, name
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, work: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> Future[T]:
        """Run `work` in a thread. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the threads {self._name!r} have been shut down")
            self._tasks.put((future, partial(work, *args, **named)))
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._most_threads:
                self._threads.append(start_loop(self._serve, f"{self._name} {len(self._threads) + 1}"))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads after the work that waits, or after what runs if `cancel_futures` is set."""
        with self._lock:
            self._closed = True
            if cancel_futures:
                self._cancel_waiting()
            self._tasks.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _cancel_waiting(self) -> None:
        while True:
            try:
                task = self._tasks.get_nowait()
            except Empty:
                return
            if task is not None:
                task[0].cancel()

    def _serve(self) -> None:
        while (task := self._next_task()) is not None:
            future, work = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as fault:  # noqa: BLE001 - raised again where the result is read
                future.set_exception(fault)
            else:
                future.set_result(result)
            del task, future, work  # a thread that waits holds no result
        self._tasks.put(None)  # for the next thread

    def _next_task(self) -> _Task | None:
        try:
            return self._tasks.get_nowait()
        except Empty:
            self._idle.release()
            return self._tasks.get()


class ThreadPool:
    """Threads of one kind of request: others cannot take them, and no queue grows without bound."""

    def __init__(
        self, threads: int, name: str, *, most_waiting: int, begin: Callable[[], object] = _nothing
    ) -> None:
        """At most `most_waiting` tasks may run or wait at once. `begin` is called before each, in its
        thread."""
        self.executor = DaemonExecutor(threads, name)
        self._most_waiting, self._waiting = most_waiting, 0
        self._begin = begin

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Run `work` in a thread and return its result; to be awaited on the event loop. Raises Throttling
        when too many tasks wait, and whatever `work` raises."""
        if self._waiting >= self._most_waiting:
            raise Throttling("Rate exceeded")
        self._waiting += 1
        try:
            task = partial(self._run, work, *args, **named)
            return await asyncio.get_running_loop().run_in_executor(self.executor, task)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Wait for the tasks that run and drop those that wait."""
        self.executor.shutdown(wait=True, cancel_futures=True)

    def _run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        self._begin()
        return work(*args, **named)
