"""Carrying one call: messages of a connection through its adapter into a stream, and words back.

A fault of one connection ends that connection and its stream, with the reason, and reaches no other. Nothing
here blocks the event loop: opening a stream, which asks the store, is done in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sonant.carriers.adapter import Adapter, Audio, Begin, Effect, End, Reply
from sonant.carriers.parts import PIECE_S, Connection, Stream, StreamOpener, feed_in_pieces
from sonant.errors import ModelledError
from sonant.sessions.calls import Call, EndReason, StreamFault, StreamOver

log = logging.getLogger(__name__)

_FAILED = "The service failed."

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
_REASON_BYTES = 123


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one connection may cost."""

    begin_s: float = 20.0
    """How long it may take until it says which call it brings."""
    messages_per_s: float = 200.0
    """Messages, over time; a carrier of frames of 20 ms sends 50 a second."""
    messages_at_once: float = 1000.0
    """Messages that may come together after a silence."""
    last_words_s: float = 3.0
    """How long a carrier may take to close the connection when it was told the end."""
    send_s: float = 5.0
    """How long a carrier may take to read what it is sent."""
    drain_s: float = 120.0
    """How long is listened to what lies there when a paced carrier says the end."""


class _Rate:
    """Messages come no faster than the bounds say. Audio that waits for room pays for itself."""

    def __init__(self, bounds: Bounds) -> None:
        self._per_s, self._most = bounds.messages_per_s, bounds.messages_at_once
        self._left, self._then = self._most, time.monotonic()

    def take(self) -> None:
        """Raises StreamFault."""
        self._left -= 1.0
        if self._left < 0.0:
            now = time.monotonic()
            self.give(now - self._then)
            self._then = now
            if self._left < 0.0:
                raise StreamFault("messages come too fast", EndReason.OVERRUN)

    def give(self, seconds: float) -> None:
        self._left = min(self._left + seconds * self._per_s, self._most)


async def carry(
    connection: Connection,
    adapter: Adapter,
    intake: StreamOpener,
    *,
    threads: Executor,
    paced: bool = False,
    stream: Stream | None = None,
    bounds: Bounds | None = None,
) -> EndReason:
    """Carry a call until it is over, close the connection, and tell why it ended.

    `paced` carriers wait while the stream has no room, and until it has been listened to at their end; for
    all others audio without room is an overrun. `stream` is given when it was opened before the connection
    was. Raises nothing but CancelledError.
    """
    return await _Carrying(connection, adapter, intake, threads, paced, stream, bounds or Bounds()).run()


class _Refused(Exception):
    """The stream could not be opened; the carrier has been told."""


class _Carrying:
    def __init__(
        self,
        connection: Connection,
        adapter: Adapter,
        intake: StreamOpener,
        threads: Executor,
        paced: bool,
        stream: Stream | None,
        bounds: Bounds,
    ) -> None:
        self._connection, self._adapter, self._intake = connection, adapter, intake
        self._threads, self._paced, self._bounds = threads, paced, bounds
        self._loop = asyncio.get_running_loop()
        self._rate = _Rate(bounds)
        self._gone = False
        """The other side has closed the connection."""
        self._stream: Stream | None = None
        self._ended: asyncio.Future[EndReason] = self._loop.create_future()
        """Set when the service ends the stream."""
        if stream is not None:
            self._take(stream)

    async def run(self) -> EndReason:
        reason, why = EndReason.SERVICE_STOPPED, ""
        talk = asyncio.create_task(self._talk())
        try:
            both: set[asyncio.Future[Any]] = {talk, self._ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if talk.done() and (end := talk.result()) is not None:
                reason, why = end
            else:
                reason = await self._ended
                talk.cancel()
                await asyncio.wait({talk})
                await self._say(lambda: self._adapter.ended(reason))
        except asyncio.CancelledError:
            await self._say(lambda: self._adapter.ended(EndReason.SERVICE_STOPPED), linger=False)
            raise
        finally:
            talk.cancel()
            if self._stream is not None:
                self._stream.end(reason)
            await self._close(reason, why)
        return reason

    async def _talk(self) -> tuple[EndReason, str] | None:
        """Why it ended, and a sentence if there is more to say; None when the service ended it."""
        try:
            return await self._exchange(), ""
        except StreamOver:
            return None
        except StreamFault as fault:
            return fault.reason, str(fault)
        except _Refused as refusal:
            return EndReason.NEVER_BEGAN, str(refusal)
        except TimeoutError:
            if self._stream is None:
                return EndReason.NEVER_BEGAN, "No call was named in time."
            return EndReason.DISCONNECTED, ""  # it does not read what it is sent
        except OSError:
            self._gone = True
            return EndReason.DISCONNECTED, ""
        except Exception:  # a fault of ours, which must not reach other calls
            log.exception("a call could not be carried on")
            return EndReason.SERVICE_STOPPED, _FAILED

    async def _exchange(self) -> EndReason:
        if self._stream is not None:
            await self._carry_out(self._adapter.begun(self._stream.session_id))
        receive, adapter, rate = self._connection.receive, self._adapter, self._rate
        begin_by = self._loop.time() + self._bounds.begin_s
        while True:
            if self._stream is None:
                async with asyncio.timeout_at(begin_by):
                    message = await receive()
            else:
                message = await receive()
            if isinstance(message, EndReason):
                self._gone = True
                return message
            rate.take()
            for effect in adapter.receive(message):
                if type(effect) is Audio:  # nearly always
                    if not self._paced or self._fits(effect):
                        self._known.feed(effect.samples, effect.rate_hz)
                    else:
                        await self._feed_paced(effect)
                elif (reason := await self._do(effect)) is not None:
                    return reason

    async def _carry_out(self, effects: Sequence[Effect]) -> EndReason | None:
        for effect in effects:
            if (reason := await self._do(effect)) is not None:
                return reason
        return None

    async def _do(self, effect: Effect) -> EndReason | None:
        """Carry out one effect; the reason if it is the end."""
        match effect:
            case Begin(call):
                return await self._begin(call)
            case Audio():
                await self._feed_paced(effect)
            case Reply(message):
                async with asyncio.timeout(self._bounds.send_s):
                    await self._connection.send(message)
            case End(reason):
                if self._paced and self._stream is not None:
                    return await self._drained(self._stream, reason)
                return reason
        return None

    async def _drained(self, stream: Stream, reason: EndReason) -> EndReason:
        """The end, once all is listened to and stored; SERVICE_STOPPED where not all of it could be."""
        stream.end(reason)
        try:
            async with asyncio.timeout(self._bounds.drain_s):
                await stream.drained()
        except TimeoutError:
            return EndReason.SERVICE_STOPPED
        return EndReason.SERVICE_STOPPED if stream.lost else reason

    async def _begin(self, call: Call) -> EndReason | None:
        if self._stream is not None:
            raise StreamFault("a second call began on one connection")
        opening = self._loop.run_in_executor(self._threads, self._intake.open, call)
        try:
            stream = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_end_orphan)
            raise
        except ModelledError as error:
            why = error.message or error.code
            await self._say(lambda: self._adapter.refused(why))
            raise _Refused(why) from None
        except Exception:
            await self._say(lambda: self._adapter.refused(_FAILED))
            raise
        self._take(stream)
        return await self._carry_out(self._adapter.begun(stream.session_id))

    @property
    def _known(self) -> Stream:
        if self._stream is None:
            raise StreamFault("audio came before the call began")
        return self._stream

    def _fits(self, audio: Audio) -> bool:
        """Whether a paced carrier's audio needs no waiting; if so, it is paid for."""
        seconds = len(audio.samples) / audio.rate_hz
        if seconds > PIECE_S or self._known.room_s < seconds:
            return False
        self._rate.give(seconds)
        return True

    async def _feed_paced(self, audio: Audio) -> None:
        stream = self._known
        await feed_in_pieces(stream, audio.samples, audio.rate_hz)
        self._rate.give(len(audio.samples) / audio.rate_hz)

    def _take(self, stream: Stream) -> None:
        self._stream = stream
        stream.on_end(self._on_end)

    def _on_end(self, reason: EndReason) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # the loop has closed: nobody is there to be told
            self._loop.call_soon_threadsafe(self._settle, reason)

    def _settle(self, reason: EndReason) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    async def _say(self, words: Callable[[], Sequence[Effect]], *, linger: bool = True) -> None:
        """Last words, and a moment for the carrier to close, if its protocol leaves that to it."""
        try:
            effects = words()
            async with asyncio.timeout(self._bounds.last_words_s):
                for effect in effects:
                    if isinstance(effect, Reply):
                        await self._connection.send(effect.message)
                if linger and effects and not any(isinstance(effect, End) for effect in effects):
                    await self._until_closed()
        except (TimeoutError, OSError, StreamFault):
            pass
        except Exception:
            log.exception("the end of a call could not be told")

    async def _until_closed(self) -> None:
        while not isinstance(message := await self._connection.receive(), EndReason):
            self._rate.take()
            for effect in self._adapter.receive(message):
                if isinstance(effect, Reply):
                    await self._connection.send(effect.message)
                elif isinstance(effect, End):
                    return
        self._gone = True

    async def _close(self, reason: EndReason, why: str) -> None:
        if self._gone:
            return
        code = 1011 if why == _FAILED else CLOSE_CODES[reason]
        told = (why or reason.value).encode()[:_REASON_BYTES].decode("utf-8", "ignore")
        try:
            async with asyncio.timeout(self._bounds.send_s):
                await self._connection.close(code, told)
        except (TimeoutError, OSError):
            pass
        except Exception:
            log.exception("a connection could not be closed")


def _end_orphan(opening: asyncio.Future[Stream]) -> None:
    """Nobody waits any more for a stream that was being opened."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().end(EndReason.SERVICE_STOPPED)
