"""AWS Signature Version 4, the side that verifies: in the `Authorization` header or in the query string.

Checks come in the order of AWS's own front ends, with their texts: presence, parts, date, signed headers,
scope, access key, signature, session token. What an answer repeats is the caller's own request, cut to a
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
    parse_time,
    read_claim,
    shown,
    signed_headers,
)

ALGORITHM = b"AWS4-HMAC-SHA256"
TERMINATOR = b"aws4_request"

_MAX_HEADERS = 100
_MAX_HEADER_BYTES = 32 * 1024
_MAX_QUERY_BYTES = 16 * 1024
_MAX_ACCESS_KEY_CHARACTERS = 128
_MAX_SIGNING_KEYS = 4096

_SHOWN_CANONICAL_CHARACTERS = 8192

_NEVER_SHOWN = frozenset({b"x-amz-security-token", b"authorization", b"cookie"})
"""Headers and query parameters whose values no answer repeats."""

_INVALID_TOKEN = "The security token included in the request is invalid."  # noqa: S105 - a message
_EXPIRED_TOKEN = "The security token included in the request is expired"  # noqa: S105 - a message


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a signature covers, as it came over the wire."""

    method: str
    raw_path: bytes
    """Still percent-encoded, without the query string."""
    query_string: bytes
    headers: Sequence[Pair]
    """Names in lower case, as ASGI gives them."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Credential:
    """An access key and whom it stands for."""

    access_key_id: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    """Set for temporary credentials: requests must carry the same."""
    principal: Any = None
    expires_at: datetime | None = None
    fingerprint: bytes = field(init=False, repr=False)
    """SHA-256 of the secret."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", hashlib.sha256(self.secret.encode()).digest())


class Verified(NamedTuple):
    """Who signed a request, and for which Region."""

    credential: Credential
    region: str


class Verifier:
    """Verifies requests for some Regions and one service.

    `find` gives the credential of an access key id, or None. It is called with at most 128 ASCII characters.
    """

    def __init__(
        self,
        regions: Sequence[str],
        service: str,
        skew_s: float,
        find: Callable[[str], Credential | None],
    ) -> None:
        self._service = service.encode("ascii")
        # What follows the date in a scope, by Region.
        self._regions = {
            b"/".join((b"", region.encode("ascii"), self._service, TERMINATOR)): region for region in regions
        }
        self._skew = timedelta(seconds=skew_s)
        self._minutes = f"{skew_s / 60:g} min."
        self._find = find
        self._signing_keys: dict[tuple[str, bytes, bytes, str], bytes] = {}
        # Stands in for unknown access keys, so that they take as long as known ones.
        self._nobody = Credential(access_key_id="", secret=secrets.token_hex(20))

    def verify(self, request: SignedRequest, now: datetime, declared_sha256: bytes | None = None) -> Verified:
        """The credential that `request` was signed with, and the Region; `now` is aware.

        `declared_sha256` is what the signature covers in place of the hash of `request.body`, for a body that
        is yet to come: its hash, which the caller then checks, or `UNSIGNED-PAYLOAD`.

        Raises `MissingAuthenticationToken`, `IncompleteSignature`, `InvalidSignature`, `UnrecognizedClient`
        or `ExpiredToken`.
        """
        _check_size(request)
        headers = fold(request.headers)
        query = query_pairs(request.query_string) if request.query_string else []
        claim = read_claim(headers, query)
        stamp = self._check_date(claim, now)
        signed = signed_headers(claim, headers)
        access_key_id, region = self._check_scope(claim, stamp)

        body_sha256 = declared_sha256 or hashlib.sha256(request.body).hexdigest().encode()
        if headers.get(b"x-amz-content-sha256", body_sha256) != body_sha256:
            raise InvalidSignature("The 'x-amz-content-sha256' header must be the SHA-256 of the body.")

        known = self._find(access_key_id) if 0 < len(access_key_id) <= _MAX_ACCESS_KEY_CHARACTERS else None
        credential = self._nobody if known is None else known
        if claim.expires_s is not None:
            query = [pair for pair in query if pair[0] != b"X-Amz-Signature"]
        path = canonical_path(request.raw_path)
        canonical = canonical_request(
            method=request.method, path=path, query=query, headers=signed, body_sha256=body_sha256
        )
        scope = claim.credential.partition(b"/")[2]
        to_sign = b"\n".join((ALGORITHM, stamp, scope, hashlib.sha256(canonical).hexdigest().encode()))
        key = self._signing_key(credential, stamp[:8], region)
        expected = hmac.digest(key, to_sign, "sha256").hex().encode()
        matches = hmac.compare_digest(expected, claim.signature)
        if known is None:
            raise UnrecognizedClient(_INVALID_TOKEN)
        if not matches:
            told = canonical_request(
                method=request.method,
                path=path,
                query=_masked(query),
                headers=_masked(signed),
                body_sha256=body_sha256,
            )
            raise InvalidSignature(_mismatch_text(told, to_sign, signed))
        _check_token(known, claim.token, now)
        return Verified(known, region)

    def _check_date(self, claim: ParsedAuthorization, now: datetime) -> bytes:
        """The time of signing in ISO 8601 basic form, if it is one that holds at `now`."""
        signed_at = parse_time(claim.date)
        if signed_at is None:
            raise IncompleteSignature(
                f"Date must be in ISO-8601 'basic format'. Got '{shown(claim.date)}'. "
                "See http://en.wikipedia.org/wiki/ISO_8601"
            )
        if signed_at > now + self._skew:
            raise InvalidSignature(
                f"Signature not yet current: {_basic(signed_at)} is still later than "
                f"{_basic(now + self._skew)} ({_basic(now)} + {self._minutes})"
            )
        if claim.expires_s is not None:
            end = signed_at + timedelta(seconds=claim.expires_s)
            if end < now:
                raise InvalidSignature(
                    f"Signature expired: {_basic(end)} is now earlier than {_basic(now)} "
                    f"({_basic(signed_at)} + {claim.expires_s} s)"
                )
        elif signed_at < now - self._skew:
            raise InvalidSignature(
                f"Signature expired: {_basic(signed_at)} is now earlier than {_basic(now - self._skew)} "
                f"({_basic(now)} - {self._minutes})"
            )
        return claim.date if claim.date[:1].isdigit() else _basic(signed_at).encode()

    def _check_scope(self, claim: ParsedAuthorization, stamp: bytes) -> tuple[str, str]:
        """The access key id and the Region, if the rest of the credential scope is right."""
        access_key_id, _, scope = claim.credential.partition(b"/")
        found = self._regions.get(scope[8:])
        if claim.algorithm == ALGORITHM and scope[:8] == stamp[:8] and found is not None:
            # A name that is not ASCII is nobody's.
            return access_key_id.decode("ascii") if access_key_id.isascii() else "", found
        if claim.algorithm != ALGORITHM:
            raise IncompleteSignature(
                f"Unsupported AWS 'algorithm': '{shown(claim.algorithm)}': AWS4-HMAC-SHA256 is supported."
            )
        pieces = claim.credential.split(b"/")
        if len(pieces) != 5:
            raise IncompleteSignature(
                "Credential must have exactly 5 slash-delimited elements, e.g. "
                f"keyid/date/region/service/term, got '{shown(claim.credential)}'"
            )
        _, date, region, service, terminator = pieces
        faults = []
        served = list(self._regions.values())
        if region not in {name.encode() for name in served}:
            faults.append(
                f"Credential should be scoped to a valid region, not '{shown(region)}'. This Sonant serves "
                f"{', '.join(served)}: its setting regions (SONANT_REGIONS) takes in others, see "
                "docs/coming-from-voice-id.md."
            )
        if service != self._service:
            faults.append(f"Credential should be scoped to correct service: '{self._service.decode()}'.")
        if terminator != TERMINATOR:
            faults.append(
                "Credential should be scoped with a valid terminator: 'aws4_request', "
                f"not '{shown(terminator)}'."
            )
        if date != stamp[:8]:
            faults.append(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{shown(date)}' != '{stamp[:8].decode()}', from '{stamp.decode()}'."
            )
        raise InvalidSignature(" ".join(faults))

    def _signing_key(self, credential: Credential, date: bytes, region: str) -> bytes:
        """The key of one access key, day and Region, kept. Kept under a hash, so that no secret outlives its
        credential here."""
        slot = (credential.access_key_id, credential.fingerprint, date, region)
        key = self._signing_keys.get(slot)
        if key is None:
            key = b"AWS4" + credential.secret.encode()
            for part in (date, region.encode(), self._service, TERMINATOR):
                key = hmac.digest(key, part, "sha256")
            if len(self._signing_keys) >= _MAX_SIGNING_KEYS:
                self._signing_keys.clear()  # keys of past days and callers: starting anew is cheap
            self._signing_keys[slot] = key
        return key


def _check_size(request: SignedRequest) -> None:
    size = sum(map(len, chain.from_iterable(request.headers)))
    if len(request.headers) > _MAX_HEADERS or size > _MAX_HEADER_BYTES:
        raise InvalidSignature("The request has more headers than can be verified.")
    if len(request.query_string) > _MAX_QUERY_BYTES:
        raise InvalidSignature("The query string is longer than can be verified.")


def _check_token(credential: Credential, token: bytes | None, now: datetime) -> None:
    wanted = None if credential.session_token is None else credential.session_token.encode()
    if (wanted is None) != (token is None) or not hmac.compare_digest(wanted or b"", token or b""):
        raise UnrecognizedClient(_INVALID_TOKEN)
    if credential.expires_at is not None and credential.expires_at <= now:
        raise ExpiredToken(_EXPIRED_TOKEN)


def _basic(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _masked(pairs: Sequence[Pair]) -> list[Pair]:
    return [(name, b"***" if name.lower() in _NEVER_SHOWN else value) for name, value in pairs]


def _mismatch_text(canonical: bytes, to_sign: bytes, signed: Sequence[Pair]) -> str:
    host = next((value for name, value in signed if name == b"host"), b"")
    return (
        "The request signature we calculated does not match the signature you provided. Check your AWS "
        "Secret Access Key and signing method. Consult the service documentation for details.\n\n"
        f"The Canonical String for this request should have been\n"
        f"'{shown(canonical, _SHOWN_CANONICAL_CHARACTERS)}'\n\n"
        f"The String-to-Sign should have been\n'{shown(to_sign)}'\n\n"
        f"The Host header came as '{shown(host)}'. If the client sent another, a proxy changed it and must "
        "hand it on as it is: see docs/coming-from-voice-id.md.\n"
    )
