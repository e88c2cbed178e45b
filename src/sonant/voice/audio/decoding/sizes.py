"""Check that a container is as long as its header promises, where libsndfile repairs it without a word.

Sources: AIFF-C (Apple, 1991), the CAF specification (Apple, 2006), Sun's audio file format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from sonant.errors import AudioError

LEFT_OPEN_BYTES = 2**30
"""A size from here on was left open: no recording of this size is accepted, see `audio.max_file_bytes`."""
_MAX_CHUNKS = 4096


def check_promised(promised: int, available: int, what: str = "audio") -> None:
    """Raise AudioError if less is there than was promised, unless the size was left open."""
    if available < promised < LEFT_OPEN_BYTES:
        raise AudioError(f"truncated: header promises {promised} bytes of {what}, there are {available}")


def check_aiff(data: bytes) -> None:
    """Check the sound chunk of AIFF and AIFF-C. Raises AudioError."""
    for name, at, size in _iff_chunks(data):
        if name == b"SSND":
            check_promised(size, len(data) - at)
            return


def check_caf(data: bytes) -> None:
    """Check the chunks of a Core Audio file; a size of -1 is open. Raises AudioError."""
    at = 8
    while at + 12 <= len(data):
        name, size = struct.unpack_from(">4sq", data, at)
        at += 12
        if name == b"data" and size >= 0:
            check_promised(size, len(data) - at)
        if size < 0:
            return
        at += size


def check_au(data: bytes) -> None:
    """Check the length in the header of a Sun audio file; all ones are open. Raises AudioError."""
    if len(data) >= 24:
        order = ">" if data.startswith(b".snd") else "<"
        begin, size = struct.unpack_from(f"{order}II", data, 4)
        check_promised(size, len(data) - begin)


def _iff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        name, size = struct.unpack_from(">4sI", data, at)
        yield name, at + 8, size
        at += 8 + size + size % 2


SizeCheck = Callable[[bytes], None]
"""Raises AudioError for a file that is shorter than it promises."""
