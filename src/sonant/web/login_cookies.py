"""Signing in with an access key: a sealed cookie that names the key and when the login ends.

The key itself is looked up with every request, so that deactivating it takes effect at once; and so is
whether the login was ended by signing out, so that a copy of the cookie is worth nothing after that. A login
also ends when it is not used for a while; the cookie is therefore renewed as it is used.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sonant.errors import SealBroken
from sonant.gateway.signature import Credential
from sonant.storage.crypto.service_secret import ServiceSecret

COOKIE = "sonant-ticket"
#: How long the secret that was given again counts for what destroys.
CONFIRMED_FOR = timedelta(minutes=5)
#: A cookie is renewed when it was not for this long: not with every request of a page that polls.
RENEWED_EVERY = timedelta(minutes=1)
_MAX_COOKIE_CHARS = 1536
_MAX_ACCESS_KEY_CHARS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginLimits:
    """How long logins last."""

    lifetime: timedelta = timedelta(hours=10)
    """From signing in; the default is an agent's shift."""
    idle: timedelta = timedelta(minutes=30)
    """Without a request of the user or of an open call's page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The content of a cookie: what it says of a login."""

    access_key_id: str
    account_id: str
    login_id: str
    began_at: datetime
    ends_at: datetime
    used_at: datetime
    confirmed_at: datetime | None = None
    """When the user gave the secret again; None for not since the login began."""
    subject: str = ""
    """Whom a provider has authenticated (`provider.ProviderUser`); empty for a login with an access key."""
    person: str = ""
    """The name of that user, to be shown."""

    def to_json(self) -> bytes:
        confirmed = {} if self.confirmed_at is None else {"sure": self.confirmed_at.timestamp()}
        provided = {"subject": self.subject, "person": self.person} if self.subject else {}
        content = {
            "key": self.access_key_id,
            "account": self.account_id,
            "id": self.login_id,
            "since": self.began_at.timestamp(),
            "until": self.ends_at.timestamp(),
            "used": self.used_at.timestamp(),
            **confirmed,
            **provided,
        }
        return json.dumps(content).encode()

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Ticket:
        """Read what `to_json` wrote. Raises KeyError for the content of an earlier release's cookie."""
        confirmed = content.get("sure")
        return cls(
            access_key_id=content["key"],
            account_id=content["account"],
            login_id=content["id"],
            began_at=_moment(content["since"]),
            ends_at=_moment(content["until"]),
            used_at=_moment(content["used"]),
            confirmed_at=None if confirmed is None else _moment(confirmed),
            subject=content.get("subject", ""),
            person=content.get("person", ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A login that holds: the cookie's content, and the access key that it stands for."""

    ticket: Ticket
    credential: Credential


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginCookies:
    """Issues and verifies login cookies."""

    secret: ServiceSecret
    find: Callable[[str], Credential | None]
    """Credential of an access key id; None for an unknown or inactive key."""
    clock: Callable[[], datetime]
    ended: Callable[[str], bool]
    """Whether the login of an id was ended."""
    end: Callable[[str], None]
    """Ends the login of an id, for all processes that share the database."""
    ended_before: Callable[[str], datetime | None]
    """Up to when all logins of an access key were ended; None for never."""
    end_all: Callable[[str], None]
    """Ends all logins of an access key that have begun by now."""
    assume: Callable[[str, timedelta], Credential | None]
    """Makes temporary credentials of a role that last so long; None where there is no such role."""
    limits: LoginLimits = LoginLimits()

    def sign_in(self, access_key_id: str, secret_key: str, session_token: str) -> Login | None:
        """Begin a login; None unless the secret (and session token) are those of an active key."""
        known = self.find(access_key_id) if 0 < len(access_key_id) <= _MAX_ACCESS_KEY_CHARS else None
        matches = _is_secret(secret_key, known)
        token = (known.session_token if known is not None else None) or ""
        matches = hmac.compare_digest(session_token.encode(), token.encode()) and matches
        if known is None or not matches or _expired(known, self.clock()):
            return None
        return self._begin(known)

    def sign_in_as(self, role_arn: str, *, subject: str, person: str) -> Login | None:
        """Begin a login with a role, for a user whom a provider has authenticated; None for no such role."""
        credential = self.assume(role_arn, self.limits.lifetime)
        return None if credential is None else self._begin(credential, subject, person)

    def _begin(self, credential: Credential, subject: str = "", person: str = "") -> Login:
        now = self.clock()
        ticket = Ticket(
            access_key_id=credential.access_key_id,
            account_id=credential.principal.account_id,
            login_id=secrets.token_hex(16),
            began_at=now,
            ends_at=now + self.limits.lifetime,
            used_at=now,
            subject=subject,
            person=person,
        )
        return Login(ticket=ticket, credential=credential)

    def seal(self, ticket: Ticket) -> str:
        """Return the value of the cookie."""
        return base64.urlsafe_b64encode(self.secret.seal_cookie(ticket.to_json())).decode()

    def login_of(self, cookie: str | None) -> Login | None:
        """Verify a cookie and return its login; None for one that is absent, forged, expired, idle or signed
        out, or whose key is no longer active."""
        ticket, now = self._open(cookie), self.clock()
        if ticket is None or self.ended(ticket.login_id):
            return None
        ended = self.ended_before(ticket.access_key_id)
        if ended is not None and ticket.began_at <= ended:
            return None
        known = self.find(ticket.access_key_id)
        return None if known is None or _expired(known, now) else Login(ticket=ticket, credential=known)

    def renewed(self, ticket: Ticket) -> Ticket | None:
        """Return the ticket as one that is used now; None where its cookie can stay as it is."""
        now = self.clock()
        return replace(ticket, used_at=now) if now - ticket.used_at >= RENEWED_EVERY else None

    def confirmed(self, ticket: Ticket) -> bool:
        """Return whether the user has just given the secret again."""
        return ticket.confirmed_at is not None and self.clock() - ticket.confirmed_at < CONFIRMED_FOR

    def confirm(self, login: Login, secret_key: str) -> Ticket | None:
        """Return the ticket of a user who gives the secret again; None for a wrong one."""
        return self.confirmed_ticket(login.ticket) if _is_secret(secret_key, login.credential) else None

    def confirmed_ticket(self, ticket: Ticket) -> Ticket:
        """Return the ticket of a user who has just authenticated again."""
        now = self.clock()
        return replace(ticket, confirmed_at=now, used_at=now)

    def form_token(self, login_id: str) -> str:
        """Return what forms of a login's pages must send back: no other site knows it."""
        return self._form_tokens(login_id)[0]

    def is_form_token(self, login_id: str, token: str) -> bool:
        """Return whether a form came from a page of this login."""
        known = self._form_tokens(login_id)
        return any(hmac.compare_digest(token.encode(), one.encode()) for one in known)

    def account_of(self, cookie: str | None) -> str | None:
        """Return the account that a cookie was issued for, without a look at the database; None for one that
        is absent, forged or expired."""
        ticket = self._open(cookie)
        return None if ticket is None else ticket.account_id

    def sign_out(self, cookie: str | None) -> None:
        """End the login of a cookie, if it is one."""
        ticket = self._open(cookie)
        if ticket is not None and not self.ended(ticket.login_id):
            self.end(ticket.login_id)

    def _form_tokens(self, login_id: str) -> tuple[str, ...]:
        return self.secret.fingerprints("\x00".join(("ConsoleForm", login_id)))

    def _open(self, cookie: str | None) -> Ticket | None:
        if not cookie or len(cookie) > _MAX_COOKIE_CHARS:
            return None
        try:
            opened = self.secret.open_cookie(base64.b64decode(cookie, altchars=b"-_", validate=True))
            ticket = Ticket.from_json(json.loads(opened))
        except (SealBroken, binascii.Error, KeyError, ValueError):
            return None
        now = self.clock()
        return ticket if now < ticket.ends_at and now - ticket.used_at < self.limits.idle else None


def _is_secret(secret_key: str, known: Credential | None) -> bool:
    """Compare a secret; one for an unknown key takes as long as for a known one."""
    expected = known.fingerprint if known is not None else secrets.token_bytes(32)
    return hmac.compare_digest(hashlib.sha256(secret_key.encode()).digest(), expected)


def _expired(credential: Credential, now: datetime) -> bool:
    return credential.expires_at is not None and credential.expires_at <= now


def _moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
