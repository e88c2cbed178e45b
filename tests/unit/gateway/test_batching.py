"""The batching executor: one thread for short tasks, which are handed over and answered in batches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from waiting import PATIENCE_S, wait_until

from sonant.errors import Throttling
from sonant.gateway.batching import BATCH, BatchingExecutor

NAME = "test batches"


@pytest.fixture
def executor() -> Iterator[BatchingExecutor]:
    made = BatchingExecutor(NAME)
    yield made
    if running():
        made.close()


def running() -> bool:
    return NAME in {thread.name for thread in threading.enumerate()}


class Gated:
    """A task that waits at its first call until `gate` is set, and notes arguments and threads."""

    def __init__(self) -> None:
        self.gate, self.begun = threading.Event(), threading.Event()
        self.calls: list[tuple[int, str]] = []

    def __call__(self, number: int) -> int:
        self.begun.set()
        assert self.gate.wait(PATIENCE_S)
        self.calls.append((number, threading.current_thread().name))
        return number * 10


def submitted(executor: BatchingExecutor, work: Callable[[int], int], number: int) -> asyncio.Future[int]:
    return asyncio.ensure_future(executor.run(partial(work, number)))


async def happened(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, PATIENCE_S)


def test_each_task_returns_its_own_result(executor: BatchingExecutor) -> None:
    async def calls() -> list[int]:
        return await asyncio.gather(*(submitted(executor, lambda n: n * n, number) for number in range(500)))

    assert asyncio.run(calls()) == [number * number for number in range(500)]


def test_a_failing_task_raises_for_its_own_caller_only(executor: BatchingExecutor) -> None:
    async def calls() -> list[Any]:
        tasks = (submitted(executor, lambda n: 12 // n, number) for number in (3, 0, 4))
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S)

    for _ in range(2):
        first, failed, last = asyncio.run(calls())
        assert (first, last) == (4, 3)
        assert isinstance(failed, ZeroDivisionError)


def test_tasks_run_in_order_of_arrival_in_the_executors_thread(executor: BatchingExecutor) -> None:
    work = Gated()

    async def calls() -> None:
        waiting = [submitted(executor, work, number) for number in range(40)]
        await asyncio.sleep(0)
        work.gate.set()
        await asyncio.gather(*waiting)

    asyncio.run(calls())
    assert work.calls == [(number, NAME) for number in range(40)]


def test_results_return_in_batches_of_at_most_sixteen(
    executor: BatchingExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Gated()
    delivered: list[int] = []

    async def calls() -> None:
        loop = asyncio.get_running_loop()
        waiting = [submitted(executor, work, 0)]
        await happened(work.begun)
        waiting += [submitted(executor, work, number) for number in range(1, 2 * BATCH + 5)]
        await asyncio.sleep(0)
        deliver = loop.call_soon_threadsafe

        def count(callback: Callable[..., Any], outcomes: list[Any]) -> Any:
            delivered.append(len(outcomes))
            return deliver(callback, outcomes)

        monkeypatch.setattr(loop, "call_soon_threadsafe", count)
        work.gate.set()
        await asyncio.gather(*waiting)
        monkeypatch.undo()

    asyncio.run(calls())
    assert BATCH == 16
    assert delivered == [16, 16, 5]


def test_begin_runs_once_before_tasks_handed_over_together() -> None:
    begun: list[str] = []
    work = Gated()
    executor = BatchingExecutor(NAME, lambda: begun.append(threading.current_thread().name))

    async def calls() -> None:
        waiting = [submitted(executor, work, 0)]
        await happened(work.begun)
        waiting += [submitted(executor, work, number) for number in range(1, 4)]
        await asyncio.sleep(0)
        work.gate.set()
        await asyncio.gather(*waiting)

    asyncio.run(calls())
    executor.close()
    assert begun == [NAME, NAME]


def test_a_single_task_does_not_wait_for_others(executor: BatchingExecutor) -> None:
    async def call() -> int:
        return await asyncio.wait_for(executor.run(lambda: 7), PATIENCE_S)

    assert asyncio.run(call()) == 7


def test_closing_finishes_the_waiting_tasks_and_ends_the_thread(executor: BatchingExecutor) -> None:
    work = Gated()

    async def calls() -> list[int]:
        waiting = [submitted(executor, work, number) for number in range(20)]
        await happened(work.begun)
        closing = asyncio.ensure_future(asyncio.to_thread(executor.close))
        work.gate.set()
        await closing
        return await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_S)

    assert asyncio.run(calls()) == [number * 10 for number in range(20)]
    assert not running()


def test_a_full_queue_refuses_the_newest_task_of_whom_has_most() -> None:
    work = Gated()
    executor = BatchingExecutor(NAME, most_waiting=4)

    async def calls() -> tuple[list[Any], int]:
        greedy = [asyncio.ensure_future(executor.run_for("greedy", partial(work, one))) for one in range(6)]
        await happened(work.begun)
        honest = asyncio.ensure_future(executor.run_for("honest", partial(work, 9)))
        await asyncio.sleep(0)
        work.gate.set()
        return await asyncio.gather(*greedy, return_exceptions=True), await honest

    answers, honest = asyncio.run(calls())
    executor.close()
    assert honest == 90
    assert answers[:3] == [0, 10, 20]
    assert [isinstance(one, Throttling) for one in answers[3:]] == [True] * 3
    assert [number for number, _ in work.calls] == [0, 1, 2, 9], "what was refused is not done"


def test_a_cancelled_caller_does_not_disturb_the_others(executor: BatchingExecutor) -> None:
    work = Gated()

    async def calls() -> int:
        first, cancelled, last = (submitted(executor, work, number) for number in range(3))
        await happened(work.begun)
        cancelled.cancel()
        await asyncio.sleep(0)
        work.gate.set()
        assert await first == 0
        assert await last == 20
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        return await submitted(executor, work, 5)

    assert asyncio.run(calls()) == 50


def test_an_event_loop_that_closes_early_does_not_end_the_thread(executor: BatchingExecutor) -> None:
    work = Gated()

    async def leave() -> None:
        waiting = submitted(executor, work, 1)
        await happened(work.begun)
        waiting.cancel()

    asyncio.run(leave())
    work.gate.set()
    wait_until("the task is done", lambda: work.calls)

    async def call() -> int:
        return await asyncio.wait_for(submitted(executor, work, 2), PATIENCE_S)

    assert asyncio.run(call()) == 20
