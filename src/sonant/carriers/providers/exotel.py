"""Exotel's Stream and Voicebot applets: JSON over a WebSocket, linear samples or mu-law in base64 (Exotel
docs, "AgentStream - WebSocket protocol").

The URL of the applet holds the user name and the password (HTTP Basic) and up to three parameters, such as
`session` and `speaker`. The password covers no parameter: with `live.exotel_ticket_secret`, each stream needs
a ticket.
"""

from __future__ import annotations

from dataclasses import dataclass

from sonant.carriers.authentication import BASIC_CHALLENGE, require_password
from sonant.carriers.carrier import Adapter, WebSocketCarrier, check_password
from sonant.carriers.media_messages import Dialect, MediaMessagesAdapter
from sonant.carriers.naming import naming_of
from sonant.carriers.request import StreamRequest
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.settings.declaration import text

_TICKET_SETTING = "live.exotel_ticket_secret"
DIALECT = Dialect(
    title="Exotel",
    stream="stream_sid",
    calls=("call_sid",),
    media_format="media_format",
    rate="sample_rate",
    encodings=frozenset(("mulaw", "pcm_s16le")),
    # What calls of the Stream applet state: linear samples, named by what they are wrapped in.
    encoding_names={"base64": "l16"},
    parameters=lambda message: message["start"].get("custom_parameters"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExotelSettings:
    """Settings of Exotel's streams."""

    exotel_user: str = text("", "User name in the URL of Exotel's applet; empty accepts none.")
    exotel_password: str = text("", "Password of that user; at least 16 characters.", secret=True)
    exotel_ticket_secret: str = text(
        "",
        "Key of the tickets that Exotel's streams must then bring in their parameters; at least 16 "
        "characters. Empty takes streams without one.",
        secret=True,
    )


SETTINGS = ExotelSettings


def carrier(settings: Settings) -> WebSocketCarrier | None:
    """Build the carrier, None without `live.exotel_user` and its password. Raises SetupError."""
    own = settings.of_carrier(ExotelSettings)
    if not (own.exotel_user or own.exotel_password):
        return None
    if not own.exotel_user or ":" in own.exotel_user:
        raise SetupError("setting live.exotel_user must be a name without a colon")
    check_password("live.exotel_password", own.exotel_password)
    if own.exotel_ticket_secret:
        check_password(_TICKET_SETTING, own.exotel_ticket_secret)

    def authenticate(request: StreamRequest) -> Adapter:
        require_password(request, own.exotel_user, own.exotel_password)
        naming = naming_of(settings, request, own.exotel_ticket_secret, _TICKET_SETTING)
        return MediaMessagesAdapter(DIALECT, naming)

    return WebSocketCarrier(authenticate=authenticate, challenge=BASIC_CHALLENGE)
