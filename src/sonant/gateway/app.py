"""The service as an ASGI app: routes, and the exchange of one API request and its response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from sonant.addresses import Network
from sonant.errors import BodyTooLarge, SerializationFault, WireError
from sonant.gateway.forwarded import behind_proxies
from sonant.gateway.handlers import misdirected_error
from sonant.gateway.health import Health
from sonant.gateway.request_context import RequestContext
from sonant.gateway.server import Gateway, error_response

#: How long a client may take to send its body.
BODY_TIME_S = 30.0


def asgi_app(
    gateway: Gateway,
    *more: BaseRoute,
    health: Health,
    lifespan: Lifespan[Starlette] | None = None,
    console: tuple[tuple[str, ...], ASGIApp] | None = None,
    trusted: Sequence[Network] = (),
) -> ASGIApp:
    """Put the service together: Starlette's pages and WebSockets, and the AWS endpoint everywhere else.

    While `health` drains, every response closes its connection. `console` is an app and the prefixes of its
    paths. `trusted` are the networks of proxies. The endpoint comes before Starlette, whose layers would cost
    each request as much as its own work.
    """
    routes: list[BaseRoute] = [*health.routes(), *more]
    pages = Starlette(routes=routes, lifespan=lifespan)
    page_routes = frozenset(
        (method, route.path) for route in routes if isinstance(route, Route) for method in route.methods or ()
    )
    endpoint = aws_endpoint(gateway)
    prefixes, console_app = ((), endpoint) if console is None else console

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await pages(scope, receive, send)
            return
        if health.draining:
            send = _closing(send)
        if scope["path"].startswith(prefixes) or (prefixes and is_browser(scope)):
            await unless_aborted(console_app, scope, receive, send)
        elif (scope["method"], scope["path"]) in page_routes:
            await unless_aborted(pages, scope, receive, send)
        else:
            await endpoint(scope, receive, send)

    return behind_proxies(app, trusted)


def is_browser(scope: Scope) -> bool:
    """Return whether a person has opened the service's address in a browser. No AWS client asks for HTML."""
    if scope["path"] != "/" or scope["method"] != "GET":
        return False
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


async def unless_aborted(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a page. A client that leaves in the middle of its request is no failure: connections count it."""
    with suppress(ClientDisconnect):
        await app(scope, receive, send)


def aws_endpoint(gateway: Gateway) -> ASGIApp:
    """Make the ASGI app that has `gateway` answer API requests."""
    max_body_bytes = gateway.limits.max_body_bytes

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        request = RequestContext(
            method=scope["method"],
            path=(scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0],
            query=scope["query_string"],
            headers=scope["headers"],
            source_ip=(scope.get("client") or ("",))[0],
            secure=scope["scheme"] == "https",
        )
        try:
            request.body = await _read_body(request, receive, max_body_bytes)
            request.received_s = time.perf_counter()
            status, content_type, body = await gateway.respond(request)
        except BodyTooLarge as error:
            status, content_type, body = error_response(misdirected_error(request) or error)
        except WireError as error:
            status, content_type, body = error_response(error)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", content_type.encode()),
                    (b"content-length", str(len(body)).encode()),
                    (b"x-amzn-requestid", request.request_id.encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})

    return endpoint


async def _read_body(request: RequestContext, receive: Receive, max_bytes: int) -> bytes:
    """The whole body. Raises BodyTooLarge, and SerializationFault for one that breaks off or comes too
    slowly."""
    length = request.header(b"content-length")
    if length is not None and length.isdigit() and int(length[:20]) > max_bytes:
        raise BodyTooLarge(f"The body is larger than {max_bytes} bytes.")
    pieces, size = [], 0
    try:
        # One limit around the loop: setting one costs more than receiving a body that has arrived.
        async with asyncio.timeout(BODY_TIME_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise SerializationFault("The connection broke off in the middle of the body")
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                if size > max_bytes:
                    raise BodyTooLarge(f"The body is larger than {max_bytes} bytes.")
                if not message.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError:
        raise SerializationFault(f"The body did not arrive within {BODY_TIME_S:.0f} seconds") from None


def _closing(send: Send) -> Send:
    """Close the connection after this response: the client's next request goes to another process."""

    async def send_closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"]
            message = {**message, "headers": [*headers, (b"connection", b"close")]}
        await send(message)

    return send_closing
