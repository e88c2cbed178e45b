"""SignalWire's streams: Twilio's messages, with codecs of more kinds (SignalWire docs, "cXML - Stream").

A stream brings the bearer token that `authBearerToken` of `<Stream>` gives it. The token is the same for
every stream and covers no parameter: with `live.signalwire_ticket_secret`, each stream needs a ticket.
"""

from __future__ import annotations

from dataclasses import dataclass

from sonant.carriers.authentication import require_token
from sonant.carriers.carrier import Adapter, WebSocketCarrier, check_password
from sonant.carriers.media_messages import Dialect, MediaMessagesAdapter
from sonant.carriers.naming import naming_of
from sonant.carriers.request import StreamRequest
from sonant.settings import Settings
from sonant.settings.declaration import text

_TICKET_SETTING = "live.signalwire_ticket_secret"
DIALECT = Dialect(
    title="SignalWire",
    stream="streamSid",
    calls=("callSid",),
    media_format="mediaFormat",
    rate="sampleRate",
    encodings=frozenset(("mulaw", "alaw", "pcm_s16le")),
    parameters=lambda message: message["start"].get("customParameters"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalwireSettings:
    """Settings of SignalWire's streams."""

    signalwire_token: str = text(
        "",
        "Bearer token of the SignalWire streams that are accepted, as in `authBearerToken`; empty accepts "
        "none.",
        secret=True,
    )
    signalwire_ticket_secret: str = text(
        "",
        "Key of the tickets that SignalWire's streams must then bring in their parameters; at least 16 "
        "characters. Empty takes streams without one.",
        secret=True,
    )


SETTINGS = SignalwireSettings


def carrier(settings: Settings) -> WebSocketCarrier | None:
    """Build the carrier, None without `live.signalwire_token`. Raises SetupError."""
    own = settings.of_carrier(SignalwireSettings)
    if not own.signalwire_token:
        return None
    check_password("live.signalwire_token", own.signalwire_token)
    if own.signalwire_ticket_secret:
        check_password(_TICKET_SETTING, own.signalwire_ticket_secret)

    def authenticate(request: StreamRequest) -> Adapter:
        require_token(request, own.signalwire_token)
        naming = naming_of(settings, request, own.signalwire_ticket_secret, _TICKET_SETTING)
        return MediaMessagesAdapter(DIALECT, naming)

    return WebSocketCarrier(authenticate=authenticate)
