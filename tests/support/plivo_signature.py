"""Plivo's signature of a GET, by the steps of its documentation ("Signature validation", version 3)."""

from __future__ import annotations

import base64
import hashlib
import hmac


def plivo_signature(auth_token: str, url: str, nonce: str) -> str:
    """Sign a URL whose parameters need no escapes: the parameters in the order of their names, a dot, the
    nonce."""
    base, _, query = url.partition("?")
    ordered = "&".join(sorted(query.split("&"))) if query else ""
    text = f"{base}?{ordered}.{nonce}" if ordered else f"{base}.{nonce}"
    return base64.b64encode(hmac.new(auth_token.encode(), text.encode(), hashlib.sha256).digest()).decode()
