"""Parser of a request's SigV4 authorization, in the `Authorization` header or the query string.

It names the access key, the time and the signed headers. Nothing is verified here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from sonant.errors import IncompleteSignature, InvalidSignature, MissingAuthenticationToken
from sonant.gateway.canonical import Pair

MAX_PRESIGNED_S = 604_800
"""Longest validity of a presigned request: seven days, as in AWS."""

_MAX_SHOWN_CHARS = 200
_MAX_TIME_BYTES = 40

_CACHE_ENTRIES = 1024
"""Cached texts of each kind: the requests of one client differ in little but their signature."""
_MAX_CACHED_BYTES = 1024
"""Longer texts are parsed anew each time."""

_ALWAYS_SIGNED = b"host"
_SIGNED_IF_PRESENT = (b"x-amz-date", b"x-amz-target", b"x-amz-security-token")
"""Unsigned, these could be changed in transit: the target chooses the operation."""

_SIGNATURE = b"Signature="
_HEADER_PARTS = (b"Credential", b"Signature", b"SignedHeaders")
_QUERY_PARTS = (
    b"X-Amz-Algorithm",
    b"X-Amz-Credential",
    b"X-Amz-Signature",
    b"X-Amz-SignedHeaders",
    b"X-Amz-Date",
    b"X-Amz-Expires",
)
_QUERY_MARKS = frozenset({b"X-Amz-Algorithm", b"X-Amz-Credential", b"X-Amz-Signature"})
"""Any of these in the query string makes the request a presigned one."""


class ParsedAuthorization(NamedTuple):
    """The authorization of a request, unverified."""

    algorithm: bytes
    credential: bytes
    signed_headers: bytes
    signature: bytes
    date: bytes
    token: bytes | None
    expires_s: int | None
    """Validity of a presigned request in seconds; None for one signed in its header."""


def parse_authorization(headers: Mapping[bytes, bytes], query: Sequence[Pair]) -> ParsedAuthorization:
    """Parse the authorization of a request with these folded headers and encoded query parameters.

    Raises `MissingAuthenticationToken`, `IncompleteSignature` with a sentence for each missing part, or
    `InvalidSignature` if both the header and the query string hold one.
    """
    authorization = headers.get(b"authorization", b"")
    presigned = bool(query) and any(name in _QUERY_MARKS for name, _ in query)
    if authorization and presigned:
        raise InvalidSignature(
            "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."
        )
    if presigned:
        return _parse_query(query)
    if not authorization.startswith(b"AWS4-"):
        raise MissingAuthenticationToken("Request is missing Authentication Token")
    return _parse_header(authorization, headers)


def _parse_header(authorization: bytes, headers: Mapping[bytes, bytes]) -> ParsedAuthorization:
    date = headers.get(b"x-amz-date") or headers.get(b"date") or b""
    head, _, signature = authorization.rpartition(_SIGNATURE)
    if date and signature.isalnum() and len(head) <= _MAX_CACHED_BYTES and (cached := _parse_head(head)):
        return ParsedAuthorization(*cached, signature, date, headers.get(b"x-amz-security-token"), None)
    return parse_whole_header(authorization, headers)


def parse_whole_header(authorization: bytes, headers: Mapping[bytes, bytes]) -> ParsedAuthorization:
    """Parse an `Authorization` header without the cache; raises as `parse_authorization` does."""
    date = headers.get(b"x-amz-date") or headers.get(b"date") or b""
    algorithm, parts = _parts(authorization)
    faults = [
        f"Authorization header requires '{name.decode()}' parameter."
        for name in _HEADER_PARTS
        if not parts.get(name)
    ]
    if not date:
        faults.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if faults:
        raise IncompleteSignature(f"{' '.join(faults)} Authorization={printable(authorization)}")
    return ParsedAuthorization(
        algorithm=algorithm,
        credential=parts[b"Credential"],
        signed_headers=parts[b"SignedHeaders"],
        signature=parts[b"Signature"],
        date=date,
        token=headers.get(b"x-amz-security-token"),
        expires_s=None,
    )


@lru_cache(maxsize=_CACHE_ENTRIES)
def _parse_head(head: bytes) -> tuple[bytes, bytes, bytes] | None:
    """(algorithm, credential, signed headers) of a header that ends with its signature, from the text before
    that; None if the header must be parsed as a whole."""
    try:
        algorithm, parts = _parts(head + _SIGNATURE + b"0")
    except IncompleteSignature:
        return None
    if parts.get(b"Signature") != b"0" or not all(map(parts.get, _HEADER_PARTS)):
        return None
    return algorithm, parts[b"Credential"], parts[b"SignedHeaders"]


def _parts(authorization: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The algorithm, and the other parts of the header by name."""
    algorithm, _, rest = authorization.partition(b" ")
    parts: dict[bytes, bytes] = {}
    for part in rest.split(b","):
        name, equals, value = part.strip().partition(b"=")
        if name in parts or (name and not equals):
            raise IncompleteSignature(
                f"'{printable(name)}' not a valid key=value pair (missing equal-sign, or given twice) in "
                f"Authorization header: '{printable(authorization)}'."
            )
        parts[name] = value
    return algorithm, parts


def _parse_query(query: Sequence[Pair]) -> ParsedAuthorization:
    given: dict[bytes, bytes] = {}
    for name, value in query:
        if name.startswith(b"X-Amz-"):
            if name in given:
                raise IncompleteSignature(f"AWS query-string parameter '{printable(name)}' is given twice.")
            given[name] = unquote_to_bytes(value)
    faults = [
        f"AWS query-string parameters must include '{name.decode()}'."
        for name in _QUERY_PARTS
        if not given.get(name)
    ]
    if faults:
        raise IncompleteSignature(f"{' '.join(faults)} Re-examine the query-string parameters.")
    lifetime = given[b"X-Amz-Expires"]
    expires_s = int(lifetime) if lifetime.isdigit() and len(lifetime) <= 6 else 0
    if not 0 < expires_s <= MAX_PRESIGNED_S:
        raise IncompleteSignature(f"X-Amz-Expires must be a number of seconds from 1 to {MAX_PRESIGNED_S}.")
    return ParsedAuthorization(
        algorithm=given[b"X-Amz-Algorithm"],
        credential=given[b"X-Amz-Credential"],
        signed_headers=given[b"X-Amz-SignedHeaders"],
        signature=given[b"X-Amz-Signature"],
        date=given[b"X-Amz-Date"],
        token=given.get(b"X-Amz-Security-Token"),
        expires_s=expires_s,
    )


def signed_headers(authorization: ParsedAuthorization, headers: Mapping[bytes, bytes]) -> list[Pair]:
    """Return the signed headers in the signer's order.

    Raises `InvalidSignature` if a required one is missing.
    """
    names, signed = _names(authorization.signed_headers)
    if _ALWAYS_SIGNED not in signed:
        raise InvalidSignature("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    for name in _SIGNED_IF_PRESENT:
        if name in headers and name not in signed:
            raise InvalidSignature(f"'{name.decode()}' must be a 'SignedHeader' in the AWS Authorization.")
    if len(signed) != len(names) or not signed <= headers.keys():
        raise InvalidSignature("A signed header is missing from the request, or named twice.")
    return [(name, headers[name]) for name in names]


def _names(listed: bytes) -> tuple[list[bytes], frozenset[bytes]]:
    """Header names in the signer's order, and as a set."""
    return _cached_names(listed) if len(listed) <= _MAX_CACHED_BYTES else _split_names(listed)


def _split_names(listed: bytes) -> tuple[list[bytes], frozenset[bytes]]:
    names = listed.split(b";")
    return names, frozenset(names)


_cached_names = lru_cache(maxsize=_CACHE_ENTRIES)(_split_names)


def parse_time(text: bytes) -> datetime | None:
    """Parse `20261122T093000Z` or the form of a `Date` header; None for anything else."""
    return _cached_time(text) if len(text) <= _MAX_TIME_BYTES else None


@lru_cache(maxsize=_CACHE_ENTRIES)
def _cached_time(text: bytes) -> datetime | None:
    try:
        given = text.decode("ascii")
        if len(given) == 16 and given[:8].isdigit() and given[8] == "T" and given[9:15].isdigit():
            return datetime.fromisoformat(given) if given[15] == "Z" else None
        if given[:1].isdigit():
            return None
        parsed = parsedate_to_datetime(given)
        # "-0000" is UTC of an unknown time zone (RFC 5322); Python makes it naive.
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def printable(text: bytes, most: int = _MAX_SHOWN_CHARS) -> str:
    """Text from the client that a response may repeat: cut off at `most` bytes, without control codes."""
    cut = text[:most].decode("utf-8", "replace") + ("..." if len(text) > most else "")
    return cut if cut.isprintable() else "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in cut)
