"""Carriers that bring calls over WebSockets of their own, and how each shows that it is the one that was set
up. One that is not set up has no route.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sonant.carriers.adapter import Adapter
from sonant.carriers.asterisk import SUBPROTOCOL, AsteriskAdapter
from sonant.carriers.audiohook import AudioHookAdapter
from sonant.carriers.audiohook_signature import HookRequest, check_request
from sonant.carriers.request import StreamRequest
from sonant.carriers.twilio import TwilioAdapter, signature
from sonant.errors import AccessDenied, SetupError, Validation
from sonant.sessions.calls import StreamFault
from sonant.settings import Live, Settings

LEAST_PASSWORD_CHARACTERS = 16
_BASIC = b"basic "


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """One kind of carrier. `greet` raises AccessDenied for strangers."""

    name: str
    """Last part of its path, and of its name in the audit trail."""
    greet: Callable[[StreamRequest], Adapter]
    subprotocol: str | None = None
    """Agreed to if offered."""
    challenge: bytes | None = None
    """WWW-Authenticate of the answer to strangers."""


def carriers(settings: Settings, clock: Callable[[], datetime]) -> list[Carrier]:
    """Those that the settings name. Raises SetupError for one that anybody could pass for."""
    live, found = settings.live, []
    if live.twilio_token:
        found.append(_twilio(settings))
    if live.audiohook_key or live.audiohook_secret:
        found.append(_audiohook(settings, clock))
    if live.asterisk_user or live.asterisk_password:
        found.append(_asterisk(settings))
    return found


def check_password(setting: str, password: str) -> None:
    """Raises SetupError for a password that could be guessed."""
    if len(password) < LEAST_PASSWORD_CHARACTERS:
        raise SetupError(f"setting {setting} must have at least {LEAST_PASSWORD_CHARACTERS} characters")


def _twilio(settings: Settings) -> Carrier:
    live = settings.live
    check_password("live.twilio_token", live.twilio_token)

    def greet(request: StreamRequest) -> Adapter:
        url = live.twilio_url or _url(request)
        shown = request.header(b"x-twilio-signature")
        if not hmac.compare_digest(shown, signature(live.twilio_token, url).encode()):
            raise AccessDenied("The signature is not the one that the auth token gives for this URL.")
        return TwilioAdapter(settings.account, live.domain)

    return Carrier(name="twilio", greet=greet)


def _url(request: StreamRequest) -> str:
    """As the carrier was told it, if no proxy has changed it on the way."""
    scheme = "wss" if request.secure else "ws"
    query = f"?{request.query.decode('latin-1')}" if request.query else ""
    host, path = request.header(b"host").decode("latin-1"), request.raw_path.decode("latin-1")
    return f"{scheme}://{host}{path}{query}"


def _audiohook(settings: Settings, clock: Callable[[], datetime]) -> Carrier:
    live = settings.live
    check_password("live.audiohook_key", live.audiohook_key)

    def greet(request: StreamRequest) -> Adapter:
        query = b"?" + request.query if request.query else b""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        asked = HookRequest(target=(request.raw_path + query).decode("latin-1"), headers=headers)
        try:
            check_request(asked, key=live.audiohook_key, secret=live.audiohook_secret, now=clock())
        except StreamFault as fault:
            raise AccessDenied(f"{fault}.") from None
        return AudioHookAdapter(
            settings.account,
            live.domain,
            headers.get("audiohook-organization-id", ""),
            headers.get("audiohook-session-id", ""),
        )

    return Carrier(name="audiohook", greet=greet)


def _asterisk(settings: Settings) -> Carrier:
    live = settings.live
    if not live.asterisk_user or ":" in live.asterisk_user:
        raise SetupError("setting live.asterisk_user must be a name without a colon")
    check_password("live.asterisk_password", live.asterisk_password)

    def greet(request: StreamRequest) -> Adapter:
        if not _knows_password(request, live):
            raise AccessDenied("The user name or password is not the one that was set.")
        given = request.parameters()
        if unknown := given.keys() - {"domain", "session", "speaker"}:
            raise Validation(
                f"{len(unknown)} query parameters are not known; known: domain, session, speaker"
            )
        return AsteriskAdapter(settings.account, live.domain, given)

    return Carrier(
        name="asterisk",
        greet=greet,
        subprotocol=SUBPROTOCOL,
        challenge=b'Basic realm="sonant", charset="UTF-8"',
    )


def _knows_password(request: StreamRequest, live: Live) -> bool:
    shown = request.header(b"authorization")
    wanted = f"{live.asterisk_user}:{live.asterisk_password}".encode()
    try:
        given = base64.b64decode(shown[len(_BASIC) :].strip(), validate=True)
    except (binascii.Error, ValueError):
        given = b""
    return hmac.compare_digest(given, wanted) and shown[: len(_BASIC)].lower() == _BASIC
