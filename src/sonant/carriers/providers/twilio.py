"""Twilio Media Streams: JSON over a WebSocket, mu-law at 8 kHz in base64 (Twilio docs, "Media Streams -
WebSocket Messages"). SignalWire sends the same.

    connected, start, media ..., stop

`start` holds the custom parameters of `<Stream>`: `domain`, `session` (else the call's id), `speaker` and
`ticket`. Only the inbound track, the caller's voice, is processed. The HTTP request that opens the WebSocket
is signed with the account's auth token (Twilio docs, "Webhooks security"). That signature is the same for
every stream to a URL, and covers no parameter: with `live.twilio_ticket_secret`, each stream needs a ticket.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sonant.carriers.carrier import (
    Adapter,
    Audio,
    Effect,
    End,
    Open,
    WebSocketCarrier,
    check_password,
    optional_text,
    parse_object,
    required,
)
from sonant.carriers.encoding import decoder
from sonant.carriers.request import StreamRequest
from sonant.carriers.tickets import check_ticket
from sonant.errors import AccessDenied
from sonant.sessions.calls import Call, EndReason, StreamFault
from sonant.settings import Settings
from sonant.settings.declaration import text

log = logging.getLogger(__name__)

RATE_HZ = 8000
_FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": RATE_HZ, "channels": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioSettings:
    """Settings of Twilio's streams."""

    twilio_token: str = text(
        "",
        "Auth token of the Twilio account whose media streams are accepted; empty accepts none.",
        secret=True,
    )
    twilio_url: str = text(
        "", "URL of the stream as configured at Twilio, for its signature; empty means that of the request."
    )
    twilio_ticket_secret: str = text(
        "",
        "Key of the tickets that Twilio's streams must then bring in their parameters; at least 16 "
        "characters. Empty takes streams without one.",
        secret=True,
    )


SETTINGS = TwilioSettings


def carrier(settings: Settings) -> WebSocketCarrier | None:
    """Build the carrier, None without `live.twilio_token`. Raises SetupError."""
    own = settings.of_carrier(TwilioSettings)
    if not own.twilio_token:
        return None
    check_password("live.twilio_token", own.twilio_token)
    if own.twilio_ticket_secret:
        check_password("live.twilio_ticket_secret", own.twilio_ticket_secret)
    else:
        log.warning(
            "live.twilio_ticket_secret is not set: Twilio signs neither the session nor the speaker of a "
            "stream, so whoever learns one signature of its URL can open streams of any"
        )

    def authenticate(request: StreamRequest) -> Adapter:
        expected = signature(own.twilio_token, own.twilio_url or _url(request))
        if not hmac.compare_digest(request.header(b"x-twilio-signature"), expected.encode()):
            raise AccessDenied("The signature is not the one that the auth token gives for this URL.")
        return TwilioAdapter(
            settings.account, settings.live.domain, own.twilio_ticket_secret, request.received_at
        )

    return WebSocketCarrier(authenticate=authenticate)


def _url(request: StreamRequest) -> str:
    """The URL that Twilio signs, unless a proxy has changed it."""
    scheme = "wss" if request.secure else "ws"
    query = f"?{request.query.decode('latin-1')}" if request.query else ""
    host, path = request.header(b"host").decode("latin-1"), request.raw_path.decode("latin-1")
    return f"{scheme}://{host}{path}{query}"


def signature(auth_token: str, url: str) -> str:
    """Compute X-Twilio-Signature of a request for this URL, which has no body."""
    return base64.b64encode(hmac.digest(auth_token.encode(), url.encode(), hashlib.sha1)).decode()


class TwilioAdapter:
    """Translates Twilio's messages."""

    def __init__(
        self,
        account_id: str,
        default_domain_id: str,
        ticket_secret: str = "",
        now: datetime | None = None,
    ) -> None:
        """`default_domain_id` serves streams without the parameter `domain`; it may be empty. With
        `ticket_secret` each stream needs a ticket that is valid at `now`."""
        self._account_id, self._default_domain_id = account_id, default_domain_id
        self._ticket_secret, self._now = ticket_secret, now or datetime.now(UTC)
        self._connected = self._ended = False
        self._stream: str | None = None
        self._decode = decoder("mulaw")

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        if isinstance(message, bytes):
            raise StreamFault("Twilio sends no binary messages")
        found = parse_object(message)
        event = required(found, "event", str)
        if self._ended:
            return ()
        if event == "connected":
            self._connected = True
            return ()
        if not self._connected:
            raise StreamFault("the first message is not `connected`")
        if event == "start":
            return self._start(found)
        if self._stream is None or found.get("streamSid") != self._stream:
            raise StreamFault("a message belongs to no stream that was started")
        if event == "media":
            return self._media(required(found, "media", dict))
        if event == "stop":
            self._ended = True
            return (End(EndReason.CALL_ENDED),)
        return ()  # dtmf, mark, and what Twilio may add

    def opened(self, session_id: str) -> Sequence[Effect]:
        return ()

    def refused(self, message: str) -> Sequence[Effect]:
        return ()

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        return ()

    def _start(self, message: dict[str, Any]) -> Sequence[Effect]:
        if self._stream is not None:
            raise StreamFault("a stream was started twice")
        start = required(message, "start", dict)
        if required(start, "mediaFormat", dict) != _FORMAT:
            raise StreamFault("the stream is not mu-law at 8 kHz with one channel")
        if "inbound" not in required(start, "tracks", list):
            raise StreamFault('the stream has no inbound track: use track="inbound_track"')
        self._stream = required(start, "streamSid", str)
        parameters = start.get("customParameters") or {}
        if not isinstance(parameters, dict):
            raise StreamFault("customParameters is not an object")
        domain_id = optional_text(parameters, "domain") or self._default_domain_id
        if not domain_id:
            raise StreamFault("the stream has no parameter `domain`, and live.domain is not set")
        call = Call(
            account_id=self._account_id,
            domain_id=domain_id,
            session=optional_text(parameters, "session") or required(start, "callSid", str),
            speaker_id=optional_text(parameters, "speaker"),
            create=True,
        )
        if self._ticket_secret:
            grant = check_ticket(
                self._ticket_secret,
                optional_text(parameters, "ticket"),
                domain_id=call.domain_id,
                session=call.session,
                speaker_id=call.speaker_id,
                now=self._now,
            )
            call = replace(call, grant=grant)
        return (Open(call),)

    def _media(self, media: dict[str, Any]) -> Sequence[Effect]:
        if required(media, "track", str) != "inbound":
            return ()
        try:
            data = base64.b64decode(required(media, "payload", str), validate=True)
        except (binascii.Error, ValueError):
            raise StreamFault("the payload of a media message is not base64") from None
        return (Audio(self._decode(data), RATE_HZ),)
