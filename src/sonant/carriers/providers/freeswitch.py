"""FreeSWITCH's modules mod_audio_stream and mod_audio_fork: 16-bit samples, little-endian, over a WebSocket
(their READMEs on GitHub: amigniter/mod_audio_stream, drachtio/drachtio-freeswitch-modules).

    uuid_audio_stream <uuid> start <URL> mono 8k [metadata]
    uuid_audio_fork <uuid> start <URL> mono 8k [metadata]

Neither describes its audio. So the URL does: `rate` (8000) and `channels` (1; of 2 the first is the
caller's), beside `domain`, `session` and `speaker`. The metadata, sent as a text message before the audio,
may be a JSON object with `domain`, `session` and `speaker`, too. The password comes in HTTP Basic
(mod_audio_fork's channel variables MOD_AUDIO_BASIC_AUTH_USERNAME and _PASSWORD) or in a header that
mod_audio_stream's STREAM_EXTRA_HEADERS names, `{"Authorization": "Basic ..."}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sonant.carriers.authentication import BASIC_CHALLENGE, require_password
from sonant.carriers.carrier import Adapter, WebSocketCarrier, check_password
from sonant.carriers.encoding import stated_format
from sonant.carriers.linear_frames import LinearCall, LinearFramesAdapter
from sonant.carriers.naming import CallNaming, naming_of
from sonant.carriers.request import StreamRequest
from sonant.errors import SetupError, Validation
from sonant.sessions.calls import StreamFault
from sonant.settings import Settings
from sonant.settings.declaration import text

#: What mod_audio_fork offers by default; mod_audio_stream offers none.
SUBPROTOCOL = "audio.drachtio.org"
_PARAMETERS = frozenset(("domain", "session", "speaker", "rate", "channels"))
_MEMBERS = ("domain", "session", "speaker")


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeSwitchSettings:
    """Settings of FreeSWITCH's streams."""

    freeswitch_user: str = text("", "User name of FreeSWITCH's audio modules; empty accepts none.")
    freeswitch_password: str = text("", "Password of that user; at least 16 characters.", secret=True)


SETTINGS = FreeSwitchSettings


def carrier(settings: Settings) -> WebSocketCarrier | None:
    """Build the carrier, None without `live.freeswitch_user` and its password. Raises SetupError."""
    own = settings.of_carrier(FreeSwitchSettings)
    if not (own.freeswitch_user or own.freeswitch_password):
        return None
    if not own.freeswitch_user or ":" in own.freeswitch_user:
        raise SetupError("setting live.freeswitch_user must be a name without a colon")
    check_password("live.freeswitch_password", own.freeswitch_password)

    def authenticate(request: StreamRequest) -> Adapter:
        require_password(request, own.freeswitch_user, own.freeswitch_password)
        naming = naming_of(settings, request)
        if unknown := naming.url_parameters.keys() - _PARAMETERS:
            known = ", ".join(sorted(_PARAMETERS))
            raise Validation(f"{len(unknown)} query parameters are not known; known: {known}")
        return _adapter(naming)

    return WebSocketCarrier(authenticate=authenticate, subprotocol=SUBPROTOCOL, challenge=BASIC_CHALLENGE)


def _adapter(naming: CallNaming) -> LinearFramesAdapter:
    """Make the adapter of a connection. Raises Validation for parameters that cannot be used."""
    rate, channels = naming.url_parameters.get("rate"), naming.url_parameters.get("channels", "1")
    if channels not in ("1", "2"):
        raise Validation("channels must be 1 or 2")
    try:
        rate_hz = stated_format("l16", rate).rate_hz
    except StreamFault as fault:
        raise Validation(f"rate cannot be used: {fault}") from None

    def called(parameters: dict[str, Any]) -> LinearCall:
        call = naming.call(parameters, None)
        return LinearCall(call=call, rate_hz=rate_hz, channels=int(channels))

    def describe(message: dict[str, Any]) -> LinearCall | None:
        given = {name: message[name] for name in _MEMBERS if name in message}
        return called(given) if given else None

    try:
        return LinearFramesAdapter(describe, called({}))
    except StreamFault:  # the metadata must name the session
        return LinearFramesAdapter(describe)
