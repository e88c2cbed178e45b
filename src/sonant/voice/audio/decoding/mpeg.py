"""Find the frames of MPEG audio (layers I to III), and with them where joined streams begin and end.

A stream without a length header does not state how long it is, and libmpg123 estimates: from the size of the
file and of the first frame. Frames are counted here instead. Sources: ISO 11172-3 2.4.1.3 (header), the Xing
and VBRI headers as LAME and Fraunhofer's encoder write them, ID3v2.4 3.1, APEv2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""In kbit/s, by MPEG version (1; 2 also stands for 2.5) and layer."""
_RATES_HZ = (44100, 48000, 32000)
_SEARCHED_BYTES = 1 << 16
"""How far behind tags the first frame is searched."""
_CHAIN = 4
"""Frames that must follow each other where the first one does not lie right behind the tags."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The header of one frame."""

    size: int
    """Bytes to the next frame."""
    rate_hz: int
    channels: int
    samples: int
    version: int
    layer: int

    @property
    def kind(self) -> tuple[int, int, int, int]:
        """What all frames of a stream share."""
        return self.rate_hz, self.channels, self.version, self.layer


@dataclass(frozen=True, slots=True, kw_only=True)
class MpegStream:
    """A run of frames that one encoder wrote."""

    data: bytes
    frame: Frame
    """The header of its first frame."""
    frames: int
    """Frames of audio that were found."""
    promised: int | None
    """Frames that its length header states; None without one."""
    biggest: int
    """Size of the largest frame."""


def parse_frame(data: bytes, at: int) -> Frame | None:
    """Read a frame's header; None if none is there. Streams of free format are not found."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version_bits, layer, rate, bits = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 2 & 3, head[2] >> 4
    if version_bits == 1 or layer == 4 or rate == 3 or bits in (0, 15):
        return None
    version = 1 if version_bits == 3 else 2
    rate_hz = _RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version_bits]
    bits_s, padding = _BITRATES[version, layer][bits - 1] * 1000, head[2] >> 1 & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and version == 2 else 1152
    size = (
        (12 * bits_s // rate_hz + padding) * 4 if layer == 1 else samples // 8 * bits_s // rate_hz + padding
    )
    return Frame(size, rate_hz, 1 if head[3] >> 6 == 3 else 2, samples, version, layer)


def find_start(data: bytes) -> int | None:
    """Find the first frame behind tags, followed by a second one or the end; None if there is none."""
    begin = end_of_tags(data, 0)
    for at in _syncs(data, begin, begin + _SEARCHED_BYTES):
        frame = parse_frame(data, at)
        if frame is not None and (_chained(data, at) if at > begin else _followed(data, at, frame)):
            return at
    return None


def end_of_tags(data: bytes, at: int) -> int:
    """Return the position behind all ID3 and APE tags, Lyrics3 blocks and zeros that begin at `at`."""
    while True:
        head = data[at : at + 32]
        if head.startswith(b"ID3") and len(head) >= 10:
            a, b, c, d = (byte & 0x7F for byte in head[6:10])
            at += 10 + (10 if head[5] & 0x10 else 0) + (a << 21 | b << 14 | c << 7 | d)
        elif head.startswith(b"TAG"):
            at += 227 if head.startswith(b"TAG+") else 128
        elif head.startswith(b"APETAGEX") and len(head) == 32:
            size, _, flags = struct.unpack_from("<III", head, 12)
            at += size + (32 if flags & 0x2000_0000 else 0) if size >= 32 else 32
        elif head.startswith(b"LYRICSBEGIN") and (end := data.find(b"LYRICS200", at)) >= 0:
            at = end + 9
        elif head[:1] == b"\0":
            at = _end_of_zeros(data, at)
        else:
            return at


def split_streams(data: bytes, start: int) -> tuple[list[MpegStream], int]:
    """Cut the frames from `start` on into streams; also return the bytes that are neither frames nor tags.

    A stream ends at a length header, and where rate, channels, version or layer change.
    """
    streams: list[_Growing] = []
    at, junk = start, 0
    while at < len(data):
        frame = parse_frame(data, at)
        if frame is None or not _continues(data, at, frame, streams):
            begin, at = at, end_of_tags(data, at)
            found = _resync(data, at, streams[-1].frame if streams else None)
            junk += found - at
            at = max(found, begin + 1)
            continue
        if streams and at + frame.size > len(data):  # the last frame is cut off: it cannot be decoded
            break
        promised = _length_header(data, at, frame)
        if promised is not None or not streams or streams[-1].frame.kind != frame.kind:
            streams.append(_Growing(frame, promised, []))
        streams[-1].add(at, frame, audio=promised is None)
        at += frame.size
    return [one.finish(data) for one in streams if one.frames], junk


@dataclass(slots=True)
class _Growing:
    """A stream whose frames are being found."""

    frame: Frame
    promised: int | None
    runs: list[list[int]]  # begin and end of frames without a gap
    frames: int = 0
    biggest: int = 0

    def add(self, at: int, frame: Frame, *, audio: bool) -> None:
        if self.runs and self.runs[-1][1] == at:
            self.runs[-1][1] = at + frame.size
        else:
            self.runs.append([at, at + frame.size])
        self.frames += audio
        self.biggest = max(self.biggest, frame.size)

    def finish(self, data: bytes) -> MpegStream:
        return MpegStream(
            data=b"".join(data[begin:end] for begin, end in self.runs),
            frame=self.frame,
            frames=self.frames,
            promised=self.promised,
            biggest=self.biggest,
        )


def _syncs(data: bytes, begin: int, end: int) -> Iterator[int]:
    at = data.find(b"\xff", begin, end)
    while at >= 0:
        yield at
        at = data.find(b"\xff", at + 1, end)


def _followed(data: bytes, at: int, frame: Frame) -> bool:
    """Whether the frame ends where another of its kind begins, or tags, or the file ends."""
    after = end_of_tags(data, at + frame.size)
    following = parse_frame(data, after)
    return after >= len(data) - 4 or (following is not None and following.rate_hz == frame.rate_hz)


def _chained(data: bytes, at: int) -> bool:
    """Whether frames of one kind follow each other without a gap."""
    kinds: list[tuple[int, int, int, int]] = []
    while len(kinds) < _CHAIN and (frame := parse_frame(data, at)):
        kinds.append(frame.kind)
        at += frame.size
    return len(kinds) == _CHAIN and len(set(kinds)) == 1


def _continues(data: bytes, at: int, frame: Frame, streams: list[_Growing]) -> bool:
    """Whether a header is a frame's and no chance: one of a new kind must be followed by a second one."""
    return bool(streams and streams[-1].frame.kind == frame.kind) or _followed(data, at, frame)


def _resync(data: bytes, at: int, kind: Frame | None) -> int:
    """Find the next frame from `at` on, or the end."""
    for place in _syncs(data, at, len(data)):
        frame = parse_frame(data, place)
        if frame and (kind is None or frame.rate_hz == kind.rate_hz) and _followed(data, place, frame):
            return place
    return len(data)


def _length_header(data: bytes, at: int, frame: Frame) -> int | None:
    """Return the number of frames that a Xing, Info or VBRI header states, 0 if it states none; else None."""
    if frame.layer != 3:
        return None
    side = (32 if frame.channels == 2 else 17) if frame.version == 1 else (17 if frame.channels == 2 else 9)
    body = data[at : at + frame.size]
    for offset in (4 + side, 6 + side):
        if body[offset : offset + 4] in (b"Xing", b"Info") and len(body) >= offset + 12:
            flags, count = struct.unpack_from(">II", body, offset + 4)
            return count if flags & 1 else 0
    if body[36:40] == b"VBRI" and len(body) >= 54:
        (count,) = struct.unpack_from(">I", body, 50)
        return int(count)
    return None


def _end_of_zeros(data: bytes, at: int) -> int:
    while data[at : at + 4096] == bytes(len(data[at : at + 4096])) and at < len(data):
        at = min(at + 4096, len(data))
    while at < len(data) and data[at] == 0:
        at += 1
    return at
