"""Relays one call: a connection's messages through its adapter into a stream, and replies back.

A failure of one connection ends that connection and its stream, with the reason, and affects no other.
Nothing here blocks the event loop: opening a stream, which asks the store, is done in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sonant.carriers.carrier import Adapter, Audio, Effect, End, Open, Reply
from sonant.carriers.limits import DRAIN_S
from sonant.carriers.refusals import RefusalReason
from sonant.errors import ModelledError, Validation, WireError
from sonant.sessions.calls import Call, EndReason, StreamEnded, StreamFault
from sonant.sessions.stream import Stream
from sonant.token_bucket import TokenBucket

log = logging.getLogger(__name__)

#: Opens a call's stream. Blocks. Raises ModelledError.
OpenStream = Callable[[Call], Stream]
#: Records that no stream was opened for a connection.
NoteRefusal = Callable[[RefusalReason, WireError], None]

#: Audio is pushed in pieces of this length, so that a stream needs room for no more than one of them.
PIECE_S = 0.5
#: How often the room of a full stream is looked at, in seconds.
_ROOM_POLL_S = 0.02

#: WebSocket close codes (RFC 6455, section 7.4.1); 1012 is registered for a service that restarts.
CLOSE_CODES = {
    EndReason.CALL_ENDED: 1000,
    EndReason.DISCONNECTED: 1000,
    EndReason.REQUESTED: 1000,
    EndReason.IDLE: 1000,
    EndReason.TOO_LONG: 1000,
    EndReason.NEVER_BEGAN: 1008,
    EndReason.DOMAIN_GONE: 1008,
    EndReason.OVERRUN: 1008,
    EndReason.MALFORMED: 1002,
    EndReason.SERVICE_STOPPED: 1012,
}
_INTERNAL_ERROR = 1011
#: Why a call is refused that ended before it was named; everything else violates its protocol.
_REFUSALS = {
    EndReason.NEVER_BEGAN: RefusalReason.NO_CALL,
    EndReason.SERVICE_STOPPED: RefusalReason.FAILED,
}
_MAX_REASON_BYTES = 123

_SERVICE_FAILED = "The service failed."


class Connection(Protocol):
    """What messages come over. `send` and `close` raise OSError when the other side has closed.

    A connection whose other side is gone must end within seconds (`gateway.keepalive`): while it is open, a
    call without audio is paused or on hold, and goes on.
    """

    async def receive(self) -> str | bytes | EndReason:
        """Return the next message, or why there will be none."""
        ...

    async def send(self, message: str | bytes) -> None: ...

    async def close(self, code: int, reason: str) -> None:
        """Close with a WebSocket close code and a reason."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionBounds:
    """What one connection may cost."""

    open_s: float = 20.0
    """How long it may take until the carrier names the call."""
    messages_per_s: float = 200.0
    """Messages, over time; a carrier of frames of 20 ms sends 50 a second."""
    messages_at_once: float = 1000.0
    """Messages that may come together after a silence."""
    close_s: float = 3.0
    """How long a carrier may take to close the connection after the last message to it."""
    send_s: float = 5.0
    """How long a carrier may take to read a message."""
    drain_s: float = DRAIN_S
    """How long the audio left when a paced carrier ends may take to be processed."""


async def push_in_pieces(stream: Stream, samples: NDArray[np.int16], rate_hz: int) -> None:
    """Push samples as fast as the stream has room. Raises StreamFault."""
    size = int(PIECE_S * rate_hz)
    for start in range(0, len(samples), size):
        piece = samples[start : start + size]
        while stream.room_s < len(piece) / rate_hz:
            await asyncio.sleep(_ROOM_POLL_S)
        stream.push(piece, rate_hz)


async def relay(
    connection: Connection,
    adapter: Adapter,
    *,
    threads: Executor,
    open_stream: OpenStream | None = None,
    stream: Stream | None = None,
    paced: bool = False,
    bounds: ConnectionBounds | None = None,
    note_refusal: NoteRefusal | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> EndReason:
    """Relay a call until it ends, close the connection, and return why it ended.

    The stream is `stream` if it is open already; else `open_stream` opens it when the carrier names the call.
    `paced` carriers wait while the stream has no room, and at their end until all audio is processed; for
    others audio without room is an overrun. `note_refusal` is called when the call ends by a fault before
    `open_stream` ran, which records its own. Raises nothing but CancelledError.
    """
    budget = _MessageBudget(bounds or ConnectionBounds(), monotonic)
    call = _Relay(connection, adapter, threads, open_stream, stream, paced, budget, note_refusal)
    return await call.run()


class _MessageBudget:
    """Limits the rate of messages. Audio that waits for room earns budget by its length."""

    def __init__(self, bounds: ConnectionBounds, monotonic: Callable[[], float]) -> None:
        self.bounds, self._monotonic = bounds, monotonic
        self._bucket = TokenBucket(bounds.messages_per_s, bounds.messages_at_once, monotonic())

    def take(self) -> None:
        """Spend one message. Raises StreamFault when none is left."""
        if not self._bucket.take(self._monotonic()):
            raise StreamFault("messages come too fast", EndReason.OVERRUN)

    def earn(self, seconds: float) -> None:
        """Add the messages of so many seconds."""
        self._bucket.add(seconds * self.bounds.messages_per_s)


class _Refused(Exception):
    """The stream could not be opened, and the carrier has been informed."""


class _Relay:
    def __init__(
        self,
        connection: Connection,
        adapter: Adapter,
        threads: Executor,
        open_stream: OpenStream | None,
        stream: Stream | None,
        paced: bool,
        budget: _MessageBudget,
        note_refusal: NoteRefusal | None,
    ) -> None:
        self._note_refusal = note_refusal or (lambda _reason, _error: None)
        self._connection, self._adapter, self._open_stream = connection, adapter, open_stream
        self._threads, self._paced = threads, paced
        self._budget, self._bounds = budget, budget.bounds
        self._loop = asyncio.get_running_loop()
        self._disconnected = False
        """Whether the other side has closed the connection."""
        self._refused = False
        """Whether the stream could not be opened: the carrier is informed, and there is a record."""
        self._opened: Stream | None = None
        self._ended: asyncio.Future[EndReason] = self._loop.create_future()
        """Set when the service ends the stream."""
        if stream is not None:
            self._attach(stream)

    async def run(self) -> EndReason:
        reason, message = EndReason.SERVICE_STOPPED, ""
        receiving = asyncio.create_task(self._receive_all())
        try:
            both: set[asyncio.Future[Any]] = {receiving, self._ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done() and (end := receiving.result()) is not None:
                reason, message = end
                if message and not self._refused:
                    if self._opened is not None:
                        self._opened.end(reason)
                    else:
                        self._note_refusal(_REFUSALS.get(reason, RefusalReason.PROTOCOL), Validation(message))
                    await self._send_last(lambda: self._adapter.refused(message))
            else:
                reason = await self._ended
                receiving.cancel()
                await asyncio.wait({receiving})
                await self._send_last(lambda: self._adapter.ended(reason))
        except asyncio.CancelledError:
            await self._send_last(lambda: self._adapter.ended(EndReason.SERVICE_STOPPED), wait_closed=False)
            raise
        finally:
            receiving.cancel()
            if self._opened is not None:
                self._opened.end(reason)
            await self._close(reason, message)
        return reason

    async def _receive_all(self) -> tuple[EndReason, str] | None:
        """Return why the call ended, with a sentence if the reason is not enough; None when the service ended
        it."""
        try:
            return await self._exchange(), ""
        except StreamEnded:
            return None
        except StreamFault as fault:
            return fault.reason, str(fault)
        except _Refused as refusal:
            return EndReason.NEVER_BEGAN, str(refusal)
        except TimeoutError:
            if self._opened is None:
                return EndReason.NEVER_BEGAN, "No call was named in time."
            return EndReason.DISCONNECTED, ""  # it does not read what it is sent
        except OSError:
            self._disconnected = True
            return EndReason.DISCONNECTED, ""
        except Exception:  # an internal failure must not affect other calls
            log.exception("a call failed")
            return EndReason.SERVICE_STOPPED, _SERVICE_FAILED

    async def _exchange(self) -> EndReason:
        if self._opened is not None:
            await self._perform_all(self._adapter.opened(self._opened.session_id))
        receive, adapter, budget = self._connection.receive, self._adapter, self._budget
        open_by = self._loop.time() + self._bounds.open_s
        while True:
            if self._opened is None:
                async with asyncio.timeout_at(open_by):
                    message = await receive()
            else:
                message = await receive()
            if isinstance(message, EndReason):
                self._disconnected = True
                return message
            budget.take()
            for effect in adapter.receive(message):
                if type(effect) is Audio:  # nearly always
                    if not self._paced or self._fits(effect):
                        self._stream.push(effect.samples, effect.rate_hz)
                    else:
                        await self._push_paced(effect)
                elif (reason := await self._perform(effect)) is not None:
                    return reason

    async def _perform_all(self, effects: Sequence[Effect]) -> EndReason | None:
        for effect in effects:
            if (reason := await self._perform(effect)) is not None:
                return reason
        return None

    async def _perform(self, effect: Effect) -> EndReason | None:
        """Carry out one effect; return the reason if it ends the call."""
        match effect:
            case Open(call):
                return await self._open(call)
            case Audio():
                await self._push_paced(effect)
            case Reply(message):
                async with asyncio.timeout(self._bounds.send_s):
                    await self._connection.send(message)
            case End(reason):
                if self._paced and self._opened is not None:
                    return await self._drain(self._opened, reason)
                return reason
        return None

    async def _drain(self, stream: Stream, reason: EndReason) -> EndReason:
        """End the stream and wait until its audio is processed and stored; SERVICE_STOPPED if that fails."""
        stream.end(reason)
        try:
            async with asyncio.timeout(self._bounds.drain_s):
                await stream.drained()
        except TimeoutError:
            return EndReason.SERVICE_STOPPED
        return EndReason.SERVICE_STOPPED if stream.results_lost else reason

    async def _open(self, call: Call) -> EndReason | None:
        if self._opened is not None or self._open_stream is None:
            raise StreamFault("a second call began on one connection")
        open_stream, begun = self._open_stream, False

        def open_it() -> Stream:
            nonlocal begun
            begun = True
            return open_stream(call)

        try:
            opening = self._loop.run_in_executor(self._threads, open_it)
            stream = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_end_abandoned)
            raise
        except ModelledError as error:
            message = error.message or error.code
            self._refused = True
            if not begun:  # too many calls wait for a thread
                self._note_refusal(RefusalReason.of(error), error)
            await self._send_last(lambda: self._adapter.refused(message))
            raise _Refused(message) from None
        self._attach(stream)
        return await self._perform_all(self._adapter.opened(stream.session_id))

    @property
    def _stream(self) -> Stream:
        if self._opened is None:
            raise StreamFault("audio came before the call began")
        return self._opened

    def _fits(self, audio: Audio) -> bool:
        """Whether a paced carrier's audio has room now; if so, it earns its budget."""
        seconds = len(audio.samples) / audio.rate_hz
        if seconds > PIECE_S or self._stream.room_s < seconds:
            return False
        self._budget.earn(seconds)
        return True

    async def _push_paced(self, audio: Audio) -> None:
        await push_in_pieces(self._stream, audio.samples, audio.rate_hz)
        self._budget.earn(len(audio.samples) / audio.rate_hz)

    def _attach(self, stream: Stream) -> None:
        self._opened = stream
        stream.connected = True
        stream.on_end(self._on_end)

    def _on_end(self, reason: EndReason) -> None:
        """Called from any thread."""
        with suppress(RuntimeError):  # the loop has closed: the connection is gone
            self._loop.call_soon_threadsafe(self._set_ended, reason)

    def _set_ended(self, reason: EndReason) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    async def _send_last(
        self, effects_of: Callable[[], Sequence[Effect]], *, wait_closed: bool = True
    ) -> None:
        """Send the last messages, and wait a moment for the carrier to close if its protocol leaves that to
        it."""
        try:
            effects = effects_of()
            async with asyncio.timeout(self._bounds.close_s):
                for effect in effects:
                    if isinstance(effect, Reply):
                        await self._connection.send(effect.message)
                if wait_closed and effects and not any(isinstance(effect, End) for effect in effects):
                    await self._wait_closed()
        except (TimeoutError, OSError, StreamFault):
            pass
        except Exception:
            log.exception("a carrier could not be informed of the end of a call")

    async def _wait_closed(self) -> None:
        while not isinstance(message := await self._connection.receive(), EndReason):
            self._budget.take()
            for effect in self._adapter.receive(message):
                if isinstance(effect, Reply):
                    await self._connection.send(effect.message)
                elif isinstance(effect, End):
                    return
        self._disconnected = True

    async def _close(self, reason: EndReason, message: str) -> None:
        if self._disconnected:
            return
        code = _INTERNAL_ERROR if message == _SERVICE_FAILED else CLOSE_CODES[reason]
        text = (message or reason.value).encode()[:_MAX_REASON_BYTES].decode("utf-8", "ignore")
        try:
            async with asyncio.timeout(self._bounds.send_s):
                await self._connection.close(code, text)
        except (TimeoutError, OSError):
            pass
        except Exception:
            log.exception("a connection could not be closed")


def _end_abandoned(opening: asyncio.Future[Stream]) -> None:
    """End a stream whose connection was cancelled while it was being opened."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().end(EndReason.SERVICE_STOPPED)
