"""Carrying a call between a connection and a stream: what each side may do, and what never hurts another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from waiting import PATIENCE_S, until

from sonant.carriers import connection
from sonant.carriers.adapter import Audio, Begin, End, Reply
from sonant.carriers.connection import Bounds, carry
from sonant.errors import Conflict
from sonant.sessions.calls import Call, EndReason, StreamFault, StreamOver

CALL = Call(account_id="0" * 12, domain_id="d" * 22, session="call-1")
PATIENT = Bounds(begin_s=PATIENCE_S, send_s=PATIENCE_S, drain_s=PATIENCE_S, last_words_s=0.2)


class MemoryStream:
    """Keeps what it is fed; `room` is all it takes, in seconds."""

    session_id = "id#" + "s" * 22
    lost = False

    def __init__(self, room_s: float = 10.0) -> None:
        self.most_s, self.held, self.fed = room_s, 0, 0
        self.reasons: list[EndReason] = []
        self.heard_s = self.net_speech_s = 0.0
        self._call_backs: list[Callable[[EndReason], None]] = []

    @property
    def room_s(self) -> float:
        return self.most_s - self.held / 8000

    def feed(self, samples, rate_hz) -> None:
        if len(samples) / rate_hz > self.room_s:
            raise StreamFault("too much", EndReason.OVERRUN)
        self.held += len(samples)
        self.fed += len(samples)

    def listen(self) -> None:
        self.held = 0

    def end(self, reason) -> None:
        self.reasons.append(reason)

    def on_end(self, call_back) -> None:
        self._call_backs.append(call_back)

    def stop(self, reason) -> None:
        """As the real one does: from a thread of its own."""
        thread = threading.Thread(target=lambda: [tell(reason) for tell in self._call_backs])
        thread.start()
        thread.join()

    async def drained(self) -> None:
        await until("it is listened to", lambda: not self.held)


class MemoryIntake:
    def __init__(self, stream=None, fault: Exception | None = None) -> None:
        self.stream, self.fault = stream or MemoryStream(), fault
        self.calls: list[Any] = []
        self.thread: threading.Thread | None = None

    def open(self, call):
        self.calls.append(call)
        self.thread = threading.current_thread()
        if self.fault is not None:
            raise self.fault
        return self.stream


class Line:
    """A connection whose other side is the test."""

    def __init__(self, *messages) -> None:
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        for message in messages:
            self.inbox.put_nowait(message)
        self.sent: list[Any] = []
        self.closed: tuple[Any, Any] | None = None
        self.deaf = False

    async def receive(self):
        return await self.inbox.get()

    async def send(self, message) -> None:
        if self.deaf:
            await asyncio.Event().wait()
        self.sent.append(message)

    async def close(self, code, reason) -> None:
        self.closed = (code, reason)


class Words:
    """A protocol of the tests: `begin`, bytes of mu-law length n as n samples, `end`, `say`, `bad`, `bug`."""

    closes_itself = False

    def receive(self, message):
        match message:
            case bytes():
                return [Audio(np.zeros(len(message), np.int16), 8000)]
            case "begin":
                return [Begin(CALL)]
            case "end":
                return [End(EndReason.CALL_ENDED)]
            case "say":
                return [Reply("said")]
            case "bad":
                raise StreamFault("that is not allowed")
            case "bug":
                raise RuntimeError("a bug")
        return []

    def begun(self, session_id):
        return [Reply(f"begun {session_id}")]

    def refused(self, why):
        return [Reply(f"refused {why}")]

    def ended(self, reason):
        words = [Reply(f"ended {reason.value}")]
        return words if self.closes_itself else [*words, End(reason)]


def run(line, intake, adapter=None, *, paced=False, stream=None, also=None, bounds=PATIENT):
    async def carried():
        with ThreadPoolExecutor(1) as threads:
            beside = asyncio.create_task(also()) if also else None
            reason = await asyncio.wait_for(
                carry(
                    line,
                    adapter or Words(),
                    intake,
                    threads=threads,
                    paced=paced,
                    stream=stream,
                    bounds=bounds,
                ),
                PATIENCE_S,
            )
            if beside is not None:
                await beside
            return reason

    return asyncio.run(carried())


def test_a_call_goes_from_its_beginning_through_its_audio_to_its_end():
    line, intake = Line("begin", b"a" * 160, b"b" * 160, "end"), MemoryIntake()
    assert run(line, intake) == EndReason.CALL_ENDED
    assert intake.calls == [CALL]
    assert intake.stream.fed == 320
    assert intake.stream.reasons == [EndReason.CALL_ENDED]
    assert line.sent == [f"begun {MemoryStream.session_id}"]
    assert line.closed == (1000, "CALL_ENDED")


def test_streams_are_opened_in_a_thread():
    intake = MemoryIntake()
    run(Line("begin", "end"), intake)
    assert intake.thread is not threading.main_thread()


def test_a_stream_that_was_open_before_is_greeted_and_ended():
    stream, line = MemoryStream(), Line(b"a" * 80, EndReason.CALL_ENDED)
    assert run(line, MemoryIntake(), stream=stream) == EndReason.CALL_ENDED
    assert (stream.fed, stream.reasons) == (80, [EndReason.CALL_ENDED])
    assert line.sent == [f"begun {MemoryStream.session_id}"]


@pytest.mark.parametrize(
    ("message", "reason", "closed"),
    [
        ("bad", EndReason.MALFORMED, (1002, "that is not allowed")),
        ("bug", EndReason.SERVICE_STOPPED, (1011, "The service failed.")),
        (EndReason.DISCONNECTED, EndReason.DISCONNECTED, None),
        (EndReason.CALL_ENDED, EndReason.CALL_ENDED, None),
        ("begin", EndReason.MALFORMED, (1002, "a second call began on one connection")),
    ],
)
def test_every_end_has_its_reason(message, reason, closed):
    line, intake = Line("begin", message), MemoryIntake()
    assert run(line, intake) == reason
    assert intake.stream.reasons == [reason]
    assert line.closed == closed


def test_audio_before_the_beginning_is_a_fault():
    line = Line(b"a")
    assert run(line, MemoryIntake()) == EndReason.MALFORMED
    assert line.closed == (1002, "audio came before the call began")


def test_a_connection_that_names_no_call_is_closed_in_time():
    line = Line("say")
    assert run(line, MemoryIntake(), bounds=replace(PATIENT, begin_s=0.2)) == EndReason.NEVER_BEGAN
    assert line.closed == (1008, "No call was named in time.")


def test_a_refusal_is_told_in_the_carriers_words_and_in_the_close_code():
    line = Line("begin")
    assert run(line, MemoryIntake(fault=Conflict("ANOTHER_ACTIVE_STREAM"))) == EndReason.NEVER_BEGAN
    assert line.sent == ["refused The session already has an active stream."]
    assert line.closed == (1008, "The session already has an active stream.")


def test_a_fault_of_ours_at_the_opening_says_no_more_than_that():
    line = Line("begin")
    assert run(line, MemoryIntake(fault=RuntimeError("secret"))) == EndReason.SERVICE_STOPPED
    assert line.sent == ["refused The service failed."]
    assert line.closed == (1011, "The service failed.")


def test_when_the_service_ends_the_stream_the_carrier_is_told_at_once():
    line, intake = Line("begin"), MemoryIntake()

    async def stop():
        await until("it has begun", lambda: line.sent)
        intake.stream.stop(EndReason.REQUESTED)

    assert run(line, intake, also=stop) == EndReason.REQUESTED
    assert line.sent[-1] == "ended REQUESTED"
    assert line.closed == (1000, "REQUESTED")


def test_audio_that_comes_before_the_news_of_the_end_is_no_fault_of_the_carriers():
    class Ending(MemoryStream):
        """Ends while audio comes; its carrier hears of it a moment later."""

        def feed(self, samples, rate_hz):
            threading.Timer(0.05, self.stop, [EndReason.REQUESTED]).start()
            raise StreamOver(EndReason.REQUESTED)

    line = Line("begin", b"audio")
    assert run(line, MemoryIntake(Ending())) == EndReason.REQUESTED
    assert line.sent[-1] == "ended REQUESTED"
    assert line.closed == (1000, "REQUESTED")


def test_a_carrier_whose_protocol_closes_itself_gets_a_moment_for_it():
    line, intake, adapter = Line("begin"), MemoryIntake(), Words()
    adapter.closes_itself = True

    async def stop():
        await until("it has begun", lambda: line.sent)
        intake.stream.stop(EndReason.REQUESTED)
        await until("the end is told", lambda: line.sent[-1] == "ended REQUESTED")
        line.inbox.put_nowait(b"late audio")
        line.inbox.put_nowait("say")
        line.inbox.put_nowait(EndReason.CALL_ENDED)

    bounds = replace(PATIENT, last_words_s=PATIENCE_S)
    assert run(line, intake, adapter, also=stop, bounds=bounds) == EndReason.REQUESTED
    assert line.sent[-1] == "said"
    assert line.closed is None
    assert intake.stream.fed == 0


def test_a_carrier_that_reads_nothing_is_given_up():
    line, intake = Line("begin"), MemoryIntake()
    line.deaf = True
    assert run(line, intake, bounds=replace(PATIENT, send_s=0.2)) == EndReason.DISCONNECTED
    assert intake.stream.reasons == [EndReason.DISCONNECTED]


def test_real_time_audio_without_room_is_an_overrun():
    intake = MemoryIntake(MemoryStream(room_s=1.0))
    line = Line("begin", *[bytes(4000)] * 3)
    assert run(line, intake) == EndReason.OVERRUN
    assert line.closed == (1008, "too much")


def test_a_paced_carrier_waits_for_room_and_at_its_end_until_all_is_listened_to():
    stream = MemoryStream(room_s=1.0)
    line = Line(bytes(32000), "end")

    async def listen():
        while not stream.reasons or stream.held:
            await until("there is audio, or the end", lambda: stream.held or stream.reasons)
            assert stream.held <= 8000
            stream.listen()

    assert run(line, MemoryIntake(), paced=True, stream=stream, also=listen) == EndReason.CALL_ENDED
    assert (stream.fed, stream.held) == (32000, 0)
    assert line.closed == (1000, "CALL_ENDED")


def test_a_paced_carrier_is_not_told_that_all_is_well_when_something_was_lost():
    stream, line = MemoryStream(), Line("begin", "end")
    stream.lost = True
    assert run(line, MemoryIntake(stream), paced=True) == EndReason.SERVICE_STOPPED
    assert line.closed == (1012, "SERVICE_STOPPED")


@pytest.fixture
def still(monkeypatch):
    """No time passes by the clock that messages are measured by."""
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: 0.0))


def test_messages_come_no_faster_than_the_bounds_say(still):
    bounds = Bounds(messages_per_s=10.0, messages_at_once=20.0)
    line = Line("begin", *["say"] * 40)
    assert run(line, MemoryIntake(), bounds=bounds) == EndReason.OVERRUN
    assert line.closed == (1008, "messages come too fast")


def test_paced_audio_pays_for_its_messages_and_empty_ones_do_not(still):
    bounds = Bounds(messages_per_s=50.0, messages_at_once=20.0)
    full_speed = Line(*[bytes(160)] * 200, "end")
    stream = MemoryStream(room_s=1000.0)

    async def listen():
        await until("the end is said", lambda: stream.reasons)
        stream.listen()

    assert run(full_speed, MemoryIntake(), paced=True, stream=stream, bounds=bounds, also=listen) == (
        EndReason.CALL_ENDED
    )
    empty = Line(*[b""] * 200, "end")
    assert run(empty, MemoryIntake(), paced=True, stream=MemoryStream(), bounds=bounds) == EndReason.OVERRUN


def test_a_service_that_stops_ends_the_call_truthfully():
    line, intake = Line("begin"), MemoryIntake()

    async def stopped():
        with ThreadPoolExecutor(1) as threads:
            task = asyncio.create_task(carry(line, Words(), intake, threads=threads, bounds=PATIENT))
            await until("it has begun", lambda: line.sent)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(stopped())
    assert intake.stream.reasons == [EndReason.SERVICE_STOPPED]
    assert line.sent[-1] == "ended SERVICE_STOPPED"
    assert line.closed == (1012, "SERVICE_STOPPED")


def test_a_stream_that_was_being_opened_when_the_service_stopped_is_not_left_open():
    gate, opening = threading.Event(), threading.Event()
    stream = MemoryStream()

    class Slow(MemoryIntake):
        def open(self, call):
            opening.set()
            gate.wait(PATIENCE_S)
            return stream

    async def stopped():
        with ThreadPoolExecutor(1) as threads:
            task = asyncio.create_task(carry(Line("begin"), Words(), Slow(), threads=threads, bounds=PATIENT))
            await until("it is being opened", opening.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.set()
            await until("it is ended", lambda: stream.reasons)

    asyncio.run(stopped())
    assert stream.reasons == [EndReason.SERVICE_STOPPED]
