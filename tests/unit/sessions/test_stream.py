"""The queue between a carrier and the listener: audio, ends, and waiting until all is processed."""

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


def test_pushed_audio_is_taken_in_order_once(stream):
    for number in range(5):
        stream.push(frame(160, number), 8000)
    np.testing.assert_array_equal(stream.take(), np.repeat(np.arange(5), 160))
    assert len(stream.take()) == 0
    assert stream.started_at == NOW


def test_waiting_audio_takes_room_until_it_is_taken(stream):
    stream.push(frame(16_000), 16000)
    assert stream.room_s == ROOM_S - 1
    stream.take()
    assert stream.room_s == ROOM_S


def test_audio_that_does_not_fit_is_refused_whole(stream):
    stream.push(frame(79_000), 8000)
    with pytest.raises(StreamFault):
        stream.push(frame(1001), 8000)
    stream.push(frame(1000), 8000)
    assert len(stream.take()) == 80_000


def test_empty_audio_does_not_start_the_stream(stream):
    stream.push(frame(0), 8000)
    assert stream.started_at is None


def test_first_end_reason_counts_and_the_carriers_own_is_not_reported(stream):
    informed: list[EndReason] = []
    stream.on_end(informed.append)
    stream.end(EndReason.CALL_ENDED)
    stream.end(EndReason.MALFORMED)
    stream.stop(EndReason.IDLE)
    assert stream.end_reason is EndReason.CALL_ENDED
    assert informed == []


def test_carrier_is_informed_once_when_the_service_ends_it(stream):
    informed: list[EndReason] = []
    stream.on_end(informed.append)
    stream.stop(EndReason.IDLE)
    stream.stop(EndReason.TOO_LONG)
    stream.end(EndReason.CALL_ENDED)
    assert informed == [EndReason.IDLE]


def test_failing_callback_does_not_affect_others(stream, caplog):
    informed: list[EndReason] = []

    def broken(_reason):
        raise RuntimeError

    stream.on_end(broken)
    stream.on_end(informed.append)
    stream.stop(EndReason.IDLE)
    assert informed == [EndReason.IDLE]
    assert "could not be informed" in caplog.text


def test_stream_is_drained_when_taken_audio_is_processed(stream):
    assert stream.wait_drained(0)
    stream.push(frame(160), 8000)
    assert not stream.wait_drained(0)
    stream.take()
    assert not stream.wait_drained(0)
    stream.mark_processed()
    assert stream.wait_drained(0)


def test_ended_stream_is_drained_when_its_end_is_stored(stream):
    stream.end(EndReason.CALL_ENDED)
    assert not stream.wait_drained(0)
    stream.close()
    assert stream.wait_drained(0)


def test_many_waiters_in_one_event_loop(stream):
    async def wait_all():
        stream.push(frame(160), 8000)
        waiting = [asyncio.create_task(stream.drained()) for _ in range(100)]
        cancelled = asyncio.create_task(stream.drained())
        await asyncio.sleep(0)  # all of them wait now
        assert not any(task.done() for task in waiting)
        cancelled.cancel()
        stream.take()
        threading.Thread(target=stream.mark_processed).start()
        await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_S)

    asyncio.run(wait_all())
