"""The web console: its sign-in, its files, and the pages that `page.find_pages` finds.

Pages call the service's own operations for the user who is signed in: they are authorized, throttled and
recorded like every other call. Whatever another site's page has a browser send is refused, and changes need a
header or a token that no other site can send.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import PurePath
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from sonant.errors import DatabaseUnavailable, IntegrityFault, InternalServer, Throttling
from sonant.gateway.recording import Recorder
from sonant.gateway.server import Gateway
from sonant.gateway.thread_pool import ThreadPool
from sonant.operations.service import Caller
from sonant.web.domain_names import DomainNames
from sonant.web.login_cookies import COOKIE, Login, LoginCookies
from sonant.web.page import (
    Download,
    Form,
    Page,
    PageError,
    PageFunction,
    PageRead,
    PageRequest,
    SeeOther,
    find_pages,
)
from sonant.web.provider import OpenIdProvider
from sonant.web.provider_sign_in import ProviderSignIn
from sonant.web.rendering import Templates, with_query
from sonant.web.responses import (
    client_ip,
    read_form,
    redirect,
    respond,
    respond_error,
    respond_file,
    respond_page,
)
from sonant.web.same_origin import is_cross_site
from sonant.web.sign_in import AUDITED_SIGN_INS, SignIn
from sonant.web.texts import DONE, choose_language, translate

__all__ = ["AUDITED_SIGN_INS", "FORM_TIME_S", "PREFIXES", "Console"]

log = logging.getLogger(__name__)
T = TypeVar("T")

PAGES = find_pages()
#: The page that follows signing in, where no other was asked for.
HOME = "/console/"
#: Prefixes of the console's paths.
PREFIXES = tuple(dict.fromkeys((*(page.prefix for page in PAGES), "/sign-in", "/sign-out", HOME)))

_MAX_FORM_BYTES, _MAX_FIELDS = 8192, 32
#: Most time for a form to arrive.
FORM_TIME_S = 30.0
_PAGE_HEADER = "x-sonant"
#: Sent by the script that shows a page anew: such a request is no sign of a user.
_REFRESH_HEADER = "x-sonant-refresh"
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Whether a user has just authenticated again, and how to."""

    given: bool = False
    link: str = ""
    """Where a user of a provider does it; empty for one who gives the secret of the access key."""


class Console:
    """Serves the sign-in and all pages; `app` is an ASGI app."""

    def __init__(
        self,
        gateway: Gateway,
        cookies: LoginCookies,
        domain_of: Callable[[str], tuple[str, str] | None],
        recorder: Recorder,
        threads: ThreadPool,
        provider: OpenIdProvider | None = None,
    ) -> None:
        """`domain_of` gives the Region and the id of the domain of a session id. Whatever reads the database
        or asks the provider runs in `threads`."""
        self._gateway, self._cookies, self._domain_of = gateway, cookies, domain_of
        self._threads, self._settings = threads, gateway.parts.service.settings
        self._names = DomainNames()
        self._sign_in = SignIn(cookies, recorder, self._settings.region, gateway.parts.throttle)
        self._provided = (
            None
            if provider is None
            else ProviderSignIn(provider, cookies, self._sign_in, self._show_signed_in)
        )
        self._files = {
            file.name: file.read_bytes()
            for file in resources.files(__package__).joinpath("pages").iterdir()
            if file.is_file()
        }
        self._templates = Templates(
            {name: data.decode() for name, data in self._files.items() if name.endswith(".html")}
        )
        self._pages = Starlette(
            routes=[
                Route("/", self._show_first, methods=["GET"]),
                Route("/sign-in", self._show_sign_in, methods=["GET"]),
                Route("/sign-in", self._post_sign_in, methods=["POST"]),
                Route("/sign-in/provider", self._leave_to_provider, methods=["GET"]),
                Route("/sign-in/return", self._come_back, methods=["GET"]),
                Route("/sign-out", self._post_sign_out, methods=["POST"]),
                *(route for page in PAGES for route in self._routes(page)),
                Route("/console/{name}", self._file, methods=["GET"]),
            ],
            exception_handlers={
                Throttling: _busy,
                404: self._no_page,
                405: self._no_page,
                DatabaseUnavailable: self._away,
                IntegrityFault: self._broken,
                Exception: self._broken,
            },
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, unless another site's page has sent it."""
        if scope["method"] == "POST" and is_cross_site(scope["headers"]):
            await respond_error(403, "This must come from the page.")(scope, receive, send)
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
            account_id or client_ip(request), partial(work, request, *arguments)
        )

    def _routes(self, page: Page) -> list[Route]:
        async def show(request: Request) -> Response:
            return await self._in_thread(request, self._show, page)

        def function(method: str, rest: str, answer: PageFunction) -> Route:
            async def call(request: Request) -> Response:
                return await self._in_thread(request, self._answer, answer)

            return Route(page.path + rest, call, methods=[method])

        def form(rest: str, one: Form) -> Route:
            async def post(request: Request) -> Response:
                return await self._post(request, page, one)

            return Route(page.path + rest, post, methods=["POST"])

        def file(rest: str, make: Callable[[PageRequest], Download]) -> Route:
            async def download(request: Request) -> Response:
                return await self._in_thread(request, self._download, page, make)

            return Route(page.path + rest, download, methods=["GET"])

        return [
            Route(page.path, show, methods=["GET"]),
            *(function(method, rest, one) for (method, rest), one in page.functions.items()),
            *(form(rest, one) for rest, one in page.forms.items()),
            *(file(rest, one) for rest, one in page.files.items()),
        ]

    async def _show_first(self, _request: Request) -> Response:
        return redirect(HOME)

    # --- signing in and out

    async def _show_sign_in(self, request: Request) -> Response:
        after = _local_path(request.query_params.get("next", ""))
        failed = request.query_params.get("failed", "")
        values = {"after": after, "failed": failed, "provider": self._provided is not None}
        return respond_page(200, self._templates.render("sign-in.html", _language(request), values))

    async def _post_sign_in(self, request: Request) -> Response:
        try:
            self._sign_in.take(request)
        except Throttling:
            return respond(429, b"Too many attempts; wait a moment.", "text/plain")
        form = await self._form(request)
        if form is None:
            return respond(408, b"The form did not arrive in time.", "text/plain")
        try:
            login = await self._in_thread(request, self._sign_in.attempt, form)
        except InternalServer:
            return respond(503, b"Signing in cannot be recorded now.", "text/plain")
        after = _local_path(request.query_params.get("next", ""))
        if login is None:
            return redirect(f"/sign-in?failed=1&next={quote(after)}")
        return self._sign_in.set_cookie(request, redirect(after), login.ticket)

    async def _leave_to_provider(self, request: Request) -> Response:
        if self._provided is None:
            return await self._no_page(request, None)
        self._sign_in.take(request)
        after = _local_path(request.query_params.get("next", ""))
        leave = partial(self._provided.leave, confirm="confirm" in request.query_params)
        return await self._in_thread(request, leave, after)

    async def _come_back(self, request: Request) -> Response:
        if self._provided is None:
            return await self._no_page(request, None)
        self._sign_in.take(request)
        try:
            return await self._in_thread(request, self._provided.come_back)
        except InternalServer:
            return respond(503, b"Signing in cannot be recorded now.", "text/plain")

    def _show_signed_in(self, request: Request, after: str) -> Response:
        values = {"after": _local_path(after)}
        return respond_page(200, self._templates.render("signed-in.html", _language(request), values))

    async def _form(self, request: Request) -> dict[str, str] | None:
        """Read a posted form; None for one that does not arrive in time."""
        try:
            async with asyncio.timeout(FORM_TIME_S):
                return await read_form(request, max_bytes=_MAX_FORM_BYTES, max_fields=_MAX_FIELDS)
        except TimeoutError:
            return None

    async def _post_sign_out(self, request: Request) -> Response:
        form = await self._form(request) or {}
        try:
            await self._in_thread(request, self._end_login, "everywhere" in form)
        except DatabaseUnavailable as fault:
            log.error("a login could not be ended: %s", fault)
            return respond(503, b"Signing out is not possible now; try again.", "text/plain")
        response = redirect("/sign-in")
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    def _end_login(self, request: Request, everywhere: bool) -> None:
        cookie = request.cookies.get(COOKIE)
        login = self._sign_in.login_of(request) if everywhere else None
        if login is not None:
            self._cookies.end_all(login.ticket.access_key_id)
        self._cookies.sign_out(cookie)

    # --- files and pages

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        media_type = _MEDIA_TYPES.get(PurePath(name).suffix)
        if name not in self._files or media_type is None:
            return await self._no_page(request, None)
        return respond(200, self._files[name], media_type)

    async def _no_page(self, request: Request, _fault: object) -> Response:
        return self._error_page(request, 404, "There is no such page.")

    async def _away(self, request: Request, fault: Exception) -> Response:
        log.error("the console cannot answer: %s", fault)
        return self._failure(request, 503, "The service cannot answer now; try again in a moment.")

    async def _broken(self, request: Request, fault: Exception) -> Response:
        if isinstance(fault, IntegrityFault):
            log.error("%s", fault)  # the traceback of any other is the server's
        return self._failure(request, 500, "The service has failed; its log says why.")

    def _failure(self, request: Request, status: int, message: str) -> Response:
        """Make the answer to a request that failed, for its page's script or as a page."""
        if _PAGE_HEADER in request.headers or _REFRESH_HEADER in request.headers:
            return respond_error(status, message)
        return self._error_page(request, status, message)

    def _error_page(
        self, request: Request, status: int, message: str, login: Login | None = None
    ) -> Response:
        values = {**self._frame(request, login), "status": status, "message": message}
        return respond_page(status, self._templates.render("error.html", _language(request), values))

    def _show(self, request: Request, page: Page) -> Response:
        login = self._sign_in.login_of(request)
        if login is None:
            if _REFRESH_HEADER in request.headers:
                return respond_error(401, "Sign in again.")
            where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return redirect(f"/sign-in?next={quote(where)}")
        if page.read is None:
            return self._renew(request, login, respond_page(200, self._files[page.template]))
        return self._renew(request, login, self._rendered(request, login, page, page.read))

    def _rendered(
        self,
        request: Request,
        login: Login,
        page: Page,
        read: PageRead,
        form: Mapping[str, str] | None = None,
        problem: PageError | None = None,
    ) -> Response:
        """Render a page; with the fields and the problem of a form that was refused."""
        try:
            asked = self._asked(request, login, form or {})
            values = read(asked)
        except PageError as error:
            return self._error_page(request, error.http_status, str(error), login)
        frame = self._frame(request, login, page, self._names.of(login.credential.principal.arn, asked))
        if problem is not None:
            frame["problem"] = str(problem)
        shown = {name: value for name, value in (form or {}).items() if "secret" not in name}
        body = self._templates.render(
            page.template, _language(request), {**frame, "form": shown, "asked": asked, **values}
        )
        return respond_page(200 if problem is None else problem.http_status, body)

    def _frame(
        self, request: Request, login: Login | None, page: Page | None = None, domain_name: str = ""
    ) -> dict[str, Any]:
        """Return the values that every page's layout needs."""
        region, domain = (request.path_params.get(name) for name in ("region", "domain"))
        base = f"/console/{region}/{domain}" if region and domain else None
        section = "" if page is None else page.section or (page.navigation.label if page.navigation else "")
        done = DONE.get(request.query_params.get("done", ""))
        language = _language(request)
        return {
            "base": base,
            "domain_name": domain_name or domain,
            "region": region or self._settings.region,
            "home": HOME,
            "navigation": [] if base is None else _entries(request.path_params, section),
            "user": None if login is None else login.ticket.person or login.credential.principal.name,
            "token": "" if login is None else self._cookies.form_token(login.ticket.login_id),
            "confirmed": self._confirmation(request, login),
            "done": done and translate(language, done),
            "problem": None,
            "now": self._cookies.clock(),
        }

    def _confirmation(self, request: Request, login: Login | None) -> Confirmation:
        if login is None:
            return Confirmation()
        path = request.url.path
        if request.method == "POST":  # a form that was refused: its page is shown again
            path = path.rpartition("/")[0]
        provided = f"/sign-in/provider?confirm=1&next={quote(path)}" if login.ticket.subject else ""
        return Confirmation(given=self._cookies.confirmed(login.ticket), link=provided)

    def _renew(self, request: Request, login: Login, response: Response) -> Response:
        """Renew the cookie of a login that is used, unless a page's own refresh is all that uses it."""
        if _REFRESH_HEADER in request.headers:
            return response
        ticket = self._cookies.renewed(login.ticket)
        return response if ticket is None else self._sign_in.set_cookie(request, response, ticket)

    # --- forms, files and functions of pages

    async def _post(self, request: Request, page: Page, form: Form) -> Response:
        fields = await self._form(request)
        if fields is None:
            return respond(408, b"The form did not arrive in time.", "text/plain")
        if form.destroys and fields.get("secret-access-key"):
            try:
                self._sign_in.take(request)
            except Throttling:
                return respond(429, b"Too many attempts; wait a moment.", "text/plain")
        return await self._in_thread(request, self._submit, page, form, fields)

    def _submit(self, request: Request, page: Page, form: Form, fields: Mapping[str, str]) -> Response:
        login = self._sign_in.login_of(request)
        if login is None:
            return redirect(f"/sign-in?next={quote(request.url.path.rpartition('/')[0])}")
        if not self._cookies.is_form_token(login.ticket.login_id, fields.get("token", "")):
            message = "The form is not of this session. Open the page again and repeat what you did."
            return self._error_page(request, 403, message, login)
        ticket = self._cookies.renewed(login.ticket)
        try:
            if form.destroys and not self._cookies.confirmed(login.ticket):
                ticket = self._sign_in.confirm(request, login, fields.get("secret-access-key", ""))
                if ticket is None and login.ticket.subject:
                    raise PageError(403, "Sign in again to confirm this. Nothing was changed.")
                if ticket is None:
                    raise PageError(403, "That is not the secret of your access key. Nothing was changed.")
            response = _follow(form.submit(self._asked(request, login, fields)))
        except PageError as error:
            if page.read is None:
                response = self._error_page(request, error.http_status, str(error), login)
            else:
                response = self._rendered(request, login, page, page.read, fields, error)
        except InternalServer:
            return self._error_page(request, 503, "This cannot be recorded now, so nothing was done.", login)
        return response if ticket is None else self._sign_in.set_cookie(request, response, ticket)

    def _download(self, request: Request, page: Page, make: Callable[[PageRequest], Download]) -> Response:
        login = self._sign_in.login_of(request)
        if login is None:
            return redirect(f"/sign-in?next={quote(request.url.path.rpartition('/')[0])}")
        try:
            made = make(self._asked(request, login, {}))
        except PageError as error:
            return self._error_page(request, error.http_status, str(error), login)
        return self._renew(request, login, respond_file(made.name, made.content, made.media_type))

    def _answer(self, request: Request, function: PageFunction) -> Response:
        """Answer a request of a page's script for the user who is signed in."""
        login = self._sign_in.login_of(request)
        if login is None:
            return respond_error(401, "Sign in again.")
        if request.method == "POST" and request.headers.get(_PAGE_HEADER) != "1":
            return respond_error(403, "This must come from the page.")
        try:
            answer = function(self._asked(request, login, {}, polled=request.method == "GET"))
        except PageError as error:
            return respond_error(error.http_status, str(error))
        return self._renew(request, login, respond(200, orjson.dumps(answer), "application/json"))

    def _asked(
        self, request: Request, login: Login, form: Mapping[str, str], *, polled: bool = False
    ) -> PageRequest:
        """Build what a page gets. Raises PageError for a Region that is not served."""
        if request.path_params.get("region", self._settings.region) not in self._settings.served_regions:
            raise PageError(404, "The service does not serve this Region.")
        return PageRequest(
            parameters=request.path_params,
            region=request.path_params.get("region", self._settings.region),
            regions=self._settings.served_regions,
            domain_of=self._domain_of,
            call=partial(self._call, login, request, polled or _REFRESH_HEADER in request.headers),
            query={name: value.strip() for name, value in request.query_params.items() if value.strip()},
            form=form,
            now=self._cookies.clock(),
        )

    def _call(
        self,
        login: Login,
        request: Request,
        polled: bool,
        region: str,
        operation: str,
        parameters: Mapping[str, Any],
    ) -> dict[str, Any]:
        credential = login.credential
        body = self._gateway.call_internal(
            Caller(principal=credential.principal, region=region),
            credential.access_key_id,
            operation,
            parameters,
            headers=request.scope["headers"],
            source_ip=client_ip(request),
            secure=request.url.scheme == "https",
            polled=polled,
        )
        answer: dict[str, Any] = orjson.loads(body) if body else {}
        return answer


def _entries(parameters: Mapping[str, str], section: str) -> list[dict[str, Any]]:
    """Return the entries of the navigation, in order."""
    found = [(page.navigation, page.path) for page in PAGES if page.navigation is not None]
    return [
        {
            "label": entry.label,
            "path": path.format(region=parameters["region"], domain=parameters["domain"]),
            "here": entry.label == section,
        }
        for entry, path in sorted(found, key=lambda one: one[0].order)
    ]


async def _busy(_request: Request, _throttling: Exception) -> Response:
    return respond_error(429, "The service is busy; ask again in a moment.")


def _follow(done: SeeOther | Download) -> Response:
    if isinstance(done, Download):
        return respond_file(done.name, done.content, done.media_type)
    return redirect(with_query(done.path, done=done.done))


def _language(request: Request) -> str:
    return choose_language(request.headers.get("accept-language", ""))


def _local_path(path: str) -> str:
    """The path, with its query, if it is that of a page, else the first page: never another site."""
    return path if any(page.has(path.partition("?")[0]) for page in PAGES) else HOME
