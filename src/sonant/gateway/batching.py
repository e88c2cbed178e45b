"""One thread beside the event loop for short blocking work, handed over in batches.

Waking a thread, and the loop again, costs as much as a short call's own work. Under load the calls that came
while the thread was busy go over together, and their results come back together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, cast

from sonant.threads import start_loop

#: Results wait for no more than this many pieces of work.
BATCH = 16

A = TypeVar("A")
R = TypeVar("R")

_Piece = tuple[A, "asyncio.Future[R]"]
_Done = tuple["asyncio.Future[R]", R | None, Exception | None]


def _nothing() -> None:
    pass


class BatchingExecutor(Generic[A, R]):
    """Runs `work` for one argument after the other in a thread of its own."""

    def __init__(self, work: Callable[[A], R], name: str, begin: Callable[[], None] = _nothing) -> None:
        """`begin` runs in the thread before work on arguments that were handed over together."""
        self._work, self._begin = work, begin
        self._queue: SimpleQueue[_Piece[A, R] | None] = SimpleQueue()
        self._thread = start_loop(self._serve, name)

    async def run(self, argument: A) -> R:
        """The result for one argument, or what `work` raised; to be awaited on an event loop."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.put((argument, future))
        return await future

    def close(self) -> None:
        """Finish what was handed over and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _serve(self) -> None:
        ends = False
        while not ends and (piece := self._queue.get()) is not None:
            done: list[_Done[R]] = []
            pieces = [piece]
            ends = self._take(pieces, BATCH)
            while pieces:
                self._begin()
                done += [self._do(argument, future) for argument, future in pieces]
                pieces = []
                ends = ends or self._take(pieces, BATCH - len(done))
            self._deliver(done)

    def _do(self, argument: A, future: asyncio.Future[R]) -> _Done[R]:
        try:
            return future, self._work(argument), None
        except Exception as fault:  # noqa: BLE001 - raised again where it is waited for
            return future, None, fault

    def _take(self, pieces: list[_Piece[A, R]], most: int) -> bool:
        """Add what waits, up to `most` pieces in all; whether the end was met."""
        while len(pieces) < most:
            try:
                piece = self._queue.get_nowait()
            except Empty:
                return False
            if piece is None:
                return True
            pieces.append(piece)
        return False

    def _deliver(self, done: list[_Done[R]]) -> None:
        try:
            done[0][0].get_loop().call_soon_threadsafe(_settle, done)
        except RuntimeError:
            return  # the loop has closed: nobody waits any more


def _settle(done: list[_Done[R]]) -> None:
    for future, result, fault in done:
        if future.done():  # the client may have gone
            continue
        if fault is not None:
            future.set_exception(fault)
        else:
            future.set_result(cast(R, result))
