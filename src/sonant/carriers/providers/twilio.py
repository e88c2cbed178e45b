"""Twilio Media Streams, of one direction (`<Start><Stream>`) and of two (`<Connect><Stream>`): JSON over a
WebSocket, mu-law at 8 kHz in base64 (Twilio docs, "Media Streams - WebSocket Messages").

`start` holds the custom parameters of `<Stream>`: `domain`, `session` (else the call's id), `speaker` and
`ticket`. The HTTP request that opens the WebSocket is signed with the account's auth token (Twilio docs,
"Webhooks security"). That signature is the same for every stream to a URL, and covers no parameter: with
`live.twilio_ticket_secret`, each stream needs a ticket.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from sonant.carriers.authentication import request_url
from sonant.carriers.carrier import Adapter, WebSocketCarrier, check_password
from sonant.carriers.media_messages import Dialect, MediaMessagesAdapter
from sonant.carriers.naming import CallNaming
from sonant.carriers.request import StreamRequest
from sonant.errors import AccessDenied
from sonant.settings import Settings
from sonant.settings.declaration import text

log = logging.getLogger(__name__)

_TICKET_SETTING = "live.twilio_ticket_secret"
DIALECT = Dialect(
    title="Twilio",
    stream="streamSid",
    calls=("callSid",),
    media_format="mediaFormat",
    rate="sampleRate",
    encodings=frozenset(("mulaw",)),
    parameters=lambda message: message["start"].get("customParameters"),
)


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
        check_password(_TICKET_SETTING, own.twilio_ticket_secret)
    else:
        log.warning(
            "live.twilio_ticket_secret is not set: Twilio signs neither the session nor the speaker of a "
            "stream, so whoever learns one signature of its URL can open streams of any"
        )

    def authenticate(request: StreamRequest) -> Adapter:
        expected = signature(own.twilio_token, own.twilio_url or request_url(request))
        if not hmac.compare_digest(request.header(b"x-twilio-signature"), expected.encode()):
            raise AccessDenied("The signature is not the one that the auth token gives for this URL.")
        return TwilioAdapter(
            settings.account, settings.live.domain, own.twilio_ticket_secret, request.received_at
        )

    return WebSocketCarrier(authenticate=authenticate)


def signature(auth_token: str, url: str) -> str:
    """Compute X-Twilio-Signature of a request for this URL, which has no body."""
    return base64.b64encode(hmac.digest(auth_token.encode(), url.encode(), hashlib.sha1)).decode()


class TwilioAdapter(MediaMessagesAdapter):
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
        naming = CallNaming(
            account_id=account_id,
            default_domain_id=default_domain_id,
            url_parameters={},
            ticket_secret=ticket_secret,
            ticket_setting=_TICKET_SETTING,
            now=now or datetime.now(UTC),
        )
        super().__init__(DIALECT, naming)
