"""Nonces of AudioHook's signatures are good for one request."""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from sonant.carriers.nonces import NonceCache
from sonant.carriers.providers.audiohook import MAX_AGE_S, SKEW_S, carrier
from sonant.carriers.request import StreamRequest
from sonant.errors import AccessDenied
from sonant.settings import Settings

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
KEY, SECRET = "an-api-key-of-genesys", base64.b64encode(b"a client secret").decode()
COVERED = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)


def request(nonce: str, at: datetime = NOW, received_at: datetime | None = None) -> StreamRequest:
    """A request as Genesys signs it at a time."""
    headers = {
        "host": "voice.example",
        "audiohook-organization-id": "org",
        "audiohook-session-id": "session",
        "audiohook-correlation-id": "correlation",
        "x-api-key": KEY,
    }
    values = {"@request-target": "/stream/audiohook", "@authority": headers["host"], **headers}
    names = " ".join(f'"{name}"' for name in COVERED)
    signed = f'({names});keyid="{KEY}";nonce="{nonce}";alg="hmac-sha256";created={int(at.timestamp())}'
    base = "\n".join([*(f'"{name}": {values[name]}' for name in COVERED), f'"@signature-params": {signed}'])
    mac = hmac.digest(base64.b64decode(SECRET), base.encode(), "sha256")
    headers |= {"signature-input": f"sig1={signed}", "signature": f"sig1=:{base64.b64encode(mac).decode()}:"}
    return StreamRequest(
        method="GET",
        raw_path=b"/stream/audiohook",
        query=b"",
        headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        source_ip="192.0.2.7",
        secure=True,
        received_at=received_at or at,
    )


def test_repeated_request_is_refused() -> None:
    hook = carrier(Settings(carriers={"audiohook_key": KEY, "audiohook_secret": SECRET}))
    assert hook is not None
    hook.authenticate(request("n" * 22))
    for seconds in (0, 1, MAX_AGE_S):
        with pytest.raises(AccessDenied, match="nonce of the signature was used before"):
            hook.authenticate(request("n" * 22, received_at=NOW + timedelta(seconds=seconds)))
    with pytest.raises(AccessDenied, match="too old"):
        hook.authenticate(request("n" * 22, received_at=NOW + timedelta(seconds=MAX_AGE_S + SKEW_S + 1)))
    hook.authenticate(request("m" * 22))


def test_request_with_a_wrong_signature_uses_up_no_nonce() -> None:
    hook = carrier(Settings(carriers={"audiohook_key": KEY, "audiohook_secret": SECRET}))
    assert hook is not None
    right = request("n" * 22)
    wrong = [(name, b"sig1=:AAAA:" if name == b"signature" else value) for name, value in right.headers]
    with pytest.raises(AccessDenied, match="not the one that the client secret gives"):
        hook.authenticate(
            StreamRequest(
                method="GET",
                raw_path=right.raw_path,
                query=b"",
                headers=wrong,
                source_ip="",
                secure=True,
                received_at=NOW,
            )
        )
    hook.authenticate(right)


def test_nonce_counts_as_long_as_its_signature() -> None:
    """Given the oldest and the newest request of a nonce, then the cache remembers between them."""
    cache = NonceCache(20.0)
    assert cache.use("a", NOW)
    assert not cache.use("a", NOW + timedelta(seconds=19.9))
    assert cache.use("a", NOW + timedelta(seconds=20.1))


def test_full_cache_takes_no_nonce_and_forgets_none_before_its_time() -> None:
    cache = NonceCache(20.0, most=3)
    assert all(cache.use(nonce, NOW + timedelta(seconds=second)) for second, nonce in enumerate("abc"))
    assert not cache.use("d", NOW + timedelta(seconds=3))
    assert not cache.use("a", NOW + timedelta(seconds=3))
    assert cache.use("d", NOW + timedelta(seconds=20.5)), "when the first has had its time"
