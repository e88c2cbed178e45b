"""Asterisk's WebSocket channel driver: audio in binary messages as the channel's codec has it, and text
messages, as one line or as JSON (Asterisk docs, "WebSocket" channel driver).

    MEDIA_START connection_id:... channel:... format:ulaw optimal_frame_size:160, then audio

The dial string's `v(...)` puts `domain`, `session` and `speaker` into the URL. A call without a session is
named by its channel's id, `.` written as `-`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from sonant.carriers.adapter import Audio, Begin, Effect, End, Reply
from sonant.carriers.encoding import Decoder, decoder
from sonant.carriers.messages import MAX_TEXT_BYTES, parse
from sonant.sessions.calls import Call, EndReason, StreamFault

#: Asterisk's names of codecs that hold plain samples, with the encoding and its rate.
FORMATS = {
    "ulaw": ("mulaw", 8000),
    "alaw": ("alaw", 8000),
    "slin": ("pcm_s16le", 8000),
    "slin16": ("pcm_s16le", 16000),
}
#: Sent when the websocket was opened for a media channel.
SUBPROTOCOL = "media"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 36


class AsteriskAdapter:
    """See `adapters.Adapter`."""

    def __init__(self, account_id: str, default_domain_id: str, parameters: Mapping[str, str]) -> None:
        """`parameters` are those of the URL."""
        self._account_id = account_id
        self._domain_id = parameters.get("domain") or default_domain_id
        self._session, self._speaker_id = parameters.get("session"), parameters.get("speaker") or None
        self._decode: Decoder | None = None
        self._rate_hz = 0
        self._json = False

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        if isinstance(message, bytes):
            if self._decode is None:
                raise StreamFault("audio came before MEDIA_START")
            return (Audio(self._decode(message), self._rate_hz),)
        event, told = self._read(message)
        if event != "MEDIA_START":
            return ()  # DTMF_END, MEDIA_XOFF, STATUS, and what Asterisk may add
        if self._decode is not None:
            raise StreamFault("MEDIA_START came twice")
        if told.get("format") not in FORMATS:
            raise StreamFault(f"the codec is not one of {', '.join(FORMATS)}: name one in the dial string")
        encoding, self._rate_hz = FORMATS[told["format"]]
        self._decode = decoder(encoding)
        if not self._domain_id:
            raise StreamFault("the URL has no parameter `domain`, and live.domain is not set")
        session = self._session or _NOT_IN_NAMES.sub("-", told.get("channel_id", ""))[:_LONGEST_NAME]
        if not session:
            raise StreamFault("the URL has no parameter `session`, and MEDIA_START no channel id")
        return (
            Begin(
                Call(
                    account_id=self._account_id,
                    domain_id=self._domain_id,
                    session=session,
                    speaker_id=self._speaker_id,
                    create=True,
                )
            ),
        )

    def begun(self, session_id: str) -> Sequence[Effect]:
        return ()

    def refused(self, why: str) -> Sequence[Effect]:
        return (self._hang_up(), End(EndReason.NEVER_BEGAN))

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        return (self._hang_up(), End(reason))

    def _read(self, message: str) -> tuple[str, Mapping[str, str]]:
        """The event and what it says, of either form."""
        if message.startswith("{"):
            self._json = True
            found = parse(message)
            texts = {name: value for name, value in found.items() if isinstance(value, str)}
            return texts.get("event", ""), texts
        if len(message) > MAX_TEXT_BYTES:
            raise StreamFault(f"a text message is longer than {MAX_TEXT_BYTES} characters")
        event, *members = message.split()[:64] or [""]
        return event, {name: value for name, _, value in (part.partition(":") for part in members)}

    def _hang_up(self) -> Reply:
        return Reply(json.dumps({"command": "HANGUP"}) if self._json else "HANGUP")
