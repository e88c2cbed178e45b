"""Converts keys of objects to paths below a bucket's folder, and back.

A segment of the key (between two `/`) is the unchanged name of a folder or file whenever the file system can
store it: `2024/call 100%.wav` is found where a user put it. Other segments are escaped:

    empty  .  ..  control characters  over 200 bytes  beginning with the escape's own prefix

become `.s3~` and the segment's UTF-8 bytes in hex. Every 100 bytes that are followed by more of the same
segment become a folder `.s3~+` and hex. So every legal key has one path, which never leaves the bucket, and
every listed path has one key.
"""

from __future__ import annotations

import re

ESCAPE = b".s3~"
TEMPORARY = ESCAPE + b"tmp-"
"""Prefix of the names of files being written; no key's path has such a name, since it is not hex."""

_MORE = ESCAPE + b"+"
_PLAIN_MAX_BYTES = 200
_PIECE_BYTES = 100
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def path_of(key: str) -> tuple[bytes, ...]:
    """Return the file names from the bucket's folder to the object of a key that is not empty."""
    names: list[bytes] = []
    for segment in key.encode().split(b"/"):
        if _is_plain(segment):
            names.append(segment)
        else:
            names += _escaped(segment)
    return tuple(names)


def piece_of(name: bytes) -> tuple[bytes, bool] | None:
    """Return the bytes of a segment in one file name, and whether the segment continues in the folder below.

    None for a name that no key has. `segment_of` takes the joined pieces of a segment.
    """
    if not name.startswith(ESCAPE):
        return name, False
    more = name.startswith(_MORE)
    digits = name[len(_MORE if more else ESCAPE) :]
    try:
        piece = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return None
    return (piece, more) if not more or len(piece) == _PIECE_BYTES else None


def segment_of(segment: bytes, names: tuple[bytes, ...]) -> str | None:
    """Return the segment as text, or None when `path_of` would not give it these `names`."""
    if names != ((segment,) if _is_plain(segment) else _escaped(segment)):
        return None
    try:
        return segment.decode()
    except UnicodeDecodeError:
        return None


def _is_plain(segment: bytes) -> bool:
    return (
        0 < len(segment) <= _PLAIN_MAX_BYTES
        and segment not in (b".", b"..")
        and not segment.startswith(ESCAPE)
        and not _CONTROL.search(segment)
    )


def _escaped(segment: bytes) -> tuple[bytes, ...]:
    last = max(0, len(segment) - 1) // _PIECE_BYTES * _PIECE_BYTES
    pieces = [_MORE + segment[at : at + _PIECE_BYTES].hex().encode() for at in range(0, last, _PIECE_BYTES)]
    return (*pieces, ESCAPE + segment[last:].hex().encode())
