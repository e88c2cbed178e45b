"""Streams of JSON messages with audio in base64, as Twilio began them and others followed, each with names of
its own:

    connected, start, media ..., stop

`start` names the stream, the call, the format of the audio and the parameters that the program gave which
answered the call. Messages of other kinds are ignored. Only the inbound track, the caller's voice, is
processed. The service sends nothing: where a stream has two directions, it stays silent.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sonant.carriers.carrier import Audio, Effect, End, Open, optional_text, parse_object, required
from sonant.carriers.encoding import AudioFormat, decoder, stated_format
from sonant.carriers.frame_order import FrameOrder, frame_number
from sonant.carriers.naming import CallNaming
from sonant.sessions.calls import EndReason, StreamFault

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The names that one carrier gives the members of its messages."""

    title: str
    """The carrier, for messages of errors."""
    stream: str
    """The stream's id, in `start` or beside it, and in the other messages."""
    calls: tuple[str, ...]
    """Ids of the call in `start`; the first that there is names the session."""
    media_format: str
    rate: str
    """The sample rate, in the format."""
    encodings: frozenset[str]
    """Keys of DECODERS that the carrier documents; what it sends otherwise is refused."""
    encoding_names: Mapping[str, str] = field(default_factory=dict)
    """Names of encodings that mean something with this carrier alone, and the names that others use."""
    parameters: Callable[[Message], object]
    """Returns the program's parameters of a `start` message, which should be an object."""


class MediaMessagesAdapter:
    """Translates the messages of one connection."""

    def __init__(self, dialect: Dialect, naming: CallNaming) -> None:
        self._dialect, self._naming = dialect, naming
        self._stream: str | None = None
        self._format = AudioFormat()
        self._decode = decoder(self._format.encoding)
        self._order = FrameOrder()
        self._ended = False

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        if isinstance(message, bytes):
            raise StreamFault(f"{self._dialect.title} sends no binary messages")
        found = parse_object(message)
        event = required(found, "event", str)
        if self._ended or event == "connected":
            return ()
        if event == "start":
            return self._start(found)
        if event not in ("media", "stop"):
            return ()  # dtmf, mark, and what the carrier may add
        if self._stream is None:
            raise StreamFault("a message came before the stream was started")
        if found.get(self._dialect.stream, self._stream) != self._stream:
            raise StreamFault("a message belongs to no stream that was started")
        if event == "media":
            return self._media(required(found, "media", dict))
        self._ended = True
        return (*map(self._audio, self._order.flush()), End(EndReason.CALL_ENDED))

    def opened(self, session_id: str) -> Sequence[Effect]:
        return ()

    def refused(self, message: str) -> Sequence[Effect]:
        return ()

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        return ()

    def _start(self, message: Message) -> Sequence[Effect]:
        if self._stream is not None:
            raise StreamFault("a stream was started twice")
        dialect, start = self._dialect, required(message, "start", dict)
        self._format = self._read_format(required(start, dialect.media_format, dict))
        self._decode = decoder(self._format.encoding)
        tracks = start.get("tracks")
        if tracks is not None and not (isinstance(tracks, list) and "inbound" in tracks):
            raise StreamFault("the stream has no inbound track")
        self._stream = required(start if dialect.stream in start else message, dialect.stream, str)
        parameters = dialect.parameters(message) or {}
        if not isinstance(parameters, dict):
            raise StreamFault("the custom parameters are not an object")
        call_ids = (optional_text(start, name) for name in dialect.calls)
        return (Open(self._naming.call(parameters, next(filter(None, call_ids), None))),)

    def _read_format(self, stated: Mapping[str, Any]) -> AudioFormat:
        dialect = self._dialect
        encoding = stated.get("encoding")
        if isinstance(encoding, str):
            encoding = dialect.encoding_names.get(encoding.lower(), encoding)
        found = stated_format(encoding, stated.get(dialect.rate), stated.get("channels"))
        if found.encoding not in dialect.encodings:
            raise StreamFault(f"the audio is not {', '.join(sorted(dialect.encodings))}")
        return found

    def _media(self, media: Message) -> Sequence[Effect]:
        if "track" in media and required(media, "track", str) not in ("inbound", "inbound_track"):
            return ()
        try:
            data = base64.b64decode(required(media, "payload", str), validate=True)
        except (binascii.Error, ValueError):
            raise StreamFault("the payload of a media message is not base64") from None
        due = self._order.push(frame_number(media.get("chunk")), data)
        return [self._audio(frame) for frame in due]

    def _audio(self, frame: bytes) -> Audio:
        return Audio(self._decode(frame), self._format.rate_hz)
