"""Verification of AWS Signature Version 4, in the `Authorization` header or in the query string.

Checks come in the order of AWS's own front ends, with their texts: presence, parts, date, signed headers,
scope, access key, signature, session token. Error messages repeat parts of the client's own request, cut to a
bound and without session tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from sonant.errors import ExpiredToken, IncompleteSignature, InvalidSignature, UnrecognizedClient
from sonant.gateway.canonical import Pair, canonical_path, canonical_request, fold, query_pairs
from sonant.gateway.parsed_authorization import (
    ParsedAuthorization,
    parse_authorization,
    parse_time,
    printable,
    signed_headers,
)

ALGORITHM = b"AWS4-HMAC-SHA256"
TERMINATOR = b"aws4_request"
#: Most signing keys that a Verifier caches.
MAX_SIGNING_KEYS = 4096

_MAX_HEADERS = 100
_MAX_HEADER_BYTES = 32 * 1024
_MAX_QUERY_BYTES = 16 * 1024
_MAX_ACCESS_KEY_CHARACTERS = 128

_MAX_SHOWN_CANONICAL_BYTES = 8192

_MASKED = frozenset({b"x-amz-security-token", b"authorization", b"cookie"})
"""Headers and query parameters whose values no error message repeats."""

_INVALID_TOKEN = "The security token included in the request is invalid."  # noqa: S105 - a message
_EXPIRED_TOKEN = "The security token included in the request is expired"  # noqa: S105 - a message


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of a request that a signature covers, as they came over the wire."""

    method: str
    raw_path: bytes
    """Still percent-encoded, without the query string."""
    query_string: bytes
    headers: Sequence[Pair]
    """Names in lower case, as ASGI gives them."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Credential:
    """An access key and its principal."""

    access_key_id: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    """Only of temporary credentials, whose requests must carry it."""
    principal: Any = None
    expires_at: datetime | None = None
    fingerprint: bytes = field(init=False, repr=False)
    """SHA-256 of the secret."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", hashlib.sha256(self.secret.encode()).digest())


class Verified(NamedTuple):
    """The credential that signed a request, the Region that it was signed for, and the signature."""

    credential: Credential
    region: str
    signature: str
    """64 hexadecimal digits: the same request, signed at another second, has another one."""


class Verifier:
    """Verifies signed requests for some Regions and one service."""

    def __init__(
        self,
        regions: Sequence[str],
        service: str,
        skew_s: float,
        find: Callable[[str], Credential | None],
    ) -> None:
        """`find` returns the credential of an access key id, or None; the id has at most 128 ASCII
        characters. `skew_s` is the largest difference between the clocks of client and service."""
        self._service = service.encode("ascii")
        # The Region by the part of a scope after the date.
        self._regions = {
            b"/".join((b"", region.encode("ascii"), self._service, TERMINATOR)): region for region in regions
        }
        self._skew = timedelta(seconds=skew_s)
        self._minutes = f"{skew_s / 60:g} min."
        self._find = find
        self._signing_keys: dict[tuple[str, bytes, bytes, str], bytes] = {}
        # Replaces an unknown access key, so that its verification takes as long as that of a known one.
        self._decoy = Credential(access_key_id="", secret=secrets.token_hex(20))

    @property
    def cached_signing_keys(self) -> int:
        """How many signing keys are cached."""
        return len(self._signing_keys)

    def verify(self, request: SignedRequest, now: datetime, declared_sha256: bytes | None = None) -> Verified:
        """Verify the signature of `request` at `now`, an aware time.

        For a body that has not arrived, `declared_sha256` is what the signature covers in place of the hash
        of `request.body`: the expected hash, which the caller checks later, or `UNSIGNED-PAYLOAD`.

        Raises `MissingAuthenticationToken`, `IncompleteSignature`, `InvalidSignature`, `UnrecognizedClient`
        or `ExpiredToken`.
        """
        _check_size(request)
        headers = fold(request.headers)
        query = query_pairs(request.query_string) if request.query_string else []
        authorization = parse_authorization(headers, query)
        stamp = self._check_date(authorization, now)
        signed = signed_headers(authorization, headers)
        access_key_id, region = self._check_scope(authorization, stamp)

        body_sha256 = declared_sha256 or hashlib.sha256(request.body).hexdigest().encode()
        if headers.get(b"x-amz-content-sha256", body_sha256) != body_sha256:
            raise InvalidSignature("The 'x-amz-content-sha256' header must be the SHA-256 of the body.")

        known = self._find(access_key_id) if 0 < len(access_key_id) <= _MAX_ACCESS_KEY_CHARACTERS else None
        credential = self._decoy if known is None else known
        if authorization.expires_s is not None:
            query = [pair for pair in query if pair[0] != b"X-Amz-Signature"]
        path = canonical_path(request.raw_path)
        canonical = canonical_request(
            method=request.method, path=path, query=query, headers=signed, body_sha256=body_sha256
        )
        scope = authorization.credential.partition(b"/")[2]
        to_sign = b"\n".join((ALGORITHM, stamp, scope, hashlib.sha256(canonical).hexdigest().encode()))
        key = self._signing_key(credential, stamp[:8], region)
        expected = hmac.digest(key, to_sign, "sha256").hex().encode()
        matches = hmac.compare_digest(expected, authorization.signature)
        if known is None:
            raise UnrecognizedClient(_INVALID_TOKEN)
        if not matches:
            masked = canonical_request(
                method=request.method,
                path=path,
                query=_masked(query),
                headers=_masked(signed),
                body_sha256=body_sha256,
            )
            raise InvalidSignature(_mismatch_text(masked, to_sign, signed))
        _check_token(known, authorization.token, now)
        return Verified(known, region, expected.decode())

    def _check_date(self, authorization: ParsedAuthorization, now: datetime) -> bytes:
        """The time of signing in ISO 8601 basic form, after checking that it is valid at `now`."""
        signed_at = parse_time(authorization.date)
        if signed_at is None:
            raise IncompleteSignature(
                f"Date must be in ISO-8601 'basic format'. Got '{printable(authorization.date)}'. "
                "See http://en.wikipedia.org/wiki/ISO_8601"
            )
        if signed_at > now + self._skew:
            raise InvalidSignature(
                f"Signature not yet current: {_basic(signed_at)} is still later than "
                f"{_basic(now + self._skew)} ({_basic(now)} + {self._minutes})"
            )
        if authorization.expires_s is not None:
            end = signed_at + timedelta(seconds=authorization.expires_s)
            if end < now:
                raise InvalidSignature(
                    f"Signature expired: {_basic(end)} is now earlier than {_basic(now)} "
                    f"({_basic(signed_at)} + {authorization.expires_s} s)"
                )
        elif signed_at < now - self._skew:
            raise InvalidSignature(
                f"Signature expired: {_basic(signed_at)} is now earlier than {_basic(now - self._skew)} "
                f"({_basic(now)} - {self._minutes})"
            )
        return authorization.date if authorization.date[:1].isdigit() else _basic(signed_at).encode()

    def _check_scope(self, authorization: ParsedAuthorization, stamp: bytes) -> tuple[str, str]:
        """The access key id and the Region, after checking the rest of the credential scope."""
        access_key_id, _, scope = authorization.credential.partition(b"/")
        found = self._regions.get(scope[8:])
        if authorization.algorithm == ALGORITHM and scope[:8] == stamp[:8] and found is not None:
            # No access key id has other characters than ASCII.
            return access_key_id.decode("ascii") if access_key_id.isascii() else "", found
        if authorization.algorithm != ALGORITHM:
            raise IncompleteSignature(
                f"Unsupported AWS 'algorithm': '{printable(authorization.algorithm)}': "
                "AWS4-HMAC-SHA256 is supported."
            )
        pieces = authorization.credential.split(b"/")
        if len(pieces) != 5:
            raise IncompleteSignature(
                "Credential must have exactly 5 slash-delimited elements, e.g. "
                f"keyid/date/region/service/term, got '{printable(authorization.credential)}'"
            )
        _, date, region, service, terminator = pieces
        faults = []
        served = list(self._regions.values())
        if region not in {name.encode() for name in served}:
            faults.append(
                f"Credential should be scoped to a valid region, not '{printable(region)}'. "
                f"This Sonant serves {', '.join(served)}: its setting regions (SONANT_REGIONS) takes in "
                "others, see docs/coming-from-voice-id.md."
            )
        if service != self._service:
            faults.append(f"Credential should be scoped to correct service: '{self._service.decode()}'.")
        if terminator != TERMINATOR:
            faults.append(
                "Credential should be scoped with a valid terminator: 'aws4_request', "
                f"not '{printable(terminator)}'."
            )
        if date != stamp[:8]:
            faults.append(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{printable(date)}' != '{stamp[:8].decode()}', from '{stamp.decode()}'."
            )
        raise InvalidSignature(" ".join(faults))

    def _signing_key(self, credential: Credential, date: bytes, region: str) -> bytes:
        """The signing key of one access key, day and Region, cached. The cache holds a hash of the secret: no
        secret outlives its credential here."""
        cache_key = (credential.access_key_id, credential.fingerprint, date, region)
        key = self._signing_keys.get(cache_key)
        if key is None:
            key = b"AWS4" + credential.secret.encode()
            for part in (date, region.encode(), self._service, TERMINATOR):
                key = hmac.digest(key, part, "sha256")
            if len(self._signing_keys) >= MAX_SIGNING_KEYS:
                self._signing_keys.clear()  # most are of past days and callers
            self._signing_keys[cache_key] = key
        return key


def _check_size(request: SignedRequest) -> None:
    size = sum(map(len, chain.from_iterable(request.headers)))
    if len(request.headers) > _MAX_HEADERS or size > _MAX_HEADER_BYTES:
        raise InvalidSignature("The request has more headers than can be verified.")
    if len(request.query_string) > _MAX_QUERY_BYTES:
        raise InvalidSignature("The query string is longer than can be verified.")


def _check_token(credential: Credential, token: bytes | None, now: datetime) -> None:
    expected = None if credential.session_token is None else credential.session_token.encode()
    if (expected is None) != (token is None) or not hmac.compare_digest(expected or b"", token or b""):
        raise UnrecognizedClient(_INVALID_TOKEN)
    if credential.expires_at is not None and credential.expires_at <= now:
        raise ExpiredToken(_EXPIRED_TOKEN)


def _basic(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _masked(pairs: Sequence[Pair]) -> list[Pair]:
    return [(name, b"***" if name.lower() in _MASKED else value) for name, value in pairs]


def _mismatch_text(canonical: bytes, to_sign: bytes, signed: Sequence[Pair]) -> str:
    host = next((value for name, value in signed if name == b"host"), b"")
    return (
        "The request signature we calculated does not match the signature you provided. Check your AWS "
        "Secret Access Key and signing method. Consult the service documentation for details.\n\n"
        f"The Canonical String for this request should have been\n"
        f"'{printable(canonical, _MAX_SHOWN_CANONICAL_BYTES)}'\n\n"
        f"The String-to-Sign should have been\n'{printable(to_sign)}'\n\n"
        f"The Host header came as '{printable(host)}'. If the client sent another, a proxy changed it and "
        "must hand it on as it is: see docs/coming-from-voice-id.md.\n"
    )
