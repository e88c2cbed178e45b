"""Cut FLAC files into streams that were joined, each with an open length (RFC 9639).

libFLAC decodes a stream whose frames change their sample rate, and reports the rate of its header for all of
it: what follows the change would play too slowly or too fast. So the headers of the frames are read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

_MARKER = b"fLaC"
_STREAMINFO_BYTES = 34
_LAST_BLOCK = 0x80
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
#: Sample rates in Hz by their codes; 0 stands for the header's, 12 to 14 for one that follows in the frame.
_RATES_HZ = {
    1: 88_200, 2: 176_400, 3: 192_000, 4: 8000, 5: 16_000, 6: 22_050, 7: 24_000, 8: 32_000, 9: 44_100,
    10: 48_000, 11: 96_000,
}  # fmt: skip
_RATE_UNITS_HZ = {12: (1, 1000), 13: (2, 1), 14: (2, 10)}
"""Bytes of a rate that follows in the frame, and its unit."""
_BLOCK_BYTES = {6: 1, 7: 2}
_MOST_CHANNELS_CODE, _NO_SAMPLE_SIZE = 10, 3
_HEADER_BYTES = 16
"""The longest header of a frame."""
_CRC8_POLYNOMIAL = 0x07


@dataclass(frozen=True, slots=True, kw_only=True)
class FlacStream:
    """One FLAC stream whose header leaves the length open, so that it is read to its end."""

    data: bytes
    declared_frames: int | None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RateChange:
    """The place where the frames of a stream begin to state another rate than its header."""

    rate_hz: int
    at_s: float
    """Where it is, in seconds from the start of the stream."""


def find_rate_change(data: bytes) -> RateChange | None:
    """Find the first two frames of a stream that state another sample rate than its header.

    A frame is found by its sync code, the CRC of its header and its number, which continues that of the frame
    before; what looks like one frame of another rate by chance has no second one.
    """
    if len(data) < 8 + _STREAMINFO_BYTES or data[4] & 0x7F:
        return None
    rate_hz = int.from_bytes(data[18:21], "big") >> 4
    samples = 0
    expected: int | None = None  # a stream that was cut out of another begins with any number
    other: _FrameHeader | None = None
    for frame in _frame_headers(data, _end_of_metadata(data)):
        stated_hz = frame.rate_hz or rate_hz
        if other is not None and stated_hz == other.rate_hz and frame.number == other.next_number:
            return RateChange(rate_hz=stated_hz, at_s=samples / rate_hz)
        if expected is not None and frame.number != expected:
            continue
        if stated_hz == rate_hz:
            expected, samples, other = frame.next_number, samples + frame.samples, None
        else:
            other = frame
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _FrameHeader:
    """What the header of a frame states."""

    rate_hz: int
    """0 for the rate of the stream's header."""
    samples: int
    number: int
    """The number of the frame, or of its first sample in a stream whose blocks vary in size."""
    next_number: int


def _end_of_metadata(data: bytes) -> int:
    at, last = 4, False
    while not last and at + 4 <= len(data):
        last = bool(data[at] & _LAST_BLOCK)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return at


def _frame_headers(data: bytes, begin: int) -> Iterator[_FrameHeader]:
    """Yield what looks like a frame's header and has the right CRC, from `begin` on."""
    for found in _SYNC.finditer(data, begin):
        header = _parse_header(data[found.start() : found.start() + _HEADER_BYTES])
        if header is not None:
            yield header


def _parse_header(head: bytes) -> _FrameHeader | None:
    """Read the header of a frame from its first bytes; None if they are none."""
    if (
        len(head) < 6
        or head[3] & 1
        or head[3] >> 4 > _MOST_CHANNELS_CODE
        or head[3] >> 1 & 7 == _NO_SAMPLE_SIZE
    ):
        return None
    block_code, rate_code = head[2] >> 4, head[2] & 15
    number, at = _coded_number(head, 4)
    if block_code == 0 or rate_code == 15 or number is None:
        return None
    size = _BLOCK_BYTES.get(block_code, 0)
    samples = int.from_bytes(head[at : at + size], "big") + 1 if size else _samples_of(block_code)
    at += size
    size, unit_hz = _RATE_UNITS_HZ.get(rate_code, (0, 0))
    rate_hz = int.from_bytes(head[at : at + size], "big") * unit_hz if size else _RATES_HZ.get(rate_code, 0)
    at += size
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    variable = head[1] & 1
    following = number + (samples if variable else 1)
    return _FrameHeader(rate_hz=rate_hz, samples=samples, number=number, next_number=following)


def _samples_of(block_code: int) -> int:
    return 192 if block_code == 1 else 576 << block_code - 2 if block_code <= 5 else 256 << block_code - 8


def _coded_number(head: bytes, at: int) -> tuple[int | None, int]:
    """Read a number that is coded as UTF-8 codes characters, of up to 36 bits; also return where it ends."""
    first = head[at]
    if first < 0x80:
        return first, at + 1
    more = f"{first:08b}0".find("0") - 1
    rest = head[at + 1 : at + 1 + more]
    if more not in range(1, 7) or len(rest) < more or any(byte >> 6 != 2 for byte in rest):
        return None, at
    number = first & (0x3F >> more)
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number, at + 1 + more


def _crc8(data: bytes) -> int:
    table, value = _crc8_table(), 0
    for byte in data:
        value = table[value ^ byte]
    return value


@cache
def _crc8_table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ (_CRC8_POLYNOMIAL if value & 0x80 else 0)) & 0xFF
        found.append(value)
    return tuple(found)


def _stream(data: bytes) -> FlacStream:
    """Open the length: the low 36 bits of bytes 18 to 26 of STREAMINFO, which begins at byte 8."""
    if len(data) < 8 + _STREAMINFO_BYTES or data[4] & 0x7F:
        return FlacStream(data=data, declared_frames=None)
    total = int.from_bytes(data[21:26], "big") & 0xF_FFFF_FFFF
    opened = data[:21] + bytes((data[21] & 0xF0,)) + bytes(4) + data[26:]
    return FlacStream(data=opened, declared_frames=total or None)
