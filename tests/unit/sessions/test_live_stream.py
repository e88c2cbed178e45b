"""A stream's mailbox: what carriers put down, and what they can wait for."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime

import numpy as np
import pytest
from waiting import PATIENCE_S

from sonant.sessions.calls import EndReason, StreamFault
from sonant.sessions.stream import ROOM_S, Stream

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def stream():
    return Stream("id#" + "A" * 22, lambda: NOW, lambda: None)


def frame(count, value=1):
    return np.full(count, value, np.int16)


def test_what_was_fed_is_taken_in_order_once(stream):
    for number in range(5):
        stream.feed(frame(160, number), 8000)
    np.testing.assert_array_equal(stream.take(), np.repeat(np.arange(5), 160))
    assert len(stream.take()) == 0
    assert stream.begun_at == NOW


def test_room_shrinks_with_what_waits_and_comes_back(stream):
    stream.feed(frame(16_000), 16000)
    assert stream.room_s == ROOM_S - 1
    stream.take()
    assert stream.room_s == ROOM_S


def test_what_does_not_fit_is_refused_whole(stream):
    stream.feed(frame(79_000), 8000)
    with pytest.raises(StreamFault):
        stream.feed(frame(1001), 8000)
    stream.feed(frame(1000), 8000)
    assert len(stream.take()) == 80_000


def test_no_samples_are_no_audio(stream):
    stream.feed(frame(0), 8000)
    assert stream.begun_at is None


def test_the_first_reason_counts_and_whoever_ends_it_is_not_told(stream):
    told: list[EndReason] = []
    stream.on_end(told.append)
    stream.end(EndReason.CALL_ENDED)
    stream.end(EndReason.MALFORMED)
    stream.stop(EndReason.IDLE)
    assert stream.reason is EndReason.CALL_ENDED
    assert told == []


def test_the_carrier_is_told_once_when_the_service_ends_it(stream):
    told: list[EndReason] = []
    stream.on_end(told.append)
    stream.stop(EndReason.IDLE)
    stream.stop(EndReason.TOO_LONG)
    stream.end(EndReason.CALL_ENDED)
    assert told == [EndReason.IDLE]


def test_a_carrier_that_fails_to_be_told_does_not_keep_the_others_from_it(stream, caplog):
    told: list[EndReason] = []

    def broken(_reason):
        raise RuntimeError

    stream.on_end(broken)
    stream.on_end(told.append)
    stream.stop(EndReason.IDLE)
    assert told == [EndReason.IDLE]
    assert "could not be told" in caplog.text


def test_it_is_drained_when_what_was_taken_is_settled(stream):
    assert stream.wait_drained(0)
    stream.feed(frame(160), 8000)
    assert not stream.wait_drained(0)
    stream.take()
    assert not stream.wait_drained(0)
    stream.settle()
    assert stream.wait_drained(0)


def test_after_its_end_it_is_drained_when_that_is_stored(stream):
    stream.end(EndReason.CALL_ENDED)
    assert not stream.wait_drained(0)
    stream.over()
    assert stream.wait_drained(0)


def test_many_may_wait_in_one_event_loop(stream):
    async def wait_all():
        stream.feed(frame(160), 8000)
        waiting = [asyncio.create_task(stream.drained()) for _ in range(100)]
        given_up = asyncio.create_task(stream.drained())
        await asyncio.sleep(0)  # all of them wait now
        assert not any(task.done() for task in waiting)
        given_up.cancel()
        stream.take()
        threading.Thread(target=stream.settle).start()
        await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_S)

    asyncio.run(wait_all())
