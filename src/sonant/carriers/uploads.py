"""A call's audio as the body of a POST, at any speed: taken in as fast as it can be listened to.

Bare samples are listened to as they come. Recordings in a container are read whole first, no larger than
those of jobs, and decoded in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from email.message import Message as MimeMessage
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.types import Receive

from sonant.carriers.authorizer import OpenedStream
from sonant.carriers.encoding import decoder, one_channel
from sonant.carriers.own import RATES_HZ, AudioForm
from sonant.carriers.parts import Stream, feed_in_pieces
from sonant.carriers.request import UNSIGNED, StreamRequest, declared_hash
from sonant.errors import AudioError, BodyTooLarge, InternalServer, InvalidSignature, Throttling, Validation
from sonant.sessions.calls import EndReason, StreamFault, StreamOver
from sonant.settings import Audio, Settings
from sonant.voice.audio.readers import MEDIA_TYPES
from sonant.voice.audio.recording import RATE_HZ, Recording
from sonant.voice.audio.samples import int16_from_float

#: Media types of bare samples: encoding, and the rate if the type alone fixes it. (RFC 2586, 3551, 4856:
#: L16 is big-endian, `basic` is mu-law at 8 kHz.)
BARE = {
    "audio/l16": ("pcm_s16be", None),
    "audio/basic": ("mulaw", 8000),
    "audio/pcmu": ("mulaw", 8000),
    "audio/x-mulaw": ("mulaw", 8000),
    "audio/mulaw": ("mulaw", 8000),
    "audio/pcma": ("alaw", 8000),
    "audio/x-alaw": ("alaw", 8000),
    "audio/alaw": ("alaw", 8000),
}
#: Media types of recordings whose bytes say what they are.
CONTAINERS = MEDIA_TYPES | {"application/octet-stream"}
#: Recordings held in memory at once, each up to `audio.max_file_bytes`.
MOST_RECORDINGS = 4
_MOST_TYPE_BYTES = 200
#: How long may be listened to what lies there at the end of a body.
_DRAIN_S = 120.0


class Upload:
    """Takes one upload in, and answers when all of it was listened to."""

    recordings = 0
    """Held in memory now, by all uploads of the process."""

    def __init__(
        self,
        open_stream: Callable[[StreamRequest, bytes], Awaitable[OpenedStream]],
        settings: Settings,
        threads: Executor,
    ) -> None:
        self._open, self._settings, self._threads = open_stream, settings, threads

    async def take(self, request: StreamRequest, receive: Receive) -> bytes:
        """The answer, as JSON. Raises WireError."""
        declared = declared_hash(request)
        form = form_of(request.header(b"content-type"))
        if request.parameters().keys() & {"Encoding", "SampleRate"}:
            raise Validation("Encoding and SampleRate are for WebSockets: the Content-Type says them here.")
        body = _Body(receive, declared, self._settings)
        if form is not None:
            return await self._carry(await self._open(request, declared), form, body)
        if Upload.recordings >= MOST_RECORDINGS:
            raise Throttling("The service takes in as many recordings as it may.")
        Upload.recordings += 1
        try:
            return await self._carry(await self._open(request, declared), None, body)
        finally:
            Upload.recordings -= 1

    async def _carry(self, begun: OpenedStream, form: AudioForm | None, body: _Body) -> bytes:
        stream, reason = begun.stream, EndReason.DISCONNECTED
        ended: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
        stream.on_end(_teller(ended))
        taking = asyncio.create_task(self._take_in(begun, form, body))
        try:
            both: set[asyncio.Future[Any]] = {taking, ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                reason = ended.result()
                raise _refusal(reason)
            taking.result()
            reason = EndReason.CALL_ENDED
            return orjson.dumps(
                {
                    "SessionId": stream.session_id,
                    "HeardSeconds": round(stream.heard_s, 3),
                    "NetSpeechSeconds": round(stream.net_speech_s, 3),
                }
            )
        except StreamOver as over:
            reason = over.reason
            raise _refusal(reason) from None
        except StreamFault as fault:
            reason = fault.reason
            raise Validation(f"{str(fault)[:1].upper()}{str(fault)[1:]}.") from None
        except AudioError as fault:
            reason = EndReason.MALFORMED
            raise Validation(f"The recording {fault}") from None
        except (Validation, InvalidSignature, BodyTooLarge):
            reason = EndReason.MALFORMED
            raise
        except TimeoutError:
            raise InternalServer from None
        except asyncio.CancelledError:
            reason = EndReason.SERVICE_STOPPED
            raise
        finally:
            taking.cancel()
            stream.end(reason)

    async def _take_in(self, begun: OpenedStream, form: AudioForm | None, body: _Body) -> None:
        stream = begun.stream
        if form is None:
            await self._take_recording(stream, begun.asked.form.channel, body)
        else:
            channels = begun.asked.form.channels if form.channels == 1 else form.channels
            form = replace(form, channels=channels, channel=begun.asked.form.channel)
            await _take_samples(stream, form, body)
        body.check()
        stream.end(EndReason.CALL_ENDED)
        async with asyncio.timeout(_DRAIN_S):
            await stream.drained()
        if stream.lost:
            raise InternalServer

    async def _take_recording(self, stream: Stream, channel: int, body: _Body) -> None:
        data = await body.whole(self._settings.audio.max_file_bytes)
        blocks = _blocks(data, channel, self._settings.audio)
        loop = asyncio.get_running_loop()
        while (block := await loop.run_in_executor(self._threads, next, blocks, None)) is not None:
            await feed_in_pieces(stream, block, RATE_HZ)


def _blocks(data: bytes, channel: int, limits: Audio) -> Iterator[NDArray[np.int16]]:
    """Blocks of a recording at 8 kHz. Raises AudioError."""
    recording = Recording.open(
        data, channel=channel, strict=limits.strict, max_duration_s=limits.max_duration_s
    )
    for block in recording.blocks():
        yield int16_from_float(block)


async def _take_samples(stream: Stream, form: AudioForm, body: _Body) -> None:
    decode, rest, heard = decoder(form.encoding), b"", False
    while (piece := await body.next()) is not None:
        data = rest + piece
        whole = len(data) - len(data) % form.frame_bytes
        rest = data[whole:]
        if whole:
            samples = one_channel(decode(data[:whole]), form.channels, form.channel)
            await feed_in_pieces(stream, samples, form.rate_hz)
            heard = True
    if rest:
        raise Validation("The body ends in the middle of a sample.")
    if not heard:
        raise Validation("The body holds no audio.")


class _Body:
    """A request's body as it comes, hashed if its hash was declared."""

    def __init__(self, receive: Receive, declared: bytes, settings: Settings) -> None:
        self._receive, self._declared = receive, declared
        self._hash = None if declared == UNSIGNED else hashlib.sha256()
        self._idle_s, self._more = settings.live.idle_s, True

    async def next(self) -> bytes | None:
        """None at the end. Raises StreamFault when the client falls silent or goes away."""
        while self._more:
            try:
                async with asyncio.timeout(self._idle_s):
                    message = await self._receive()
            except TimeoutError:
                raise StreamFault("no audio came for too long", EndReason.IDLE) from None
            if message["type"] == "http.disconnect":
                raise StreamFault("the connection broke off", EndReason.DISCONNECTED)
            self._more = message.get("more_body", False)
            if piece := message.get("body", b""):
                if self._hash is not None:
                    self._hash.update(piece)
                return bytes(piece)
        return None

    async def whole(self, most_bytes: int) -> bytes:
        pieces, size = [], 0
        while (piece := await self.next()) is not None:
            size += len(piece)
            if size > most_bytes:
                raise BodyTooLarge(f"The recording is larger than {most_bytes} bytes.")
            pieces.append(piece)
        return b"".join(pieces)

    def check(self) -> None:
        """At the end: is it the body that was signed? Raises InvalidSignature."""
        if self._hash is not None and not hmac.compare_digest(
            self._hash.hexdigest().encode(), self._declared
        ):
            raise InvalidSignature("The body is not the one whose SHA-256 was signed.")


def form_of(content_type: bytes) -> AudioForm | None:
    """What a Content-Type says of bare samples; None for a recording in a container. Raises Validation."""
    if len(content_type) > _MOST_TYPE_BYTES:
        raise Validation("The Content-Type is too long.")
    header = MimeMessage()
    header["content-type"] = content_type.decode("latin-1").replace("\r", "").replace("\n", "")
    kind = header.get_content_type()
    if kind in CONTAINERS:
        return None
    if kind not in BARE:
        known = ", ".join(sorted([*BARE, *CONTAINERS]))
        raise Validation(f"The Content-Type must be one of {known}")
    encoding, fixed_hz = BARE[kind]
    if encoding == "pcm_s16be" and header.get_param("endianness") == "little-endian":
        encoding = "pcm_s16le"
    rate_hz = _number(header.get_param("rate"), fixed_hz)
    if rate_hz not in RATES_HZ:
        raise Validation(f"The Content-Type needs a rate, one of {', '.join(map(str, RATES_HZ))}")
    channels = _number(header.get_param("channels"), 1)
    if channels not in (1, 2):
        raise Validation("The Content-Type may have 1 or 2 channels")
    return AudioForm(encoding=encoding, rate_hz=rate_hz, channels=channels)


def _number(text: object, default: int | None) -> int | None:
    if text is None:
        return default
    return (
        int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 7 else None
    )


def _teller(ended: asyncio.Future[EndReason]) -> Callable[[EndReason], None]:
    loop = ended.get_loop()

    def settle(reason: EndReason) -> None:
        if not ended.done():
            ended.set_result(reason)

    def tell(reason: EndReason) -> None:  # from any thread
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, reason)

    return tell


def _refusal(reason: EndReason) -> Validation | InternalServer:
    if reason == EndReason.SERVICE_STOPPED:
        return InternalServer()
    return Validation(f"The stream was ended: {reason.value}.")
