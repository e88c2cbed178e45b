"""Asterisk's WebSocket channel driver: audio in the channel's codec as binary messages, and text messages of
one line or of JSON (Asterisk docs, "WebSocket" channel driver).

    MEDIA_START connection_id:... channel:... format:ulaw optimal_frame_size:160, then audio

The dial string's `v(...)` puts `domain`, `session` and `speaker` into the URL. A call without a session gets
its channel's id as name, `.` written as `-`. Asterisk signs in with a user name and a password (HTTP Basic).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sonant.carriers.authentication import BASIC_CHALLENGE, require_password
from sonant.carriers.carrier import (
    MAX_TEXT,
    Adapter,
    Audio,
    Effect,
    End,
    Open,
    Reply,
    WebSocketCarrier,
    check_password,
    parse_object,
)
from sonant.carriers.encoding import Decoder, decoder
from sonant.carriers.naming import session_name
from sonant.carriers.request import StreamRequest
from sonant.errors import SetupError, Validation
from sonant.sessions.calls import Call, EndReason, StreamFault
from sonant.settings import Settings
from sonant.settings.declaration import text

#: Asterisk's names of codecs that hold plain samples, with the encoding and its rate.
FORMATS = {
    "ulaw": ("mulaw", 8000),
    "alaw": ("alaw", 8000),
    "slin": ("pcm_s16le", 8000),
    "slin16": ("pcm_s16le", 16000),
}
#: Offered for media channels.
SUBPROTOCOL = "media"
_PARAMETERS = frozenset(("domain", "session", "speaker"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AsteriskSettings:
    """Settings of Asterisk's WebSocket channel."""

    asterisk_user: str = text("", "User name of Asterisk's WebSocket channel; empty accepts none.")
    asterisk_password: str = text("", "Password of that user; at least 16 characters.", secret=True)


SETTINGS = AsteriskSettings


def carrier(settings: Settings) -> WebSocketCarrier | None:
    """Build the carrier, None without `live.asterisk_user` and its password. Raises SetupError."""
    own = settings.of_carrier(AsteriskSettings)
    if not (own.asterisk_user or own.asterisk_password):
        return None
    if not own.asterisk_user or ":" in own.asterisk_user:
        raise SetupError("setting live.asterisk_user must be a name without a colon")
    check_password("live.asterisk_password", own.asterisk_password)

    def authenticate(request: StreamRequest) -> Adapter:
        require_password(request, own.asterisk_user, own.asterisk_password)
        parameters = request.parameters()
        if unknown := parameters.keys() - _PARAMETERS:
            known = ", ".join(sorted(_PARAMETERS))
            raise Validation(f"{len(unknown)} query parameters are not known; known: {known}")
        return AsteriskAdapter(settings.account, settings.live.domain, parameters)

    return WebSocketCarrier(
        authenticate=authenticate,
        subprotocol=SUBPROTOCOL,
        challenge=BASIC_CHALLENGE,
    )


class AsteriskAdapter:
    """Translates the messages of Asterisk's channel driver."""

    def __init__(self, account_id: str, default_domain_id: str, parameters: Mapping[str, str]) -> None:
        """`parameters` are the URL's."""
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
        event, members = self._read(message)
        if event != "MEDIA_START":
            return ()  # DTMF_END, MEDIA_XOFF, STATUS, and what Asterisk may add
        if self._decode is not None:
            raise StreamFault("MEDIA_START came twice")
        if members.get("format") not in FORMATS:
            raise StreamFault(f"the codec is not one of {', '.join(FORMATS)}: name one in the dial string")
        encoding, self._rate_hz = FORMATS[members["format"]]
        self._decode = decoder(encoding)
        if not self._domain_id:
            raise StreamFault("the URL has no parameter `domain`, and live.domain is not set")
        session = self._session or session_name(members.get("channel_id", ""))
        if not session:
            raise StreamFault("the URL has no parameter `session`, and MEDIA_START no channel id")
        return (
            Open(
                Call(
                    account_id=self._account_id,
                    domain_id=self._domain_id,
                    session=session,
                    speaker_id=self._speaker_id,
                    create=True,
                )
            ),
        )

    def opened(self, session_id: str) -> Sequence[Effect]:
        return ()

    def refused(self, message: str) -> Sequence[Effect]:
        return (self._hang_up(), End(EndReason.NEVER_BEGAN))

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        return (self._hang_up(), End(reason))

    def _read(self, message: str) -> tuple[str, Mapping[str, str]]:
        """Parse an event and its members, of either form."""
        if message.startswith("{"):
            self._json = True
            found = parse_object(message)
            texts = {name: value for name, value in found.items() if isinstance(value, str)}
            return texts.get("event", ""), texts
        if len(message) > MAX_TEXT:
            raise StreamFault(f"a text message is longer than {MAX_TEXT} characters")
        event, *parts = message.split()[:64] or [""]
        return event, {name: value for name, _, value in (part.partition(":") for part in parts)}

    def _hang_up(self) -> Reply:
        return Reply(json.dumps({"command": "HANGUP"}) if self._json else "HANGUP")
