"""Signing in and out, and the secret given again for what destroys; each attempt is limited and recorded."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import Response

from sonant.audit.record import AuditedOperation
from sonant.errors import IntegrityFault, InternalServer, UnrecognizedClient
from sonant.gateway.models import Operation, unmodelled
from sonant.gateway.recording import Recorder
from sonant.gateway.throttle import Throttle
from sonant.ids import new_uuid
from sonant.operations.service import Caller
from sonant.web.login_cookies import COOKIE, Login, LoginCookies, Ticket
from sonant.web.responses import client_ip

log = logging.getLogger(__name__)

#: Sign-in attempts per second from one address.
_ATTEMPTS_PER_S = 20.0
#: Key ids of failed attempts that the audit trail may hold: no secret that was typed into the wrong field.
_KEY_ID = re.compile(r"[A-Z0-9]{16,128}")

#: They belong to no service model; the first name is CloudTrail's.
SIGN_IN, CONFIRM = unmodelled("ConsoleLogin"), unmodelled("ConsoleConfirmation")
AUDITED_SIGN_INS = {
    one.target: AuditedOperation(name=one.name, read_only=False, request=dict, response=dict)
    for one in (SIGN_IN, CONFIRM)
}


class SignIn:
    """Checks what users give to sign in, and sets their cookies."""

    def __init__(self, cookies: LoginCookies, recorder: Recorder, region: str, throttle: Throttle) -> None:
        """`region` is the one that attempts are recorded in; `throttle` gives the clock of the limit."""
        self._cookies, self._recorder, self._region = cookies, recorder, region
        self._attempts = Throttle({"SignIn": _ATTEMPTS_PER_S}, throttle.monotonic_s)

    def take(self, request: Request) -> None:
        """Count an attempt of an address. Raises Throttling for too many."""
        self._attempts.take(client_ip(request), "SignIn")

    def attempt(self, request: Request, form: Mapping[str, str]) -> Login | None:
        """Check the sign-in form and record the attempt.

        Raises InternalServer if it cannot be recorded, and for a user or key whose row was changed.
        """
        claimed = form.get("access-key-id", "")
        try:
            login = self._cookies.sign_in(
                claimed, form.get("secret-access-key", ""), form.get("session-token", "")
            )
        except IntegrityFault as fault:
            log.error("%s", fault)
            raise InternalServer from None
        self._record(request, SIGN_IN, claimed, login)
        return login

    def confirm(self, request: Request, login: Login, secret: str) -> Ticket | None:
        """Check the secret that a user gives again, and record the attempt. Raises InternalServer."""
        ticket = self._cookies.confirm(login, secret)
        claimed = login.ticket.access_key_id
        self._record(request, CONFIRM, claimed, None if ticket is None else login)
        return ticket

    def login_of(self, request: Request) -> Login | None:
        """Return the login of a request; nobody by a user or key whose row was changed."""
        try:
            return self._cookies.login_of(request.cookies.get(COOKIE))
        except IntegrityFault as fault:
            log.error("%s", fault)
            return None

    def set_cookie(self, request: Request, response: Response, ticket: Ticket) -> Response:
        """Give the browser the cookie of a ticket."""
        lasts = ticket.ends_at - ticket.used_at
        response.set_cookie(
            COOKIE,
            self._cookies.seal(ticket),
            max_age=int(lasts.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    def record_provided(
        self, request: Request, operation: Operation, told: Mapping[str, str], login: Login | None
    ) -> None:
        """Record an attempt of a provider's user, whose `login` is None where it failed.

        Raises InternalServer.
        """
        claimed = "" if login is None else login.ticket.access_key_id
        self._record(request, operation, claimed, login, told)

    def _record(
        self,
        request: Request,
        operation: Operation,
        claimed: str,
        login: Login | None,
        told: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        caller = None
        if login is not None:
            caller = Caller(principal=login.credential.principal, region=self._region)
        self._recorder.record(
            operation,
            request_id=new_uuid(),
            source_ip=client_ip(request),
            headers=request.scope["headers"],
            query=b"",
            caller=caller,
            access_key_id=claimed if login is not None or _KEY_ID.fullmatch(claimed) else "",
            parameters={},
            details=told,
            result=None if login is None else {operation.name: "Success"},
            error=UnrecognizedClient() if login is None else None,
        )
