"""The relay between a connection and a stream: what each side may do, and that no failure spreads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from waiting import PATIENCE_S, until

from sonant.carriers.carrier import Audio, End, Open, Reply
from sonant.carriers.refusals import RefusalReason
from sonant.carriers.relay import ConnectionBounds, relay
from sonant.errors import Conflict, Throttling
from sonant.sessions.calls import Call, EndReason, StreamEnded, StreamFault
from sonant.sessions.stream import ROOM_S, Stream

CALL = Call(account_id="0" * 12, domain_id="d" * 22, session="call-1")
SESSION_ID = "id#" + "s" * 22
PATIENT = ConnectionBounds(open_s=PATIENCE_S, send_s=PATIENCE_S, drain_s=PATIENCE_S, close_s=0.2)
TEN_SECONDS = 80_000


def new_stream(kind=Stream):
    return kind(SESSION_ID, lambda: datetime(2026, 3, 1, tzinfo=UTC), lambda: None)


class Opener:
    """Opens a stream, or fails."""

    def __init__(self, stream=None, fault: Exception | None = None) -> None:
        self.stream, self.fault = stream or new_stream(), fault
        self.calls: list[Any] = []
        self.thread: threading.Thread | None = None

    def __call__(self, call):
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
        self.stalled = False

    async def receive(self):
        return await self.inbox.get()

    async def send(self, message) -> None:
        if self.stalled:
            await asyncio.Event().wait()
        self.sent.append(message)

    async def close(self, code, reason) -> None:
        self.closed = (code, reason)


class TextAdapter:
    """A protocol of the tests: `open`, n bytes of any value as n samples, `end`, `say`, `bad`, `bug`."""

    client_closes = False

    def receive(self, message):
        match message:
            case bytes():
                return [Audio(np.zeros(len(message), np.int16), 8000)]
            case "open":
                return [Open(CALL)]
            case "end":
                return [End(EndReason.CALL_ENDED)]
            case "say":
                return [Reply("said")]
            case "bad":
                raise StreamFault("that is not allowed")
            case "bug":
                raise RuntimeError("a bug")
        return []

    def opened(self, session_id):
        return [Reply(f"opened {session_id}")]

    def refused(self, message):
        return [Reply(f"refused {message}")]

    def ended(self, reason):
        last = [Reply(f"ended {reason.value}")]
        return last if self.client_closes else [*last, End(reason)]


def run(line, *, also=None, bounds=PATIENT, adapter=None, **parts):
    async def relayed():
        with ThreadPoolExecutor(1) as threads:
            beside = asyncio.create_task(also()) if also else None
            call = relay(line, adapter or TextAdapter(), threads=threads, bounds=bounds, **parts)
            reason = await asyncio.wait_for(call, PATIENCE_S)
            if beside is not None:
                await beside
            return reason

    return asyncio.run(relayed())


def processing(stream, taken):
    """Take audio as the listener does, and close the stream after its end."""

    async def process():
        while stream.end_reason is None or stream.waiting_s:
            await until("there is audio, or the end", lambda: stream.waiting_s or stream.end_reason)
            taken.append(len(stream.take()))
            stream.mark_processed()
        stream.close()

    return process


# --- how calls go


def test_call_is_relayed_from_open_to_end():
    line, opener = Line("open", b"a" * 160, b"b" * 160, "end"), Opener()
    assert run(line, open_stream=opener) == EndReason.CALL_ENDED
    assert opener.calls == [CALL]
    assert len(opener.stream.take()) == 320
    assert opener.stream.end_reason == EndReason.CALL_ENDED
    assert line.sent == [f"opened {SESSION_ID}"]
    assert line.closed == (1000, "CALL_ENDED")


def test_stream_is_opened_in_a_thread():
    opener = Opener()
    run(Line("open", "end"), open_stream=opener)
    assert opener.thread is not threading.main_thread()


def test_stream_that_is_open_already_is_reported_and_ended():
    stream, line = new_stream(), Line(b"a" * 80, EndReason.CALL_ENDED)
    assert run(line, stream=stream) == EndReason.CALL_ENDED
    assert (len(stream.take()), stream.end_reason) == (80, EndReason.CALL_ENDED)
    assert line.sent == [f"opened {SESSION_ID}"]


@pytest.mark.parametrize(
    ("message", "reason", "closed"),
    [
        ("bad", EndReason.MALFORMED, (1002, "that is not allowed")),
        ("bug", EndReason.SERVICE_STOPPED, (1011, "The service failed.")),
        (EndReason.DISCONNECTED, EndReason.DISCONNECTED, None),
        (EndReason.CALL_ENDED, EndReason.CALL_ENDED, None),
        ("open", EndReason.MALFORMED, (1002, "a second call began on one connection")),
    ],
)
def test_end_has_its_reason(message, reason, closed):
    line, opener = Line("open", message), Opener()
    assert run(line, open_stream=opener) == reason
    assert opener.stream.end_reason == reason
    assert line.closed == closed


def test_open_connection_is_a_sign_of_life():
    opener = Opener()
    assert not opener.stream.connected
    run(Line("open", "end"), open_stream=opener)
    assert opener.stream.connected


@pytest.mark.parametrize(
    ("message", "sentence"), [("bad", "that is not allowed"), ("bug", "The service failed.")]
)
def test_fault_is_told_in_the_protocol_before_the_close(message, sentence):
    line, opener = Line("open", message), Opener()
    run(line, open_stream=opener)
    assert line.sent[-1] == f"refused {sentence}"


@pytest.mark.parametrize(
    ("messages", "reason", "sentence"),
    [
        (["bad"], RefusalReason.PROTOCOL, "that is not allowed"),
        (["bug"], RefusalReason.FAILED, "The service failed."),
        (["say"], RefusalReason.NO_CALL, "No call was named in time."),
    ],
)
def test_fault_before_the_call_is_named_is_noted(messages, reason, sentence):
    noted: list[Any] = []
    bounds = replace(PATIENT, open_s=0.2)
    run(
        Line(*messages),
        open_stream=Opener(),
        bounds=bounds,
        note_refusal=lambda *refusal: noted.append(refusal),
    )
    ((found, error),) = noted
    assert (found, error.message) == (reason, sentence)


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        (["open", "bad"], None),
        (["open"], Conflict("ANOTHER_ACTIVE_STREAM")),  # the authorizer has a record of it
        ([EndReason.CALL_ENDED], None),
        ([EndReason.DISCONNECTED], None),
    ],
)
def test_other_ends_are_no_refusals_of_the_connection(messages, fault):
    noted: list[Any] = []
    run(
        Line(*messages),
        open_stream=Opener(fault=fault),
        note_refusal=lambda *refusal: noted.append(refusal),
    )
    assert noted == []


def test_call_that_gets_no_thread_is_noted_once():
    class Busy(ThreadPoolExecutor):
        def submit(self, *_arguments, **_named):
            raise Throttling("Rate exceeded")

    noted: list[Any] = []
    opener = Opener()

    async def relayed():
        with Busy(1) as threads:
            return await relay(
                line, TextAdapter(), threads=threads, open_stream=opener, bounds=PATIENT,
                note_refusal=lambda *refusal: noted.append(refusal),
            )  # fmt: skip

    line = Line("open")
    assert asyncio.run(asyncio.wait_for(relayed(), PATIENCE_S)) == EndReason.NEVER_BEGAN
    ((reason, error),) = noted
    assert (reason, error.message, opener.calls) == (RefusalReason.LIMIT, "Rate exceeded", [])
    assert line.sent == ["refused Rate exceeded"]


def test_audio_before_the_call_is_a_fault():
    line = Line(b"a")
    assert run(line, open_stream=Opener()) == EndReason.MALFORMED
    assert line.closed == (1002, "audio came before the call began")


def test_connection_that_names_no_call_is_closed_in_time():
    line = Line("say")
    assert run(line, open_stream=Opener(), bounds=replace(PATIENT, open_s=0.2)) == EndReason.NEVER_BEGAN
    assert line.closed == (1008, "No call was named in time.")


def test_refusal_is_sent_in_the_protocol_and_as_close_reason():
    line, opener = Line("open"), Opener(fault=Conflict("ANOTHER_ACTIVE_STREAM"))
    assert run(line, open_stream=opener) == EndReason.NEVER_BEGAN
    assert line.sent == ["refused The session already has an active stream."]
    assert line.closed == (1008, "The session already has an active stream.")


def test_internal_failure_at_opening_reveals_nothing():
    line, opener = Line("open"), Opener(fault=RuntimeError("secret"))
    assert run(line, open_stream=opener) == EndReason.SERVICE_STOPPED
    assert line.sent == ["refused The service failed."]
    assert line.closed == (1011, "The service failed.")


# --- the service ends the stream


def test_carrier_is_informed_at_once_when_the_service_ends_the_stream():
    line, opener = Line("open"), Opener()

    async def stop():
        await until("it is open", lambda: line.sent)
        await asyncio.to_thread(opener.stream.stop, EndReason.REQUESTED)

    assert run(line, open_stream=opener, also=stop) == EndReason.REQUESTED
    assert line.sent[-1] == "ended REQUESTED"
    assert line.closed == (1000, "REQUESTED")


def test_audio_before_the_carrier_knows_of_the_end_is_no_fault():
    class Ending(Stream):
        """Ends while audio comes; its carrier is informed a moment later."""

        def push(self, samples, rate_hz):
            threading.Timer(0.05, self.stop, [EndReason.REQUESTED]).start()
            raise StreamEnded(EndReason.REQUESTED)

    line = Line("open", b"audio")
    assert run(line, open_stream=Opener(new_stream(Ending))) == EndReason.REQUESTED
    assert line.sent[-1] == "ended REQUESTED"
    assert line.closed == (1000, "REQUESTED")


def test_carrier_whose_protocol_closes_itself_gets_time_for_it():
    line, opener, adapter = Line("open"), Opener(), TextAdapter()
    adapter.client_closes = True

    async def stop():
        await until("it is open", lambda: line.sent)
        await asyncio.to_thread(opener.stream.stop, EndReason.REQUESTED)
        await until("the end is sent", lambda: line.sent[-1] == "ended REQUESTED")
        line.inbox.put_nowait(b"late audio")
        line.inbox.put_nowait("say")
        line.inbox.put_nowait(EndReason.CALL_ENDED)

    bounds = replace(PATIENT, close_s=PATIENCE_S)
    assert run(line, open_stream=opener, adapter=adapter, also=stop, bounds=bounds) == EndReason.REQUESTED
    assert line.sent[-1] == "said"
    assert line.closed is None
    assert len(opener.stream.take()) == 0


# --- bounds


def test_carrier_that_reads_nothing_is_disconnected():
    line, opener = Line("open"), Opener()
    line.stalled = True
    assert run(line, open_stream=opener, bounds=replace(PATIENT, send_s=0.2)) == EndReason.DISCONNECTED
    assert opener.stream.end_reason == EndReason.DISCONNECTED


def test_real_time_audio_without_room_is_an_overrun():
    line = Line("open", *[bytes(TEN_SECONDS // 2)] * 3)
    assert run(line, open_stream=Opener()) == EndReason.OVERRUN
    assert line.closed is not None
    assert line.closed[0] == 1008


def test_paced_carrier_waits_for_room_and_for_the_last_audio():
    stream, taken = new_stream(), list[int]()
    line = Line(bytes(4 * TEN_SECONDS), "end")
    reason = run(line, stream=stream, paced=True, also=processing(stream, taken))
    assert reason == EndReason.CALL_ENDED
    assert (sum(taken), stream.waiting_s) == (4 * TEN_SECONDS, 0)
    assert max(taken) <= ROOM_S * 8000
    assert line.closed == (1000, "CALL_ENDED")


def test_paced_carrier_is_not_told_success_when_results_are_lost():
    stream, line = new_stream(), Line("open", "end")
    stream.results_lost = True
    also = processing(stream, [])
    assert run(line, open_stream=Opener(stream), paced=True, also=also) == EndReason.SERVICE_STOPPED
    assert line.closed == (1012, "SERVICE_STOPPED")


def no_time_passes():
    return 0.0


def test_messages_faster_than_the_bounds_are_an_overrun():
    bounds = ConnectionBounds(messages_per_s=10.0, messages_at_once=20.0)
    line = Line("open", *["say"] * 40)
    reason = run(line, open_stream=Opener(), bounds=bounds, monotonic=no_time_passes)
    assert reason == EndReason.OVERRUN
    assert line.closed == (1008, "messages come too fast")


def test_paced_audio_earns_messages_and_empty_messages_do_not():
    bounds = ConnectionBounds(messages_per_s=50.0, messages_at_once=20.0)
    how = {"paced": True, "bounds": bounds, "monotonic": no_time_passes}
    stream = new_stream()
    full_speed = Line(*[bytes(160)] * 200, "end")
    assert run(full_speed, stream=stream, also=processing(stream, []), **how) == EndReason.CALL_ENDED
    assert run(Line(*[b""] * 200, "end"), stream=new_stream(), **how) == EndReason.OVERRUN


# --- the service stops


def test_service_that_stops_reports_it_to_the_carrier():
    line, opener = Line("open"), Opener()

    async def stopped():
        with ThreadPoolExecutor(1) as threads:
            call = relay(line, TextAdapter(), threads=threads, open_stream=opener, bounds=PATIENT)
            task = asyncio.create_task(call)
            await until("it is open", lambda: line.sent)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(stopped())
    assert opener.stream.end_reason == EndReason.SERVICE_STOPPED
    assert line.sent[-1] == "ended SERVICE_STOPPED"
    assert line.closed == (1012, "SERVICE_STOPPED")


def test_stream_being_opened_when_the_service_stops_is_ended():
    gate, opening, stream = threading.Event(), threading.Event(), new_stream()

    def open_slowly(_call):
        opening.set()
        gate.wait(PATIENCE_S)
        return stream

    async def stopped():
        with ThreadPoolExecutor(1) as threads:
            call = relay(
                Line("open"), TextAdapter(), threads=threads, open_stream=open_slowly, bounds=PATIENT
            )
            task = asyncio.create_task(call)
            await until("it is being opened", opening.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.set()
            await until("it is ended", lambda: stream.end_reason)

    asyncio.run(stopped())
    assert stream.end_reason == EndReason.SERVICE_STOPPED
