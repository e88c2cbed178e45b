"""Vonage Voice API: 16-bit samples over a WebSocket (Vonage docs, "WebSockets in the Vonage Voice API").

The first message is a text, `websocket:connected`. It holds the content type and the `headers` of the NCCO's
endpoint: `domain`, `session`, `speaker` and `ticket`. Binary messages of 20 ms follow. The endpoint's
`authorization` of type `custom` sends the token. The token is the same for every stream and covers no
parameter: with `live.vonage_ticket_secret`, each stream needs a ticket.

The samples are little-endian, whatever `audio/l16` means elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from sonant.carriers.authentication import require_token
from sonant.carriers.carrier import Adapter, WebSocketCarrier, check_password, optional_text, required
from sonant.carriers.encoding import stated_format
from sonant.carriers.linear_frames import LinearCall, LinearFramesAdapter
from sonant.carriers.naming import CallNaming, naming_of
from sonant.carriers.request import StreamRequest
from sonant.sessions.calls import StreamFault
from sonant.settings import Settings
from sonant.settings.declaration import text

_TICKET_SETTING = "live.vonage_ticket_secret"
#: Ids of the call or of its conversation that the program may have put into the headers.
_CALL_IDS = ("uuid", "call_uuid", "conversation_uuid")


@dataclass(frozen=True, slots=True, kw_only=True)
class VonageSettings:
    """Settings of Vonage's WebSockets."""

    vonage_token: str = text(
        "",
        "Token of the Vonage endpoints that are accepted, as in `authorization`; empty accepts none.",
        secret=True,
    )
    vonage_ticket_secret: str = text(
        "",
        "Key of the tickets that Vonage's streams must then bring in their headers; at least 16 characters. "
        "Empty takes streams without one.",
        secret=True,
    )


SETTINGS = VonageSettings


def carrier(settings: Settings) -> WebSocketCarrier | None:
    """Build the carrier, None without `live.vonage_token`. Raises SetupError."""
    own = settings.of_carrier(VonageSettings)
    if not own.vonage_token:
        return None
    check_password("live.vonage_token", own.vonage_token)
    if own.vonage_ticket_secret:
        check_password(_TICKET_SETTING, own.vonage_ticket_secret)

    def authenticate(request: StreamRequest) -> Adapter:
        require_token(request, own.vonage_token)
        naming = naming_of(settings, request, own.vonage_ticket_secret, _TICKET_SETTING)
        return LinearFramesAdapter(partial(describe, naming))

    return WebSocketCarrier(authenticate=authenticate)


def describe(naming: CallNaming, message: dict[str, Any]) -> LinearCall | None:
    """Return the call of `websocket:connected`, None for other messages. Raises StreamFault."""
    if message.get("event") != "websocket:connected":
        return None
    found = stated_format(required(message, "content-type", str))
    if found.encoding != "pcm_s16le":
        raise StreamFault("the content type is not audio/l16")
    headers = message.get("headers")
    given = {**message, **headers} if isinstance(headers, dict) else message
    call_ids = (optional_text(given, name) for name in _CALL_IDS)
    return LinearCall(call=naming.call(given, next(filter(None, call_ids), None)), rate_hz=found.rate_hz)
