"""The canonical form of a request that AWS Signature Version 4 signs (AWS General Reference, "Signature
Version 4 signing process").

Everything is bytes, as it came over the wire; text would need an encoding that HTTP does not name.
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
    """The text whose hash is signed.

    `path` and `query` as `canonical_path` and `query_pairs` give them, `headers` in the order of the
    SignedHeaders list with folded values, `body_sha256` in lower-case hexadecimal.
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
    """The path with dot segments and doubled slashes removed, and percent-encoded (a second time, as all
    services but S3 want it)."""
    if raw_path in (b"/", b""):
        return b"/"
    kept: list[bytes] = []
    for segment in raw_path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    closing = b"/" if kept and raw_path.endswith(b"/") else b""
    return quote_from_bytes(b"/" + b"/".join(kept) + closing, safe="/").encode("ascii")


def query_pairs(query_string: bytes) -> list[Pair]:
    """Names and values of a query string, each percent-encoded in the one canonical way, in their order.

    A plus sign stands for itself.
    """
    pairs = []
    for part in query_string.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            pairs.append((_encoded(name), _encoded(value)))
    return pairs


def _encoded(text: bytes) -> bytes:
    return quote_from_bytes(unquote_to_bytes(text), safe="").encode("ascii")


def fold(headers: Iterable[Pair]) -> dict[bytes, bytes]:
    """Header values by name: runs of white space made one space, repeated headers joined by commas."""
    folded: dict[bytes, bytes] = {}
    for name, value in headers:
        trimmed = b" ".join(value.split())
        folded[name] = b"%b,%b" % (folded[name], trimmed) if name in folded else trimmed
    return folded
