"""Signing in with an access key: a sealed ticket in a cookie, which names the key and when it ends.

The key itself is looked up with every request, so that switching it off takes effect at once.
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

from sonant.errors import SealBroken
from sonant.gateway.signature import Credential
from sonant.storage.crypto.vault import ServiceSecret

COOKIE = "sonant-ticket"
#: How long one is signed in: an agent's shift.
LIFE = timedelta(hours=10)
_MAX_COOKIE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A ticket, and the key that it stands for."""

    ticket: str
    credential: Credential


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginCookies:
    """Gives tickets out and takes them in."""

    secret: ServiceSecret
    find: Callable[[str], Credential | None]
    clock: Callable[[], datetime]

    def sign_in(self, access_key_id: str, secret_key: str, session_token: str) -> SignedIn | None:
        """A ticket for whoever knows the secret of an active key; None for all others."""
        known = self.find(access_key_id) if 0 < len(access_key_id) <= 128 else None
        # Unknown keys take as long as known ones: both are compared with something.
        wanted = known.fingerprint if known is not None else secrets.token_bytes(32)
        right = hmac.compare_digest(hashlib.sha256(secret_key.encode()).digest(), wanted)
        token = (known.session_token if known is not None else None) or ""
        right = hmac.compare_digest(session_token.encode(), token.encode()) and right
        now = self.clock()
        if known is None or not right or self._over(known, now):
            return None
        content = {"key": access_key_id, "until": (now + LIFE).timestamp()}
        sealed = self.secret.seal_cookie(json.dumps(content).encode())
        return SignedIn(ticket=base64.urlsafe_b64encode(sealed).decode(), credential=known)

    def holder(self, ticket: str | None) -> Credential | None:
        """Whose ticket it is; None for one that is not ours, is over, or whose key is no longer active."""
        if not ticket or len(ticket) > _MAX_COOKIE:
            return None
        try:
            opened = self.secret.open_cookie(base64.b64decode(ticket, altchars=b"-_", validate=True))
        except (SealBroken, binascii.Error, ValueError):
            return None
        content = json.loads(opened)
        now = self.clock()
        if content["until"] <= now.timestamp():
            return None
        known = self.find(content["key"])
        return None if known is None or self._over(known, now) else known

    @staticmethod
    def _over(known: Credential, now: datetime) -> bool:
        return known.expires_at is not None and known.expires_at <= now
