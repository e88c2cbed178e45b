"""Telnyx media streaming: JSON over a WebSocket, the call's own codec in base64 (Telnyx docs, "Media
Streaming over WebSockets"). Frames may come out of order.

`start` holds the custom parameters of the command or of `<Stream>`. A stream brings the token that
`stream_auth_token` gives it. The token is the same for every stream and covers no parameter: with
`live.telnyx_ticket_secret`, each stream needs a ticket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sonant.carriers.authentication import require_token
from sonant.carriers.carrier import Adapter, WebSocketCarrier, check_password
from sonant.carriers.media_messages import Dialect, MediaMessagesAdapter
from sonant.carriers.naming import naming_of
from sonant.carriers.request import StreamRequest
from sonant.settings import Settings
from sonant.settings.declaration import text

_TICKET_SETTING = "live.telnyx_ticket_secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class TelnyxSettings:
    """Settings of Telnyx's streams."""

    telnyx_token: str = text(
        "",
        "Token of the Telnyx streams that are accepted, as in `stream_auth_token`; empty accepts none.",
        secret=True,
    )
    telnyx_ticket_secret: str = text(
        "",
        "Key of the tickets that Telnyx's streams must then bring in their parameters; at least 16 "
        "characters. Empty takes streams without one.",
        secret=True,
    )


SETTINGS = TelnyxSettings


def carrier(settings: Settings) -> WebSocketCarrier | None:
    """Build the carrier, None without `live.telnyx_token`. Raises SetupError."""
    own = settings.of_carrier(TelnyxSettings)
    if not own.telnyx_token:
        return None
    check_password("live.telnyx_token", own.telnyx_token)
    if own.telnyx_ticket_secret:
        check_password(_TICKET_SETTING, own.telnyx_ticket_secret)

    def authenticate(request: StreamRequest) -> Adapter:
        require_token(request, own.telnyx_token)
        naming = naming_of(settings, request, own.telnyx_ticket_secret, _TICKET_SETTING)
        return MediaMessagesAdapter(DIALECT, naming)

    return WebSocketCarrier(authenticate=authenticate)


def _parameters(message: dict[str, Any]) -> object:
    """Return the custom parameters: an object, or the list of names and values that the command has."""
    given = message["start"].get("custom_parameters")
    if not isinstance(given, list):
        return given
    pairs = [pair for pair in given if isinstance(pair, dict) and isinstance(pair.get("name"), str)]
    return {pair["name"]: pair.get("value") for pair in pairs}


DIALECT = Dialect(
    title="Telnyx",
    stream="stream_id",
    calls=("call_session_id", "call_control_id"),
    media_format="media_format",
    rate="sample_rate",
    # L16 is left out: its byte order is not documented.
    encodings=frozenset(("mulaw", "alaw")),
    parameters=_parameters,
)
