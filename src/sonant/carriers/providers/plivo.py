"""Plivo audio streaming: JSON over a WebSocket, mu-law or linear samples in base64 (Plivo docs, "Audio
Streaming Protocol Reference"). There is no `connected`.

The URL in `<Stream>` holds `domain`, `session` and `speaker`; `extraHeaders` may, too, but allows letters and
digits only. Plivo signs the request that opens the WebSocket, with its URL and a nonce (Plivo docs,
"Signature validation", version 3). So the URL's parameters can be trusted, and each signature opens one
stream.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from sonant.carriers.authentication import request_url
from sonant.carriers.carrier import Adapter, WebSocketCarrier, check_password
from sonant.carriers.media_messages import Dialect, MediaMessagesAdapter
from sonant.carriers.naming import naming_of
from sonant.carriers.request import StreamRequest
from sonant.errors import AccessDenied
from sonant.sessions.calls import StreamGrant
from sonant.settings import Settings
from sonant.settings.declaration import text

_SEPARATORS, _EQUALS = re.compile(r"[;,]"), re.compile(r"[=:]")
#: Before the names of headers that a program has chosen.
_PREFIX = re.compile(r"^x-ph-", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlivoSettings:
    """Settings of Plivo's streams."""

    plivo_token: str = text(
        "",
        "Auth token of the Plivo account whose audio streams are accepted; empty accepts none.",
        secret=True,
    )
    plivo_url: str = text(
        "",
        "URL of the stream without its query, as in `<Stream>`, for its signature; empty means that of the "
        "request.",
    )


SETTINGS = PlivoSettings


def carrier(settings: Settings) -> WebSocketCarrier | None:
    """Build the carrier, None without `live.plivo_token`. Raises SetupError."""
    own = settings.of_carrier(PlivoSettings)
    if not own.plivo_token:
        return None
    check_password("live.plivo_token", own.plivo_token)

    def authenticate(request: StreamRequest) -> Adapter:
        query = f"?{request.query.decode('latin-1')}" if request.query else ""
        url = f"{own.plivo_url}{query}" if own.plivo_url else request_url(request)
        nonce = request.header(b"x-plivo-signature-v3-nonce").decode("latin-1")
        expected = signature(own.plivo_token, url, nonce).encode()
        given = request.header(b"x-plivo-signature-v3").split(b",")
        if not nonce or not any(hmac.compare_digest(one.strip(), expected) for one in given):
            raise AccessDenied("The signature is not the one that the auth token gives for this URL.")
        naming = naming_of(settings, request, grant=StreamGrant.of("plivo", nonce))
        return MediaMessagesAdapter(DIALECT, naming)

    return WebSocketCarrier(authenticate=authenticate)


def signature(auth_token: str, url: str, nonce: str) -> str:
    """Compute X-Plivo-Signature-V3 of a GET of this URL; its query is signed in the order of the names."""
    parts = urlsplit(url)
    pairs = sorted(parse_qsl(parts.query, keep_blank_values=True))
    query = "?" + "&".join(f"{name}={value}" for name, value in pairs) if pairs else ""
    signed = f"{parts.scheme}://{parts.netloc}{parts.path}{query}.{nonce}"
    return base64.b64encode(hmac.digest(auth_token.encode(), signed.encode(), hashlib.sha256)).decode()


def _parameters(message: dict[str, Any]) -> object:
    """Return the extra headers: an object, or a text of it or of pairs such as `speaker=4711;session=17` and
    `{X-PH-speaker: 4711}`. Plivo puts its prefix before the names."""
    given = message.get("extra_headers")
    if isinstance(given, str):
        given = _object(given) or _pairs(given)
    if not isinstance(given, dict):
        return given
    return {_PREFIX.sub("", name): value for name, value in given.items()}


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _pairs(text: str) -> dict[str, str]:
    pairs = (_EQUALS.split(part, maxsplit=1) for part in _SEPARATORS.split(text.strip().strip("{}")))
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) > 1}


DIALECT = Dialect(
    title="Plivo",
    stream="streamId",
    calls=("callId",),
    media_format="mediaFormat",
    rate="sampleRate",
    encodings=frozenset(("mulaw", "pcm_s16le")),
    parameters=_parameters,
)
