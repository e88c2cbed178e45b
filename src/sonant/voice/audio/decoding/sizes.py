"""Check that a container is as long as its header declares, where libsndfile repairs it without a word.

Sources: AIFF-C (Apple, 1991), the CAF specification (Apple, 2006), Sun's audio file format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from sonant.errors import AudioError

LEFT_OPEN_BYTES = 2**30
"""A size from here on was left open: no recording of this size is accepted, see `audio.max_file_bytes`."""
_MAX_CHUNKS = 4096
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_BYTES = 1 << 20


def check_declared(declared: int, available: int, what: str = "audio") -> None:
    """Raise AudioError if less is there than was declared, unless the size was left open."""
    if available < declared < LEFT_OPEN_BYTES:
        raise AudioError(f"truncated: header declares {declared} bytes of {what}, there are {available}")


def check_aiff(data: bytes) -> None:
    """Check the sound chunk of AIFF and AIFF-C. Raises AudioError."""
    for name, at, size in _iff_chunks(data):
        if name == b"SSND":
            check_declared(size, len(data) - at)
            return


def check_caf(data: bytes) -> None:
    """Check the chunks of a Core Audio file; a size of -1 is open. Raises AudioError."""
    at = 8
    while at + 12 <= len(data):
        name, size = struct.unpack_from(">4sq", data, at)
        at += 12
        if name == b"data" and size >= 0:
            check_declared(size, len(data) - at)
        if size < 0:
            return
        at += size


def check_au(data: bytes) -> None:
    """Check the length in the header of a Sun audio file; all ones are open. Raises AudioError."""
    if len(data) >= 24:
        order = ">" if data.startswith(b".snd") else "<"
        begin, size = struct.unpack_from(f"{order}II", data, 4)
        check_declared(size, len(data) - begin)


def asf_duration_s(data: bytes) -> float | None:
    """Return the duration in the file properties of Windows Media; None if it is open (ASF 3.2).

    FFmpeg replaces it by an estimate when the file is shorter than it was.
    """
    at = data.find(_ASF_FILE_PROPERTIES, 0, _ASF_HEADER_BYTES)
    if at < 0 or len(data) < at + 92:
        return None
    play_100ns, _, preroll_ms, flags = struct.unpack_from("<QQQI", data, at + 64)
    duration_s = play_100ns * 1e-7 - preroll_ms * 1e-3
    return None if flags & 1 or duration_s <= 0 else float(duration_s)


def _iff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        name, size = struct.unpack_from(">4sI", data, at)
        yield name, at + 8, size
        at += 8 + size + size % 2


SizeCheck = Callable[[bytes], None]
"""Raises AudioError for a file that is shorter than it declares."""
