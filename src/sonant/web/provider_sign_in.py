"""Signing in, and confirming what destroys, with an OpenID Connect provider.

The browser is sent to the provider with a cookie that holds the secrets of this sign-in, sealed. What it
comes back with is checked, and the login gets temporary credentials of the role that the user's groups have:
from then on it is one as with an access key. Nobody is told their secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from sonant.errors import IntegrityFault, SealBroken
from sonant.storage.crypto.service_secret import ServiceSecret
from sonant.web.login_cookies import Login, LoginCookies, Ticket
from sonant.web.provider import LEEWAY_S, AuthorizationRequest, OpenIdProvider, ProviderFault, ProviderUser
from sonant.web.responses import redirect
from sonant.web.sign_in import CONFIRM, SIGN_IN, SignIn

log = logging.getLogger(__name__)

COOKIE = "sonant-provider"
#: How long a user may take at the provider.
TIME_AT_PROVIDER = timedelta(minutes=10)
_PATH, _MAX_COOKIE_CHARS, _MAX_AFTER_CHARS = "/sign-in", 4000, 512
#: Why a sign-in failed, as the sign-in page tells it.
REFUSED, NO_ROLE, UNREACHABLE = "provider", "role", "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedSignIn:
    """A user who is at the provider."""

    request: AuthorizationRequest
    began_at: datetime
    after: str
    """The page to go on to."""
    confirms: Ticket | None
    """The login that the user authenticates again for; None to begin one."""

    def seal(self, secret: ServiceSecret) -> str:
        confirms = None if self.confirms is None else self.confirms.to_json().decode()
        content = {
            "request": asdict(self.request),
            "began": self.began_at.timestamp(),
            "after": self.after,
            "confirms": confirms,
        }
        return base64.urlsafe_b64encode(secret.seal_cookie(json.dumps(content).encode())).decode()

    @classmethod
    def open(cls, secret: ServiceSecret, cookie: str | None, now: datetime) -> StartedSignIn | None:
        """Open a sealed cookie; None for one that is absent, forged or too old."""
        if not cookie or len(cookie) > _MAX_COOKIE_CHARS:
            return None
        try:
            opened = secret.open_cookie(base64.b64decode(cookie, altchars=b"-_", validate=True))
            content = json.loads(opened)
            confirms = content["confirms"]
            started = cls(
                request=AuthorizationRequest(**content["request"]),
                began_at=datetime.fromtimestamp(content["began"], now.tzinfo),
                after=content["after"],
                confirms=None if confirms is None else Ticket.from_json(json.loads(confirms)),
            )
        except (SealBroken, binascii.Error, KeyError, TypeError, ValueError):
            return None
        return started if now - started.began_at < TIME_AT_PROVIDER else None


class ProviderSignIn:
    """Sends users to the provider and begins their logins. Its methods block."""

    def __init__(
        self,
        provider: OpenIdProvider,
        cookies: LoginCookies,
        sign_in: SignIn,
        show_signed_in: Callable[[Request, str], Response],
    ) -> None:
        """`show_signed_in` makes the page that goes on to another one.

        A redirection would still be part of the way from the provider's site, on which browsers send no
        cookie of `SameSite=Strict`.
        """
        self._provider, self._cookies, self._sign_in = provider, cookies, sign_in
        self._show_signed_in = show_signed_in

    def leave(self, request: Request, after: str, *, confirm: bool) -> Response:
        """Send the browser to the provider."""
        login = self._sign_in.login_of(request) if confirm else None
        if confirm and (login is None or not login.ticket.subject):
            return redirect(f"/sign-in?next={quote(after)}")
        started = StartedSignIn(
            request=AuthorizationRequest.begin(),
            began_at=self._cookies.clock(),
            after=after if len(after) <= _MAX_AFTER_CHARS else "",
            confirms=None if login is None else login.ticket,
        )
        try:
            url = self._provider.authorization_url(started.request, _return_url(request), again=confirm)
        except ProviderFault as fault:
            log.error("nobody can be sent to the OpenID Connect provider: %s", fault)
            return _failed(UNREACHABLE, after)
        response = redirect(url)
        response.set_cookie(
            COOKIE,
            started.seal(self._cookies.secret),
            max_age=int(TIME_AT_PROVIDER.total_seconds()),
            path=_PATH,
            httponly=True,
            samesite="lax",  # the provider's redirection must bring it
            secure=request.url.scheme == "https",
        )
        return response

    def come_back(self, request: Request) -> Response:
        """Begin or confirm the login of a browser that the provider has sent back.

        Raises InternalServer if it cannot be recorded.
        """
        started = StartedSignIn.open(self._cookies.secret, request.cookies.get(COOKIE), self._cookies.clock())
        after = "" if started is None else started.after
        try:
            if started is None:
                raise ProviderFault("the answer belongs to no sign-in of this browser")
            user = self._provider.identify(started.request, _return_url(request), request.query_params)
            ticket = self._ticket(request, started, user)
        except ProviderFault as fault:
            log.warning("a sign-in with the OpenID Connect provider was refused: %s", fault)
            confirms = started is not None and started.confirms is not None
            self._sign_in.record_provided(request, CONFIRM if confirms else SIGN_IN, {}, None)
            response = _failed(REFUSED, after)
        else:
            response = _failed(NO_ROLE, after) if ticket is None else self._show_signed_in(request, after)
            if ticket is not None:
                self._sign_in.set_cookie(request, response, ticket)
        response.delete_cookie(COOKIE, path=_PATH, httponly=True, samesite="lax")
        return response

    def _ticket(self, request: Request, started: StartedSignIn, user: ProviderUser) -> Ticket | None:
        """Return the ticket of a user; None for one whose groups have no role. Raises ProviderFault."""
        told = {"Subject": user.subject, "Name": user.name}
        if started.confirms is not None:
            confirmed = self._confirmed(started, started.confirms, user)
            self._sign_in.record_provided(request, CONFIRM, told, confirmed)
            return self._cookies.confirmed_ticket(confirmed.ticket)
        login = self._login(user)
        self._sign_in.record_provided(request, SIGN_IN, told, login)
        return None if login is None else login.ticket

    def _login(self, user: ProviderUser) -> Login | None:
        role = next((arn for group, arn in self._provider.roles.items() if group in user.groups), None)
        if role is None:
            return None
        try:
            login = self._cookies.sign_in_as(role, subject=user.subject, person=user.name)
        except IntegrityFault as fault:
            raise ProviderFault(str(fault)) from None
        if login is None:
            log.error("console.oidc_roles names %s, which does not exist: sonant access role put", role)
        return login

    def _confirmed(self, started: StartedSignIn, ticket: Ticket, user: ProviderUser) -> Login:
        """Return the login that the user has authenticated again for. Raises ProviderFault."""
        moment = user.authenticated_at_s
        if moment is None or moment < started.began_at.timestamp() - LEEWAY_S:
            raise ProviderFault("the provider did not ask the user to authenticate again")
        login = self._cookies.login_of(self._cookies.seal(ticket))
        if login is None or user.subject != ticket.subject:
            raise ProviderFault("whoever authenticated is not who is signed in")
        return login


def _failed(why: str, after: str) -> Response:
    return redirect(f"/sign-in?failed={why}&next={quote(after)}")


def _return_url(request: Request) -> str:
    return str(request.url.replace(path=f"{_PATH}/return", query="", fragment=""))
