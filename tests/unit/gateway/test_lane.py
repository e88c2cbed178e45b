"""The lane: one thread that does short work, handed over in batches."""

from __future__ import annotations

import asyncio
import threading

import pytest
from waiting import PATIENCE_S, until, wait_until

from sonant.gateway.batching import BATCH, BatchingExecutor


@pytest.fixture
def lane():
    made = []

    def make(work):
        made.append(BatchingExecutor(work, "test lane"))
        return made[-1]

    yield make
    for one in made:
        if one._thread.is_alive():
            one.close()


class Gated:
    """Work that waits at its first piece until `gate` is set, and keeps what it did."""

    def __init__(self):
        self.gate, self.begun, self.seen = threading.Event(), threading.Event(), []

    def __call__(self, argument):
        self.begun.set()
        assert self.gate.wait(PATIENCE_S)
        self.seen.append((argument, threading.current_thread().name))
        return argument * 10


async def told(event):
    assert await asyncio.to_thread(event.wait, PATIENCE_S)


def test_each_caller_gets_the_result_of_its_own_argument(lane):
    squares = lane(lambda number: number * number)

    async def calls():
        return await asyncio.gather(*(squares.run(number) for number in range(500)))

    assert asyncio.run(calls()) == [number * number for number in range(500)]


def test_work_that_fails_is_told_to_its_own_caller_and_the_lane_goes_on(lane):
    divide = lane(lambda number: 12 // number)

    async def calls():
        return await asyncio.wait_for(
            asyncio.gather(*(divide.run(number) for number in (3, 0, 4)), return_exceptions=True), PATIENCE_S
        )

    for _ in range(2):
        first, failed, last = asyncio.run(calls())
        assert (first, last) == (4, 3)
        assert isinstance(failed, ZeroDivisionError)


def test_work_is_done_in_the_order_it_came_and_in_one_thread_that_is_not_the_loops(lane):
    work = Gated()
    line = lane(work)

    async def calls():
        waiting = [asyncio.ensure_future(line.run(number)) for number in range(40)]
        await asyncio.sleep(0)
        work.gate.set()
        return await asyncio.gather(*waiting)

    asyncio.run(calls())
    assert work.seen == [(number, "test lane") for number in range(40)]


def test_results_come_back_in_batches_of_at_most_sixteen(lane, monkeypatch):
    work = Gated()
    line = lane(work)
    delivered = []
    whole = line._deliver

    def deliver(done):
        delivered.append(len(done))
        whole(done)

    monkeypatch.setattr(line, "_deliver", deliver)

    async def calls():
        waiting = [asyncio.ensure_future(line.run(0))]
        await told(work.begun)
        waiting += [asyncio.ensure_future(line.run(number)) for number in range(1, 2 * BATCH + 5)]
        await asyncio.sleep(0)
        work.gate.set()
        return await asyncio.gather(*waiting)

    asyncio.run(calls())
    assert BATCH == 16
    assert delivered == [16, 16, 5]


def test_a_single_call_does_not_wait_for_others(lane):
    line = lane(lambda number: number)

    async def call():
        return await asyncio.wait_for(line.run(7), PATIENCE_S)

    assert asyncio.run(call()) == 7


def test_closing_finishes_what_was_handed_over_and_ends_the_thread(lane):
    work = Gated()
    line = lane(work)

    async def calls():
        waiting = [asyncio.ensure_future(line.run(number)) for number in range(20)]
        await told(work.begun)
        before = line._queue.qsize()
        closing = asyncio.ensure_future(asyncio.to_thread(line.close))
        await until("the end is in the queue", lambda: line._queue.qsize() > before)
        assert not closing.done()
        work.gate.set()
        await closing
        return await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_S)

    assert asyncio.run(calls()) == [number * 10 for number in range(20)]
    assert not line._thread.is_alive()


def test_a_caller_that_has_gone_hurts_nobody(lane):
    work = Gated()
    line = lane(work)

    async def calls():
        first, gone, last = (asyncio.ensure_future(line.run(number)) for number in range(3))
        await told(work.begun)
        gone.cancel()
        await asyncio.sleep(0)
        work.gate.set()
        assert await first == 0
        assert await last == 20
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await line.run(5)

    assert asyncio.run(calls()) == 50


def test_a_loop_that_closes_while_work_is_under_way_does_not_end_the_lane(lane):
    work = Gated()
    line = lane(work)

    async def leave():
        waiting = asyncio.ensure_future(line.run(1))
        await told(work.begun)
        waiting.cancel()

    asyncio.run(leave())
    work.gate.set()
    wait_until("the work is done", lambda: work.seen)

    async def call():
        return await asyncio.wait_for(line.run(2), PATIENCE_S)

    assert asyncio.run(call()) == 20
