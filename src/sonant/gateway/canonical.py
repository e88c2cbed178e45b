"""The canonical form of a request, which AWS Signature Version 4 signs (AWS General Reference, "Signature
Version 4 signing process").

Everything is bytes, as received: text would need an encoding, which HTTP does not name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

Pair = tuple[bytes, bytes]


def canonical_request(
    *,
    method: str,
    path: bytes,
    query: Sequence[Pair],
    headers: Sequence[Pair],
    body_sha256: bytes,
) -> bytes:
    """Build the canonical request, whose hash is signed.

    `path` and `query` come from `canonical_path` and `query_pairs`, `headers` are in the order of the
    SignedHeaders list with folded values, `body_sha256` is in lower-case hexadecimal.
    """
    return b"\n".join(
        (
            method.upper().encode("ascii", "replace"),
            path,
            b"&".join([b"%b=%b" % pair for pair in sorted(query)]) if query else b"",
            *map(b":".join, headers),
            b"",
            b";".join([name for name, _ in headers]),
            body_sha256,
        )
    )


def canonical_path(raw_path: bytes) -> bytes:
    """Normalize a path: remove dot segments and doubled slashes, and percent-encode it (a second time, as all
    services but S3 do)."""
    if raw_path in (b"/", b""):
        return b"/"
    segments: list[bytes] = []
    for segment in raw_path.split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment not in (b"", b"."):
            segments.append(segment)
    trailing = b"/" if segments and raw_path.endswith(b"/") else b""
    return quote_from_bytes(b"/" + b"/".join(segments) + trailing, safe="/").encode("ascii")


def query_pairs(query_string: bytes) -> list[Pair]:
    """Parse a query string into names and values in their order, percent-encoded in canonical form.

    A plus sign is no space.
    """
    pairs = []
    for part in query_string.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            pairs.append((_percent_encode(name), _percent_encode(value)))
    return pairs


def _percent_encode(text: bytes) -> bytes:
    return quote_from_bytes(unquote_to_bytes(text), safe="").encode("ascii")


def fold(headers: Iterable[Pair]) -> dict[bytes, bytes]:
    """Header values by name: runs of white space become one space, repeated headers are joined by commas."""
    folded: dict[bytes, bytes] = {}
    for name, value in headers:
        trimmed = b" ".join(value.split())
        folded[name] = b"%b,%b" % (folded[name], trimmed) if name in folded else trimmed
    return folded
