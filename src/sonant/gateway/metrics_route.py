"""`GET /metrics`: requires a bearer token, or that the service listens on a loopback address only."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from sonant.errors import SetupError, Throttling
from sonant.gateway.thread_pool import ThreadPool
from sonant.settings import Settings

PATH = "/metrics"


def check_metrics(settings: Settings) -> None:
    """Raise SetupError for settings that would publish metrics to the network without a token."""
    if settings.metrics.enabled and not settings.metrics.token and not _loopback(settings.gateway.host):
        raise SetupError(
            f"metrics are enabled and the service listens on {settings.gateway.host}: "
            "set metrics.token, or listen on a loopback address"
        )


def metrics_route(render: Callable[[], bytes], content_type: str, token: str, threads: ThreadPool) -> Route:
    """Make the route. `render` reads the database, so it runs in `threads`."""
    expected = f"Bearer {token}".encode()

    async def scrape(request: HttpRequest) -> Response:
        given = request.headers.get("authorization", "").encode("latin-1")
        if token and not hmac.compare_digest(given, expected):
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        try:
            body = await threads.run(render)
        except Throttling:
            return Response(status_code=503)
        return Response(body, headers={"Content-Type": content_type})

    return Route(PATH, scrape, methods=["GET"])


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
