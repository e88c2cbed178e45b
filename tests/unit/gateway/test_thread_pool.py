"""Thread pools: how many tasks run and wait, what closing does, and that a hanging task blocks no exit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

import pytest
from waiting import PATIENCE_S

from sonant.errors import Throttling
from sonant.gateway.thread_pool import DaemonExecutor, ThreadPool


class Gate:
    """A task that runs until `opened` is set; `entered` counts the threads in it."""

    def __init__(self) -> None:
        self.opened, self.entered = threading.Event(), threading.Semaphore(0)
        self.threads: set[str] = set()

    def __call__(self, value: Any = None) -> Any:
        self.threads.add(threading.current_thread().name)
        self.entered.release()
        assert self.opened.wait(PATIENCE_S)
        return value


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


def test_as_many_tasks_run_at_once_as_there_are_threads(gate: Gate) -> None:
    executor = DaemonExecutor(2, "pool", most_waiting=5)
    futures = [executor.submit_for(number, partial(gate, number)) for number in range(5)]
    for _ in range(2):
        assert gate.entered.acquire(timeout=PATIENCE_S)
    assert sum(future.running() for future in futures) == 2
    gate.opened.set()
    assert [future.result(PATIENCE_S) for future in futures] == list(range(5))
    assert gate.threads == {"pool 1", "pool 2"}
    executor.shutdown()


def test_whatever_a_task_raises_reaches_its_caller_and_the_thread_lives() -> None:
    pool = ThreadPool(1, "failing", most_waiting=4)

    async def calls() -> int:
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)
        return await pool.run(lambda: 7)

    assert asyncio.run(calls()) == 7
    pool.close()


def test_tasks_beyond_the_bound_are_throttled(gate: Gate) -> None:
    pool = ThreadPool(1, "bounded", most_waiting=2)

    async def calls() -> list[Any]:
        tasks = [asyncio.ensure_future(pool.run(gate, number)) for number in range(3)]
        await asyncio.sleep(0)
        gate.opened.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    *answered, refused = asyncio.run(calls())
    assert answered == [0, 1]
    assert isinstance(refused, Throttling)
    pool.close()


def test_begin_runs_in_the_thread_before_every_task() -> None:
    begun: list[str] = []
    pool = ThreadPool(1, "begun", most_waiting=4, begin=lambda: begun.append(threading.current_thread().name))

    async def calls() -> list[int]:
        return [await pool.run(lambda: len(begun)) for _ in range(2)]

    assert asyncio.run(calls()) == [1, 2]
    assert begun == ["begun 1"] * 2
    pool.close()


def test_shutdown_cancels_waiting_tasks_and_awaits_running_ones(gate: Gate) -> None:
    executor = DaemonExecutor(1, "closing", most_waiting=2)
    running, waiting = executor.submit(gate, 1), executor.submit(gate, 2)
    assert gate.entered.acquire(timeout=PATIENCE_S)
    closing = threading.Thread(target=lambda: executor.shutdown(cancel_futures=True))
    closing.start()
    with pytest.raises(CancelledError):
        waiting.result(PATIENCE_S)
    assert not running.done()
    gate.opened.set()
    closing.join(PATIENCE_S)
    assert running.result(0) == 1
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(gate)


def test_shutdown_without_cancelling_finishes_the_waiting_tasks(gate: Gate) -> None:
    executor = DaemonExecutor(2, "finishing", most_waiting=10)
    gate.opened.set()
    futures = [executor.submit(gate, number) for number in range(10)]
    executor.shutdown()
    assert [future.result(0) for future in futures] == list(range(10))


def test_the_last_thread_is_kept_for_a_caller_without_one(gate: Gate) -> None:
    executor = DaemonExecutor(2, "fair", most_waiting=20)
    greedy = [executor.submit_for("greedy", partial(gate, number)) for number in range(10)]
    assert gate.entered.acquire(timeout=PATIENCE_S)
    honest = executor.submit_for("honest", lambda: "answered")
    assert honest.result(PATIENCE_S) == "answered"
    assert sum(future.running() for future in greedy) == 1, "the attack still holds its thread, and waits"
    gate.opened.set()
    assert [future.result(PATIENCE_S) for future in greedy] == list(range(10))
    executor.shutdown()


def test_a_full_queue_refuses_the_newest_task_of_whom_has_most(gate: Gate) -> None:
    executor = DaemonExecutor(1, "full", most_waiting=4)
    greedy = [executor.submit_for("greedy", partial(gate, number)) for number in range(4)]
    with pytest.raises(Throttling):
        executor.submit_for("greedy", gate)
    honest = executor.submit_for("honest", lambda: "answered")
    with pytest.raises(Throttling):
        greedy[3].result(PATIENCE_S)
    gate.opened.set()
    assert honest.result(PATIENCE_S) == "answered"
    assert [future.result(PATIENCE_S) for future in greedy[:3]] == [0, 1, 2]
    executor.shutdown()


def test_work_that_turns_out_to_be_a_greedy_accounts_gives_its_thread_back(gate: Gate) -> None:
    executor = DaemonExecutor(3, "switching", most_waiting=9)

    def may_go_on() -> bool:
        return executor.submit_for("address", lambda: executor.switch("account")).result(PATIENCE_S)

    found = []
    for _ in range(2):
        executor.submit_for("account", gate)
        assert gate.entered.acquire(timeout=PATIENCE_S)
        found.append(may_go_on())
    gate.opened.set()
    executor.shutdown()
    assert found == [True, False], "the last of three threads is not for an account that has two"


def test_a_process_exits_although_a_task_hangs() -> None:
    program = (
        "import threading; from sonant.gateway.thread_pool import DaemonExecutor\n"
        "begun = threading.Event()\n"
        "executor = DaemonExecutor(1, 'hanging', most_waiting=1)\n"
        "executor.submit(lambda: (begun.set(), threading.Event().wait()))\n"
        "begun.wait()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE_S)
