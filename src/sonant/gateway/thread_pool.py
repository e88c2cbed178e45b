"""A bounded pool of threads for the blocking work of one kind of request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from sonant.errors import Throttling

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool:
    """One kind of request cannot take the threads of another, and no queue grows without bound."""

    def __init__(self, threads: int, name: str, *, most_waiting: int) -> None:
        """`most_waiting` pieces of work may run or wait at once."""
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._most_waiting, self._waiting = most_waiting, 0

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Run `work` in a thread; to be awaited on the event loop. Raises Throttling when too much waits, and
        whatever `work` raises."""
        if self._waiting >= self._most_waiting:
            raise Throttling("Rate exceeded")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self.executor, partial(work, *args, **named)
            )
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Wait for what runs and drop what waits."""
        self.executor.shutdown(wait=True, cancel_futures=True)
