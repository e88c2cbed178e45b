"""Uploads: a call's audio as the body of a POST, processed as fast as possible.

Raw audio is processed as it comes. Recordings in a container are read whole first, no larger than those of
jobs, and decoded in a thread.
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
from sonant.carriers.encoding import RATES_HZ, AudioFormat, decoder, one_channel
from sonant.carriers.limits import DRAIN_S
from sonant.carriers.relay import push_in_pieces
from sonant.carriers.request import UNSIGNED, StreamRequest, declared_hash
from sonant.errors import AudioError, BodyTooLarge, InternalServer, InvalidSignature, Validation
from sonant.sessions.calls import EndReason, StreamEnded, StreamFault
from sonant.sessions.stream import Stream
from sonant.settings import Audio, Settings
from sonant.voice.audio.readers import MEDIA_TYPES
from sonant.voice.audio.recording import RATE_HZ, Recording
from sonant.voice.audio.samples import int16_from_float

#: Media types of raw audio: encoding, and the rate if the type alone fixes it. (RFC 2586, 3551, 4856:
#: L16 is big-endian, `basic` is mu-law at 8 kHz.)
RAW_TYPES = {
    "audio/l16": ("pcm_s16be", None),
    "audio/basic": ("mulaw", 8000),
    "audio/pcmu": ("mulaw", 8000),
    "audio/x-mulaw": ("mulaw", 8000),
    "audio/mulaw": ("mulaw", 8000),
    "audio/pcma": ("alaw", 8000),
    "audio/x-alaw": ("alaw", 8000),
    "audio/alaw": ("alaw", 8000),
}
#: Media types of recordings in a container.
CONTAINER_TYPES = MEDIA_TYPES | {"application/octet-stream"}
_MAX_TYPE_BYTES = 200


class Upload:
    """Processes one upload and responds when all its audio is processed."""

    def __init__(
        self,
        open_stream: Callable[[StreamRequest, bytes, bool], Awaitable[OpenedStream]],
        settings: Settings,
        threads_of: Callable[[str], Executor],
    ) -> None:
        """`open_stream` gets the request, the declared hash of its body, and whether the body is a recording
        that is held in memory. `threads_of` gives the threads in which an account's recordings are decoded.
        """
        self._open, self._settings, self._threads_of = open_stream, settings, threads_of

    async def process(self, request: StreamRequest, receive: Receive) -> bytes:
        """Process the body and return the response, as JSON. Raises WireError."""
        declared = declared_hash(request)
        audio_format = format_of(request.header(b"content-type"))
        if request.parameters().keys() & {"Encoding", "SampleRate"}:
            raise Validation("Encoding and SampleRate are for WebSockets: the Content-Type says them here.")
        live = self._settings.live
        body = _Body(receive, declared, live.idle_s if audio_format is None else live.silence_s)
        opened = await self._open(request, declared, audio_format is None)
        return await self._process(opened, audio_format, body)

    async def _process(self, opened: OpenedStream, audio_format: AudioFormat | None, body: _Body) -> bytes:
        stream, reason = opened.stream, EndReason.DISCONNECTED
        ended: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
        stream.connected = True
        stream.on_end(_setter(ended))
        pushing = asyncio.create_task(self._push_all(opened, audio_format, body))
        try:
            both: set[asyncio.Future[Any]] = {pushing, ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not pushing.done():
                reason = ended.result()
                raise _refusal(reason)
            pushing.result()
            reason = EndReason.CALL_ENDED
            return orjson.dumps(
                {
                    "SessionId": stream.session_id,
                    "HeardSeconds": round(stream.heard_s, 3),
                    "NetSpeechSeconds": round(stream.net_speech_s, 3),
                }
            )
        except StreamEnded as end:
            reason = end.reason
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
            pushing.cancel()
            stream.end(reason)

    async def _push_all(self, opened: OpenedStream, audio_format: AudioFormat | None, body: _Body) -> None:
        stream, asked = opened.stream, opened.parameters.format
        if audio_format is None:
            threads = self._threads_of(opened.account_id)
            await self._push_recording(stream, asked.channel, body, threads)
        else:
            channels = asked.channels if audio_format.channels == 1 else audio_format.channels
            audio_format = replace(audio_format, channels=channels, channel=asked.channel)
            await _push_raw(stream, audio_format, body)
        body.check()
        stream.end(EndReason.CALL_ENDED)
        async with asyncio.timeout(DRAIN_S):
            await stream.drained()
        if stream.results_lost:
            raise InternalServer

    async def _push_recording(self, stream: Stream, channel: int, body: _Body, threads: Executor) -> None:
        data = await body.read_all(self._settings.audio.max_file_bytes)
        blocks = _blocks(data, channel, self._settings.audio)
        loop = asyncio.get_running_loop()
        while (block := await loop.run_in_executor(threads, next, blocks, None)) is not None:
            await push_in_pieces(stream, block, RATE_HZ)


def _blocks(data: bytes, channel: int, limits: Audio) -> Iterator[NDArray[np.int16]]:
    """Decode a recording in blocks at 8 kHz. Raises AudioError."""
    recording = Recording.open(
        data, channel=channel, strict=limits.strict, max_duration_s=limits.max_duration_s
    )
    for block in recording.blocks():
        yield int16_from_float(block)


async def _push_raw(stream: Stream, audio_format: AudioFormat, body: _Body) -> None:
    decode, rest, empty = decoder(audio_format.encoding), b"", True
    while (piece := await body.next()) is not None:
        data = rest + piece
        whole = len(data) - len(data) % audio_format.frame_bytes
        rest = data[whole:]
        if whole:
            samples = one_channel(decode(data[:whole]), audio_format.channels, audio_format.channel)
            await push_in_pieces(stream, samples, audio_format.rate_hz)
            empty = False
    if rest:
        raise Validation("The body ends in the middle of a sample.")
    if empty:
        raise Validation("The body holds no audio.")


class _Body:
    """A request's body, read in pieces and hashed if its hash was declared."""

    def __init__(self, receive: Receive, declared: bytes, silence_s: float) -> None:
        """`silence_s`: how long nothing may come."""
        self._receive, self._declared = receive, declared
        self._hash = None if declared == UNSIGNED else hashlib.sha256()
        self._silence_s, self._more = silence_s, True

    async def next(self) -> bytes | None:
        """Return the next piece, None at the end. Raises StreamFault when the client sends nothing for too
        long or disconnects."""
        while self._more:
            try:
                async with asyncio.timeout(self._silence_s):
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

    async def read_all(self, max_bytes: int) -> bytes:
        """Return the whole body. Raises BodyTooLarge."""
        pieces, size = [], 0
        while (piece := await self.next()) is not None:
            size += len(piece)
            if size > max_bytes:
                raise BodyTooLarge(f"The recording is larger than {max_bytes} bytes.")
            pieces.append(piece)
        return b"".join(pieces)

    def check(self) -> None:
        """Check the hash of the body that was read. Raises InvalidSignature."""
        if self._hash is not None and not hmac.compare_digest(
            self._hash.hexdigest().encode(), self._declared
        ):
            raise InvalidSignature("The body is not the one whose SHA-256 was signed.")


def format_of(content_type: bytes) -> AudioFormat | None:
    """Parse the Content-Type of raw audio; None for a recording in a container. Raises Validation."""
    if len(content_type) > _MAX_TYPE_BYTES:
        raise Validation("The Content-Type is too long.")
    header = MimeMessage()
    header["content-type"] = content_type.decode("latin-1").replace("\r", "").replace("\n", "")
    kind = header.get_content_type()
    if kind in CONTAINER_TYPES:
        return None
    if kind not in RAW_TYPES:
        known = ", ".join(sorted([*RAW_TYPES, *CONTAINER_TYPES]))
        raise Validation(f"The Content-Type must be one of {known}")
    encoding, fixed_hz = RAW_TYPES[kind]
    if encoding == "pcm_s16be" and header.get_param("endianness") == "little-endian":
        encoding = "pcm_s16le"
    rate_hz = _number(header.get_param("rate"), fixed_hz)
    if rate_hz not in RATES_HZ:
        raise Validation(f"The Content-Type needs a rate, one of {', '.join(map(str, RATES_HZ))}")
    channels = _number(header.get_param("channels"), 1)
    if channels not in (1, 2):
        raise Validation("The Content-Type may have 1 or 2 channels")
    return AudioFormat(encoding=encoding, rate_hz=rate_hz, channels=channels)


def _number(text: object, default: int | None) -> int | None:
    if text is None:
        return default
    return (
        int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 7 else None
    )


def _setter(ended: asyncio.Future[EndReason]) -> Callable[[EndReason], None]:
    """Return a callback that sets the future from any thread."""
    loop = ended.get_loop()

    def set_ended(reason: EndReason) -> None:
        if not ended.done():
            ended.set_result(reason)

    def callback(reason: EndReason) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(set_ended, reason)

    return callback


def _refusal(reason: EndReason) -> Validation | InternalServer:
    if reason == EndReason.SERVICE_STOPPED:
        return InternalServer()
    return Validation(f"The stream was ended: {reason.value}.")
