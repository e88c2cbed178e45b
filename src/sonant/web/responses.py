"""Responses of the console, all with its security headers, and the forms that it reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HTML = "text/html; charset=utf-8"
#: What a browser may be told to name a file.
_FILE_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)


def respond(status: int, body: bytes, content_type: str) -> Response:
    """Make a response."""
    return Response(body, status, headers=dict(HEADERS), media_type=content_type)


def respond_page(status: int, body: bytes) -> Response:
    """Make the response of a rendered page."""
    return respond(status, body, _HTML)


def respond_error(status: int, message: str) -> Response:
    """Make the response of an error for a page's script."""
    return respond(status, orjson.dumps({"message": message}), "application/json")


def respond_file(name: str, content: bytes, media_type: str) -> Response:
    """Make the response of a file that the browser keeps."""
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a file")
    response = respond(200, content, media_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def redirect(path: str) -> Response:
    """Send the browser on to a page, with GET."""
    return RedirectResponse(path, 303, headers=dict(HEADERS))


def client_ip(request: Request) -> str:
    return request.client.host if request.client is not None else ""


async def read_form(request: Request, *, max_bytes: int, max_fields: int) -> dict[str, str]:
    """Read the fields of a posted form, without spaces at their ends; none if it is larger than a page's."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            return {}
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=max_fields)
    except ValueError:  # more fields than the form has
        return {}
    return {name: values[0].strip() for name, values in fields.items()}
