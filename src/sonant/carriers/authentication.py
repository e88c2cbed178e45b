"""Check the credentials in the request that opens a carrier's WebSocket."""

from __future__ import annotations

import base64
import binascii
import hmac

from sonant.carriers.request import StreamRequest
from sonant.errors import AccessDenied

#: WWW-Authenticate of the response to a request without its password.
BASIC_CHALLENGE = b'Basic realm="sonant", charset="UTF-8"'
_BASIC, _BEARER = b"basic ", b"bearer "


def require_password(request: StreamRequest, user: str, password: str) -> None:
    """Check a user name and password (HTTP Basic, RFC 7617). Raises AccessDenied."""
    header = request.header(b"authorization")
    try:
        given = base64.b64decode(header[len(_BASIC) :].strip(), validate=True)
    except (binascii.Error, ValueError):
        given = b""
    right = hmac.compare_digest(given, f"{user}:{password}".encode())
    if not right or header[: len(_BASIC)].lower() != _BASIC:
        raise AccessDenied("The user name or password is not the one that was set.")


def require_token(request: StreamRequest, token: str) -> None:
    """Check a bearer token (RFC 6750), also one that stands in the header alone. Raises AccessDenied."""
    header = request.header(b"authorization")
    given = header[len(_BEARER) :].strip() if header[: len(_BEARER)].lower() == _BEARER else header.strip()
    if not hmac.compare_digest(given, token.encode()):
        raise AccessDenied("The token is not the one that was set.")


def request_url(request: StreamRequest) -> str:
    """Return the URL that a carrier connected to, unless a proxy has changed it."""
    scheme = "wss" if request.secure else "ws"
    query = f"?{request.query.decode('latin-1')}" if request.query else ""
    host, path = request.header(b"host").decode("latin-1"), request.raw_path.decode("latin-1")
    return f"{scheme}://{host}{path}{query}"
