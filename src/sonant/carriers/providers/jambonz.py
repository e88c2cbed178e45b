"""jambonz' verb `listen`: 16-bit samples, little-endian, over a WebSocket (jambonz docs, "listen").

The first message is a text that describes the call: `callSid`, `sampleRate`, `mixType`, and the verb's
`metadata`, which may hold `domain`, `session`, `speaker` and `ticket`. Binary messages follow. Of `stereo`
the first channel is the caller's; `mixed`, in which both speak in one channel, is refused. The verb's
`wsAuth` sends the user name and the password (HTTP Basic). The password covers no parameter: with
`live.jambonz_ticket_secret`, each stream needs a ticket.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from sonant.carriers.authentication import BASIC_CHALLENGE, require_password
from sonant.carriers.carrier import Adapter, WebSocketCarrier, check_password, optional_text
from sonant.carriers.encoding import stated_format
from sonant.carriers.linear_frames import LinearCall, LinearFramesAdapter
from sonant.carriers.naming import CallNaming, naming_of
from sonant.carriers.request import StreamRequest
from sonant.errors import SetupError
from sonant.sessions.calls import StreamFault
from sonant.settings import Settings
from sonant.settings.declaration import text

SUBPROTOCOL = "audio.jambonz.org"
_TICKET_SETTING = "live.jambonz_ticket_secret"
_CHANNELS = {"mono": 1, "stereo": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class JambonzSettings:
    """Settings of jambonz' streams."""

    jambonz_user: str = text("", "User name in `wsAuth` of jambonz' verb `listen`; empty accepts none.")
    jambonz_password: str = text("", "Password of that user; at least 16 characters.", secret=True)
    jambonz_ticket_secret: str = text(
        "",
        "Key of the tickets that jambonz' streams must then bring in their metadata; at least 16 characters. "
        "Empty takes streams without one.",
        secret=True,
    )


SETTINGS = JambonzSettings


def carrier(settings: Settings) -> WebSocketCarrier | None:
    """Build the carrier, None without `live.jambonz_user` and its password. Raises SetupError."""
    own = settings.of_carrier(JambonzSettings)
    if not (own.jambonz_user or own.jambonz_password):
        return None
    if not own.jambonz_user or ":" in own.jambonz_user:
        raise SetupError("setting live.jambonz_user must be a name without a colon")
    check_password("live.jambonz_password", own.jambonz_password)
    if own.jambonz_ticket_secret:
        check_password(_TICKET_SETTING, own.jambonz_ticket_secret)

    def authenticate(request: StreamRequest) -> Adapter:
        require_password(request, own.jambonz_user, own.jambonz_password)
        naming = naming_of(settings, request, own.jambonz_ticket_secret, _TICKET_SETTING)
        return LinearFramesAdapter(partial(describe, naming))

    return WebSocketCarrier(authenticate=authenticate, subprotocol=SUBPROTOCOL, challenge=BASIC_CHALLENGE)


def describe(naming: CallNaming, message: dict[str, Any]) -> LinearCall | None:
    """Return the call that the first message describes, None for other messages. Raises StreamFault."""
    if "callSid" not in message or "sampleRate" not in message:
        return None
    channels = _CHANNELS.get(optional_text(message, "mixType") or "mono")
    if channels is None:
        raise StreamFault("the mixType is not mono or stereo: the caller has no channel alone")
    rate_hz = stated_format("l16", message["sampleRate"]).rate_hz
    metadata = message.get("metadata")
    given = {**message, **metadata} if isinstance(metadata, dict) else message
    call = naming.call(given, optional_text(message, "callSid"))
    return LinearCall(call=call, rate_hz=rate_hz, channels=channels)
