"""Bounded pools of threads for the blocking work of one kind of request, shared fairly among its callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from sonant.errors import Throttling
from sonant.fairness import FairQueue
from sonant.threads import start_loop

P = ParamSpec("P")
T = TypeVar("T")

_Task = tuple["Future[Any]", Callable[[], Any]]


def _nothing() -> None:
    pass


class DaemonExecutor(Executor):
    """As `ThreadPoolExecutor`, but work that hangs does not keep the process from ending, what waits is
    bounded, and callers get equal shares (see `fairness`)."""

    def __init__(self, most_threads: int, name: str, *, most_waiting: int) -> None:
        """Threads are started as they are needed, and called `name` with a number. At most `most_waiting`
        tasks run or wait."""
        self._most_threads, self._name = most_threads, name
        self._queue: FairQueue[_Task] = FairQueue(most_threads, most_waiting)
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._idle = 0  # threads that wait and were not called yet
        self._callers: dict[int, Hashable] = {}  # of the tasks that run, by thread
        self._closed = False

    def submit(self, work: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> Future[T]:
        """Run `work` in a thread, for the caller "". Raises Throttling, and RuntimeError after `shutdown`."""
        return self.submit_for("", partial(work, *args, **named))

    def submit_for(self, caller: Hashable, work: Callable[[], T]) -> Future[T]:
        """Run `work` in a thread. Raises Throttling when too many tasks wait, RuntimeError after `shutdown`.

        The future of a task that was refused later, for one of another caller, gets Throttling.
        """
        future: Future[T] = Future()
        task: _Task = (future, work)
        with self._changed:
            if self._closed:
                raise RuntimeError(f"the threads {self._name!r} have been shut down")
            refused = self._queue.add(caller, task)
            if refused is task:
                raise Throttling("Rate exceeded")
            self._wake()
        if refused is not None and refused[0].set_running_or_notify_cancel():
            refused[0].set_exception(Throttling("Rate exceeded"))
        return future

    def executor_for(self, caller: Hashable) -> Executor:
        """Return these threads as an executor whose tasks are a caller's."""
        return _CallersExecutor(self, caller)

    def switch(self, caller: Hashable) -> bool:
        """Count the task of this thread for another caller, who is known only now.

        False when the caller has no thread left: the task must end, and go on when it is submitted again.
        """
        thread = threading.get_ident()
        with self._changed:
            before = self._callers.get(thread)
            if before is None or before == caller:  # not a thread of this pool: nothing is counted
                return True
            if not self._queue.switch(before, caller):
                return False
            self._callers[thread] = caller
            if self._queue.waiting:
                self._wake()
        return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads after the work that waits, or after what runs if `cancel_futures` is set."""
        with self._changed:
            self._closed = True
            if cancel_futures:
                for future, _ in self._queue.drain():
                    future.cancel()
            self._idle = 0
            self._changed.notify_all()
        if wait:
            for thread in self._threads:
                thread.join()

    def _wake(self) -> None:
        """Call a thread for a task that was added, or start one."""
        if self._idle:
            self._idle -= 1
            self._changed.notify()
        elif len(self._threads) < self._most_threads:
            self._threads.append(start_loop(self._serve, f"{self._name} {len(self._threads) + 1}"))

    def _serve(self) -> None:
        while (found := self._next_task()) is not None:
            caller, (future, work) = found
            try:
                if future.set_running_or_notify_cancel():
                    try:
                        result = work()
                    except BaseException as fault:  # noqa: BLE001 - raised again where the result is read
                        future.set_exception(fault)
                    else:
                        future.set_result(result)
                        del result
            finally:
                self._task_ended()
            del found, caller, future, work  # a thread that waits holds no result

    def _next_task(self) -> tuple[Hashable, _Task] | None:
        with self._changed:
            while (found := self._queue.next()) is None:
                if self._closed and not self._queue.waiting:
                    return None
                if not self._closed:
                    self._idle += 1
                self._changed.wait()
            self._callers[threading.get_ident()] = found[0]
            return found

    def _task_ended(self) -> None:
        with self._changed:
            self._queue.ended(self._callers.pop(threading.get_ident()))
            if self._closed:
                self._changed.notify_all()  # what waits may run in another thread now


class _CallersExecutor(Executor):
    """A pool's threads, for one caller."""

    def __init__(self, pool: DaemonExecutor, caller: Hashable) -> None:
        self._pool, self._caller = pool, caller

    def submit(self, work: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> Future[T]:
        return self._pool.submit_for(self._caller, partial(work, *args, **named))


class ThreadPool:
    """Threads of one kind of request: others cannot take them, and no caller can take them all."""

    def __init__(
        self, threads: int, name: str, *, most_waiting: int, begin: Callable[[], object] = _nothing
    ) -> None:
        """At most `most_waiting` tasks may run or wait at once. `begin` is called before each, in its
        thread."""
        self.executor = DaemonExecutor(threads, name, most_waiting=most_waiting)
        self._begin = begin

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Run `work` in a thread, for the caller "", as `run_for` does."""
        return await self.run_for("", partial(work, *args, **named))

    async def run_for(self, caller: Hashable, work: Callable[[], T]) -> T:
        """Run a caller's `work` in a thread and return its result; to be awaited on the event loop. Raises
        Throttling when too many tasks wait, and whatever `work` raises."""
        return await asyncio.wrap_future(self.executor.submit_for(caller, partial(self._run, work)))

    def switch(self, caller: Hashable) -> bool:
        """Count the task of this thread for another caller; see `DaemonExecutor.switch`."""
        return self.executor.switch(caller)

    def close(self) -> None:
        """Wait for the tasks that run and drop those that wait."""
        self.executor.shutdown(wait=True, cancel_futures=True)

    def _run(self, work: Callable[[], T]) -> T:
        self._begin()
        return work()
