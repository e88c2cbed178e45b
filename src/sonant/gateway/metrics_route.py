"""`GET /metrics`: requires a bearer token, or that the service listens on a loopback address only."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from sonant.addresses import is_loopback
from sonant.errors import SetupError, Throttling
from sonant.gateway.thread_pool import ThreadPool
from sonant.settings import Settings

PATH = "/metrics"
#: Headers that show a proxy in between.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def check_metrics(settings: Settings) -> None:
    """Raise SetupError for settings that would publish metrics to the network without a token."""
    if settings.metrics.enabled and not settings.metrics.token and not is_loopback(settings.gateway.host):
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


def may_know_reasons(settings: Settings) -> Callable[[HttpRequest], bool]:
    """Decide who is told why the service is not ready: whoever sends the metrics' token.

    Without a token, clients on the same machine, unless a proxy may stand between.
    """
    token = settings.metrics.token
    expected = f"Bearer {token}".encode()
    local = is_loopback(settings.gateway.host) and not settings.gateway.trusted_proxies

    def may_know(request: HttpRequest) -> bool:
        if token:
            given = request.headers.get("authorization", "").encode("latin-1")
            return hmac.compare_digest(given, expected)
        forwarded = any(name in request.headers for name in _FORWARDED)
        return local and not forwarded and request.client is not None and is_loopback(request.client.host)

    return may_know
