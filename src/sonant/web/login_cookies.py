"""Signing in with an access key: a sealed cookie that names the key and when the login ends.

The key itself is looked up with every request, so that deactivating it takes effect at once; and so is
whether the login was ended by signing out, so that a copy of the cookie is worth nothing after that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sonant.errors import SealBroken
from sonant.gateway.signature import Credential
from sonant.storage.crypto.service_secret import ServiceSecret

COOKIE = "sonant-ticket"
#: How long a login lasts: an agent's shift.
LIFETIME = timedelta(hours=10)
_MAX_COOKIE_CHARS = 1024
_MAX_ACCESS_KEY_CHARS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A successful login: the cookie's value, and the access key that it stands for."""

    cookie: str
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

    def sign_in(self, access_key_id: str, secret_key: str, session_token: str) -> Login | None:
        """Issue a cookie; None unless the secret (and session token) are those of an active key."""
        known = self.find(access_key_id) if 0 < len(access_key_id) <= _MAX_ACCESS_KEY_CHARS else None
        # Unknown keys take as long as known ones: both are compared with something.
        expected = known.fingerprint if known is not None else secrets.token_bytes(32)
        matches = hmac.compare_digest(hashlib.sha256(secret_key.encode()).digest(), expected)
        token = (known.session_token if known is not None else None) or ""
        matches = hmac.compare_digest(session_token.encode(), token.encode()) and matches
        now = self.clock()
        if known is None or not matches or _expired(known, now):
            return None
        content = {
            "key": access_key_id,
            "account": known.principal.account_id,
            "id": secrets.token_hex(16),
            "until": (now + LIFETIME).timestamp(),
        }
        sealed = self.secret.seal_cookie(json.dumps(content).encode())
        return Login(cookie=base64.urlsafe_b64encode(sealed).decode(), credential=known)

    def credential_of(self, cookie: str | None) -> Credential | None:
        """Verify a cookie and return its access key; None for one that is absent, forged, expired or signed
        out, or whose key is no longer active."""
        content, now = self._open(cookie), self.clock()
        if content is None or self.ended(content["id"]):
            return None
        known = self.find(content["key"])
        return None if known is None or _expired(known, now) else known

    def account_of(self, cookie: str | None) -> str | None:
        """Return the account that a cookie was issued for, without a look at the database; None for one that
        is absent, forged or expired."""
        content = self._open(cookie)
        return None if content is None else content["account"]

    def sign_out(self, cookie: str | None) -> None:
        """End the login of a cookie, if it is one."""
        content = self._open(cookie)
        if content is not None and not self.ended(content["id"]):
            self.end(content["id"])

    def _open(self, cookie: str | None) -> dict[str, Any] | None:
        if not cookie or len(cookie) > _MAX_COOKIE_CHARS:
            return None
        try:
            opened = self.secret.open_cookie(base64.b64decode(cookie, altchars=b"-_", validate=True))
        except (SealBroken, binascii.Error, ValueError):
            return None
        content: dict[str, Any] = json.loads(opened)
        # Cookies of earlier releases have no id: they could not be signed out.
        valid = "id" in content and content["until"] > self.clock().timestamp()
        return content if valid else None


def _expired(credential: Credential, now: datetime) -> bool:
    return credential.expires_at is not None and credential.expires_at <= now
