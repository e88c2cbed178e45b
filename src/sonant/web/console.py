"""The web console: its sign-in, its files, and the pages that `page.find_pages` finds.

Pages call the service's own operations for the user who is signed in: they are authorized, throttled and
recorded like every other call. Whatever another site's page has a browser send is refused, and changes need a
header that no other site can send.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from pathlib import PurePath
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from sonant.audit.record import AuditedOperation
from sonant.errors import DatabaseUnavailable, IntegrityFault, InternalServer, Throttling, UnrecognizedClient
from sonant.gateway.models import unmodelled
from sonant.gateway.recording import Recorder
from sonant.gateway.server import Gateway
from sonant.gateway.signature import Credential
from sonant.gateway.thread_pool import ThreadPool
from sonant.gateway.throttle import Throttle
from sonant.ids import new_uuid
from sonant.operations.service import Caller
from sonant.web.login_cookies import COOKIE, LIFETIME, Login, LoginCookies
from sonant.web.page import Page, PageError, PageFunction, PageRequest, find_pages
from sonant.web.same_origin import is_cross_site

log = logging.getLogger(__name__)
T = TypeVar("T")

PAGES = find_pages()
#: Prefixes of the console's paths.
PREFIXES = (*(page.prefix for page in PAGES), "/sign-in", "/sign-out", "/console/")

_MAX_FORM_BYTES, _MAX_FIELDS = 8192, 8
#: Most time for a form to arrive.
FORM_TIME_S = 30.0
_PAGE_HEADER = "x-sonant"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
#: Sign-in attempts per second from one address.
_SIGN_INS_PER_S = 20.0
#: Key ids of failed attempts that the audit trail may hold: no secret that was typed into the wrong field.
_KEY_ID = re.compile(r"[A-Z0-9]{16,128}")

#: Belongs to no service model; the name is CloudTrail's.
SIGN_IN = unmodelled("ConsoleLogin")
AUDITED_SIGN_INS = {
    SIGN_IN.target: AuditedOperation(name=SIGN_IN.name, read_only=False, request=dict, response=dict),
}


class Console:
    """Serves the sign-in and all pages; `app` is an ASGI app."""

    def __init__(
        self,
        gateway: Gateway,
        cookies: LoginCookies,
        domain_of: Callable[[str], tuple[str, str] | None],
        recorder: Recorder,
        threads: ThreadPool,
    ) -> None:
        """`domain_of` gives the Region and the id of the domain of a session id. Whatever reads the database
        runs in `threads`."""
        self._gateway, self._cookies, self._domain_of = gateway, cookies, domain_of
        self._recorder, self._threads = recorder, threads
        self._attempts = Throttle({"SignIn": _SIGN_INS_PER_S}, gateway.parts.throttle.monotonic_s)
        self._files = {
            file.name: file.read_bytes()
            for file in resources.files(__package__).joinpath("pages").iterdir()
            if file.is_file()
        }
        self._pages = Starlette(
            routes=[
                Route("/sign-in", self._sign_in_page, methods=["GET"]),
                Route("/sign-in", self._sign_in, methods=["POST"]),
                Route("/sign-out", self._sign_out, methods=["POST"]),
                Route("/console/{name}", self._file, methods=["GET"]),
                *(route for page in PAGES for route in self._routes(page)),
            ],
            exception_handlers={Throttling: _busy},
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, unless another site's page has sent it."""
        if scope["method"] == "POST" and is_cross_site(scope["headers"]):
            await _error(403, "This must come from the page.")(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    @property
    def routes(self) -> list[BaseRoute]:
        """All routes."""
        return self._pages.routes

    async def _in_thread(self, request: Request, work: Callable[..., T], *arguments: Any) -> T:
        """Call `work(request, *arguments)` in a thread, in the share of the user's account, else of the
        address."""
        account_id = self._cookies.account_of(request.cookies.get(COOKIE))
        return await self._threads.run_for(
            account_id or _client_ip(request), partial(work, request, *arguments)
        )

    def _routes(self, page: Page) -> list[Route]:
        async def show(request: Request) -> Response:
            if await self._in_thread(request, self._credential) is None:
                return RedirectResponse(f"/sign-in?next={quote(request.url.path)}", 303, headers=_HEADERS)
            return self._html(page.template)

        def route(method: str, rest: str, function: PageFunction) -> Route:
            async def answer(request: Request) -> Response:
                return await self._in_thread(request, self._answer, function)

            return Route(page.path + rest, answer, methods=[method])

        return [
            Route(page.path, show, methods=["GET"]),
            *(route(method, rest, function) for (method, rest), function in page.functions.items()),
        ]

    async def _sign_in_page(self, request: Request) -> Response:
        return self._html("sign-in.html")

    async def _sign_in(self, request: Request) -> Response:
        try:
            self._attempts.take(_client_ip(request), "SignIn")
        except Throttling:
            return _response(429, b"Too many attempts; wait a moment.", "text/plain")
        try:
            async with asyncio.timeout(FORM_TIME_S):
                form = await _read_form(request)
        except TimeoutError:
            return _response(408, b"The form did not arrive in time.", "text/plain")
        try:
            login = await self._in_thread(request, self._attempt_login, form)
        except InternalServer:
            return _response(503, b"Signing in cannot be recorded now.", "text/plain")
        next_path = _local_path(request.query_params.get("next", ""))
        if login is None:
            return RedirectResponse(f"/sign-in?failed=1&next={quote(next_path)}", 303, headers=_HEADERS)
        response = RedirectResponse(next_path, 303, headers=_HEADERS)
        response.set_cookie(
            COOKIE,
            login.cookie,
            max_age=int(LIFETIME.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    def _attempt_login(self, request: Request, form: Mapping[str, str]) -> Login | None:
        """Check the form and record the attempt.

        Raises InternalServer if it cannot be recorded, and for a user or key whose row was changed.
        """
        claimed, region = form.get("access-key-id", ""), self._gateway.parts.service.settings.region
        try:
            login = self._cookies.sign_in(
                claimed, form.get("secret-access-key", ""), form.get("session-token", "")
            )
        except IntegrityFault as fault:
            log.error("%s", fault)
            raise InternalServer from None
        self._recorder.record(
            SIGN_IN,
            request_id=new_uuid(),
            source_ip=_client_ip(request),
            headers=request.scope["headers"],
            query=b"",
            caller=None if login is None else Caller(principal=login.credential.principal, region=region),
            access_key_id=claimed if login is not None or _KEY_ID.fullmatch(claimed) else "",
            parameters={},
            result=None if login is None else {"ConsoleLogin": "Success"},
            error=UnrecognizedClient() if login is None else None,
        )
        return login

    async def _sign_out(self, request: Request) -> Response:
        try:
            await self._in_thread(request, self._end_login)
        except DatabaseUnavailable as fault:
            log.error("a login could not be ended: %s", fault)
            return _response(503, b"Signing out is not possible now; try again.", "text/plain")
        response = RedirectResponse("/sign-in", 303, headers=_HEADERS)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    def _end_login(self, request: Request) -> None:
        self._cookies.sign_out(request.cookies.get(COOKIE))

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        media_type = _MEDIA_TYPES.get(PurePath(name).suffix)
        if name not in self._files or media_type is None:
            return _response(404, b"There is no such page.", "text/plain")
        return _response(200, self._files[name], media_type)

    def _credential(self, request: Request) -> Credential | None:
        """Return who is signed in; nobody by a user or key whose row was changed."""
        try:
            return self._cookies.credential_of(request.cookies.get(COOKIE))
        except IntegrityFault as fault:
            log.error("%s", fault)
            return None

    def _answer(self, request: Request, function: PageFunction) -> Response:
        """Answer a request of a page's script for the user who is signed in."""
        credential = self._credential(request)
        if credential is None:
            return _error(401, "Sign in again.")
        if request.method == "POST" and request.headers.get(_PAGE_HEADER) != "1":
            return _error(403, "This must come from the page.")
        asked = PageRequest(
            parameters=request.path_params,
            region=self._gateway.parts.service.settings.region,
            domain_of=self._domain_of,
            call=partial(self._call, credential, request),
        )
        try:
            return _response(200, orjson.dumps(function(asked)), "application/json")
        except PageError as error:
            return _error(error.http_status, str(error))

    def _call(
        self,
        credential: Credential,
        request: Request,
        region: str,
        operation: str,
        parameters: Mapping[str, Any],
    ) -> dict[str, Any]:
        body = self._gateway.call_internal(
            Caller(principal=credential.principal, region=region),
            credential.access_key_id,
            operation,
            parameters,
            headers=request.scope["headers"],
            source_ip=_client_ip(request),
            secure=request.url.scheme == "https",
            polled=request.method == "GET",
        )
        answer: dict[str, Any] = orjson.loads(body)
        return answer

    def _html(self, name: str) -> Response:
        return _response(200, self._files[name], "text/html; charset=utf-8")


async def _busy(_request: Request, _throttling: Exception) -> Response:
    return _error(429, "The service is busy; ask again in a moment.")


def _error(status: int, message: str) -> Response:
    return _response(status, orjson.dumps({"message": message}), "application/json")


def _response(status: int, body: bytes, content_type: str) -> Response:
    return Response(body, status, headers=_HEADERS, media_type=content_type)


def _client_ip(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _local_path(path: str) -> str:
    """The path if it is that of a page, else the sign-in page: never another site's address."""
    return path if any(page.has(path) for page in PAGES) else "/sign-in?signed=1"


async def _read_form(request: Request) -> dict[str, str]:
    """Read the fields of a posted form; none if it is larger than the sign-in form can be."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM_BYTES:
            return {}
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=_MAX_FIELDS)
    except ValueError:  # more fields than the form has
        return {}
    return {name: values[0] for name, values in fields.items()}
