"""What an agent sees during a call: `/sessions/<id>`, and how one signs in to see it.

The page asks the service's own operations on behalf of whoever is signed in: they are authorised, throttled
and recorded like every other call. Changes need a header that no other site can send.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, quote

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sonant.audit.record import AuditedOperation
from sonant.errors import InternalServer, Throttling, UnrecognizedClient
from sonant.gateway.models import unmodelled
from sonant.gateway.recording import Recorder
from sonant.gateway.server import Gateway
from sonant.gateway.signature import Credential
from sonant.gateway.thread_pool import ThreadPool
from sonant.gateway.throttle import Throttle
from sonant.ids import new_uuid
from sonant.operations.service import Caller
from sonant.web.login_cookies import COOKIE, LIFE, LoginCookies, SignedIn

#: Paths that belong to the pages.
PREFIXES = ("/sessions/", "/sign-in", "/sign-out", "/console/")

_ID = re.compile(r"[A-Za-z0-9]{22}")
_MAX_FORM_BYTES, _MAX_FIELDS = 8192, 8
_OURS = "x-sonant"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FILES = {"session.js": "text/javascript", "console.css": "text/css"}
#: Attempts to sign in a second, from one address.
_SIGN_INS_PER_S = 20.0
#: What the audit trail may keep of a failed attempt: no secret that was typed into the wrong field.
_KEY_ID = re.compile(r"[A-Z0-9]{16,128}")

#: In no service model; under CloudTrail's name for it.
SIGN_IN = unmodelled("ConsoleLogin")
AUDITED_SIGN_INS = {
    SIGN_IN.target: AuditedOperation(name=SIGN_IN.name, read_only=False, request=dict, response=dict),
}


class SessionPages:
    """The pages as ASGI. `domain_of` gives Region and id of the domain of a session id."""

    def __init__(
        self,
        door: Gateway,
        tickets: LoginCookies,
        domain_of: Callable[[str], tuple[str, str] | None],
        recorder: Recorder,
        threads: ThreadPool,
    ) -> None:
        """Whatever asks the database runs in one of `threads`."""
        self._threads = threads
        self._door, self._tickets, self._domain_of, self._recorder = door, tickets, domain_of, recorder
        self._attempts = Throttle({"SignIn": _SIGN_INS_PER_S}, door.throttle.monotonic_s)
        self._pages = {name: _page(name) for name in ("session.html", "sign-in.html", *_FILES)}
        self.app = Starlette(
            routes=[
                Route("/sign-in", self._sign_in_page, methods=["GET"]),
                Route("/sign-in", self._sign_in, methods=["POST"]),
                Route("/sign-out", self._sign_out, methods=["POST"]),
                Route("/console/{name}", self._file, methods=["GET"]),
                Route("/sessions/{id}", self._session_page, methods=["GET"]),
                Route("/sessions/{id}/state", self._state, methods=["GET"]),
                Route("/sessions/{id}/enroll", self._enroll, methods=["POST"]),
                Route("/sessions/{id}/opt-out", self._opt_out, methods=["POST"]),
            ],
            exception_handlers={Throttling: _busy},
        )

    async def _sign_in_page(self, request: Request) -> Response:
        return self._html("sign-in.html")

    async def _sign_in(self, request: Request) -> Response:
        try:
            self._attempts.take(_address(request), "SignIn")
        except Throttling:
            return _answer(429, b"Too many attempts; wait a moment.", "text/plain")
        form = await _form(request)
        try:
            found = await self._threads.run(self._signed_in, request, form)
        except InternalServer:
            return _answer(503, b"Signing in cannot be recorded now.", "text/plain")
        where = _local(request.query_params.get("next", ""))
        if found is None:
            return RedirectResponse(f"/sign-in?failed=1&next={quote(where)}", 303, headers=_HEADERS)
        answer = RedirectResponse(where, 303, headers=_HEADERS)
        answer.set_cookie(
            COOKIE,
            found.ticket,
            max_age=int(LIFE.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    def _signed_in(self, request: Request, form: Mapping[str, str]) -> SignedIn | None:
        """The attempt and what came of it, written down. Raises InternalServer when it cannot be."""
        claimed, region = form.get("access-key-id", ""), self._door.service.settings.region
        found = self._tickets.sign_in(
            claimed, form.get("secret-access-key", ""), form.get("session-token", "")
        )
        self._recorder.record(
            SIGN_IN,
            request_id=new_uuid(),
            source_ip=_address(request),
            headers=request.scope["headers"],
            query=b"",
            caller=None if found is None else Caller(principal=found.credential.principal, region=region),
            access_key_id=claimed if found is not None or _KEY_ID.fullmatch(claimed) else "",
            parameters={},
            result=None if found is None else {"ConsoleLogin": "Success"},
            error=UnrecognizedClient() if found is None else None,
        )
        return found

    async def _sign_out(self, request: Request) -> Response:
        answer = RedirectResponse("/sign-in", 303, headers=_HEADERS)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _FILES:
            return _answer(404, b"There is no such page.", "text/plain")
        return _answer(200, self._pages[name], _FILES[name])

    async def _session_page(self, request: Request) -> Response:
        if await self._threads.run(self._holder, request) is None:
            return RedirectResponse(f"/sign-in?next={quote(request.url.path)}", 303, headers=_HEADERS)
        return self._html("session.html")

    async def _state(self, request: Request) -> Response:
        """The session and its evaluation, each as the operation answers it, or with its error."""
        return await self._threads.run(self._told, request, ("DescribeSession", "EvaluateSession"))

    async def _enroll(self, request: Request) -> Response:
        return await self._threads.run(self._told, request, ("EnrollBySession",))

    async def _opt_out(self, request: Request) -> Response:
        return await self._threads.run(self._told, request, ("OptOutSpeaker",))

    def _holder(self, request: Request) -> Credential | None:
        return self._tickets.holder(request.cookies.get(COOKIE))

    def _told(self, request: Request, operations: tuple[str, ...]) -> Response:
        credential = self._holder(request)
        if credential is None:
            return _answer(401, b'{"message": "Sign in again."}', "application/json")
        if request.method == "POST" and request.headers.get(_OURS) != "1":
            return _answer(403, b'{"message": "This must come from the page."}', "application/json")
        identity = request.path_params["id"]
        session_id = f"id#{identity}" if _ID.fullmatch(identity) else ""
        domain = self._domain_of(session_id) if session_id else None
        if domain is None:
            return _answer(404, b'{"message": "There is no such session."}', "application/json")
        region, domain_id = domain
        caller = Caller(principal=credential.principal, region=region)
        ask = partial(self._ask, caller, credential.access_key_id, request)
        found: dict[str, Any] = {}
        for operation in operations:
            asked: dict[str, str] = {"DomainId": domain_id}
            if operation == "OptOutSpeaker":
                told = ask("DescribeSession", asked | {"SessionNameOrId": session_id})
                speaker_id = told.get("Session", {}).get("GeneratedSpeakerId")
                if speaker_id is None:
                    return _answer(409, b'{"message": "The session has no speaker."}', "application/json")
                asked["SpeakerId"] = speaker_id
            else:
                asked["SessionNameOrId"] = session_id
            found[operation] = ask(operation, asked)
        return _answer(200, orjson.dumps(found), "application/json")

    def _ask(
        self,
        caller: Caller,
        access_key_id: str,
        request: Request,
        operation: str,
        asked: Mapping[str, str],
    ) -> dict[str, Any]:
        body = self._door.call_internal(
            caller,
            access_key_id,
            operation,
            asked,
            headers=request.scope["headers"],
            source_ip=_address(request),
            secure=request.url.scheme == "https",
        )
        told: dict[str, Any] = orjson.loads(body)
        return told

    def _html(self, name: str) -> Response:
        return _answer(200, self._pages[name], "text/html; charset=utf-8")


async def _busy(_request: Request, _error: Exception) -> Response:
    return _answer(429, b'{"message": "The service is busy; ask again in a moment."}', "application/json")


def _answer(status: int, body: bytes, content_type: str) -> Response:
    return Response(body, status, headers=_HEADERS, media_type=content_type)


def _page(name: str) -> bytes:
    return resources.files(__package__).joinpath("pages", name).read_bytes()


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _local(path: str) -> str:
    """A path of this service, never another site's address."""
    return path if re.fullmatch(r"/sessions/[A-Za-z0-9]{22}", path) else "/sign-in?signed=1"


async def _form(request: Request) -> dict[str, str]:
    """The fields of a posted form; none of one that is larger than ours can be."""
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
