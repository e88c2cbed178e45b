"""Cut FLAC files into streams that were joined, each with an open length (RFC 9639)."""

from __future__ import annotations

from dataclasses import dataclass

_MARKER = b"fLaC"
_STREAMINFO_BYTES = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class FlacStream:
    """One FLAC stream whose header leaves the length open, so that it is read to its end."""

    data: bytes
    promised_frames: int | None
    """Samples per channel that its header stated; None if it left them open."""


def split_flac(data: bytes, start: int) -> list[FlacStream]:
    """Cut the file from its first marker on; an ID3 tag between two streams is left out."""
    begins = [start]
    # The marker may occur in audio by chance; that STREAMINFO's head follows it too has a chance of 2**-56.
    for block in (b"\0\0\0\x22", b"\x80\0\0\x22"):
        at = data.find(_MARKER + block, start + 4)
        while at >= 0:
            begins.append(at)
            at = data.find(_MARKER + block, at + 4)
    begins.sort()
    return [_stream(data[begin:end]) for begin, end in zip(begins, [*begins[1:], len(data)], strict=True)]


def _stream(data: bytes) -> FlacStream:
    """Open the length: the low 36 bits of bytes 18 to 26 of STREAMINFO, which begins at byte 8."""
    if len(data) < 8 + _STREAMINFO_BYTES or data[4] & 0x7F:
        return FlacStream(data=data, promised_frames=None)
    total = int.from_bytes(data[21:26], "big") & 0xF_FFFF_FFFF
    opened = data[:21] + bytes((data[21] & 0xF0,)) + bytes(4) + data[26:]
    return FlacStream(data=opened, promised_frames=total or None)
