"""Read WAV (RIFF WAVE): check the header, decode the samples of one channel on demand.

libsndfile is not used here because it silently repairs wrong headers: a truncated recording must be an
error. Layout: Microsoft, "Multiple Channel Audio Data and WAVE Files".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AudioError
from sonant.voice.audio.formats import AudioFormat
from sonant.voice.audio.g711 import A_LAW_TABLE, MU_LAW_TABLE

_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_NAMES = {_PCM: "PCM", _FLOAT: "float", _A_LAW: "A-law", _MU_LAW: "mu-law"}
_WIDTHS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64), _A_LAW: (8,), _MU_LAW: (8,)}
#: Last 14 bytes of an EXTENSIBLE sub-format; the first two are the format tag.
_SUBTYPE_TAIL = bytes.fromhex("000000001000800000aa00389b71")
#: Sizes that writers who cannot seek back leave in the header: none, FFmpeg's, SoX's.
_UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFF000)
_MAX_CHUNKS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class WavReader:
    """An open WAV recording whose header agrees with the length of its data."""

    data: bytes
    tag: int
    bits: int
    rate_hz: int
    channels: int
    offset: int
    """Start of the samples, in bytes."""
    frames: int

    @property
    def encoding(self) -> str:
        """The name of the encoding, such as PCM-16 or mu-law."""
        return f"{_NAMES[self.tag]}-{self.bits}" if self.tag in (_PCM, _FLOAT) else _NAMES[self.tag]

    def blocks(self, channel: int, block_frames: int) -> Iterator[NDArray[np.float32]]:
        """Yield one channel in blocks of at most `block_frames` samples; float32, full scale is 1."""
        for start in range(0, self.frames, block_frames):
            yield self.read(channel, start, block_frames)

    def read(self, channel: int, start: int, count: int) -> NDArray[np.float32]:
        """Decode at most `count` samples of one channel from frame `start` on; float32, full scale is 1."""
        count = max(0, min(count, self.frames - start))
        width = self.bits // 8
        begin = self.offset + start * width * self.channels
        raw = np.frombuffer(self.data, np.uint8, count * width * self.channels, begin)
        mono = np.ascontiguousarray(raw.reshape(count, self.channels, width)[:, channel])
        if self.tag == _A_LAW:
            return A_LAW_TABLE[mono[:, 0]]
        if self.tag == _MU_LAW:
            return MU_LAW_TABLE[mono[:, 0]]
        if self.tag == _FLOAT:
            with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite: refused later
                return mono.view("<f4" if width == 4 else "<f8")[:, 0].astype(np.float32)
        if width == 1:
            return (mono[:, 0].astype(np.float32) - np.float32(128)) * np.float32(2**-7)
        if width == 2:
            return mono.view("<i2")[:, 0].astype(np.float32) * np.float32(2**-15)
        if width == 3:  # placed in the upper bytes of 32 bits, so that the sign falls into place
            wide = np.zeros((count, 4), np.uint8)
            wide[:, 1:] = mono
            mono = wide
        return mono.view("<i4")[:, 0].astype(np.float32) * np.float32(2**-31)


def open_wav(data: bytes, strict: bool) -> WavReader:
    """Read and check the header. Raises AudioError.

    `strict` also refuses sizes left open by streaming writers, a RIFF size beyond the end, and an incomplete
    sample frame at the end; otherwise such a recording is read up to its last whole frame.
    """
    if len(data) < 12:
        raise AudioError(f"WAV header is cut off: {len(data)} bytes, at least 12 needed")
    (riff_size,) = struct.unpack_from("<I", data, 4)
    if strict and riff_size > len(data) - 8 + 1:  # the pad byte of an odd last chunk is often left out
        raise AudioError(f"truncated: header promises {riff_size + 8} bytes, there are {len(data)}")
    fmt: tuple[int, int, int, int] | None = None
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            raise AudioError("WAV file ends before its data chunk")
        name, size = data[position : position + 4], struct.unpack_from("<I", data, position + 4)[0]
        position += 8
        if name == b"fmt ":
            if fmt is not None:
                raise AudioError("WAV file has two fmt chunks, must have one")
            fmt = _read_format(data[position : position + min(size, 40)], size)
        elif name == b"data":
            if fmt is None:
                raise AudioError("WAV file has no fmt chunk before its data chunk")
            length = _data_length(size, len(data) - position, riff_size == len(data) - 8, strict)
            tag, channels, rate_hz, bits = fmt
            frame_bytes = channels * bits // 8
            if strict and length % frame_bytes:
                raise AudioError(f"data chunk of {length} bytes is not a multiple of {frame_bytes}")
            return WavReader(
                data=data,
                tag=tag,
                bits=bits,
                rate_hz=rate_hz,
                channels=channels,
                offset=position,
                frames=length // frame_bytes,
            )
        position += size + size % 2
    raise AudioError(f"WAV file has more than {_MAX_CHUNKS} chunks before its data chunk")


def _data_length(size: int, available: int, riff_size_correct: bool, strict: bool) -> int:
    """Work out the bytes of audio from the size in the header and the bytes that follow it."""
    # A size of 0 in a file whose RIFF size is right is correct: the recording is empty.
    left_open = size in _UNKNOWN_SIZES and not (size == 0 and riff_size_correct) and available > 0
    if left_open and strict:
        raise AudioError(f"data chunk size was left open ({size}), must be the size of the audio")
    if left_open and size != available:
        return available
    if size > available:
        raise AudioError(f"truncated: header promises {size} bytes of audio, there are {available}")
    return size


def _read_format(chunk: bytes, size: int) -> tuple[int, int, int, int]:
    """Read tag, channels, rate in Hz and bits per sample, and check them against each other."""
    if size < 16 or len(chunk) < 16:
        raise AudioError(f"fmt chunk has {min(size, len(chunk))} bytes, must have at least 16")
    tag, channels, rate_hz, _, block_align, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE:
        if len(chunk) < 40 or chunk[26:40] != _SUBTYPE_TAIL:
            raise AudioError("WAVE_FORMAT_EXTENSIBLE without a known sub-format")
        (tag,) = struct.unpack_from("<H", chunk, 24)
    if tag not in _NAMES:
        raise AudioError(f"WAV encoding {tag:#06x} is not supported: PCM, float, A-law and mu-law are")
    if bits not in _WIDTHS[tag]:
        widths = ", ".join(map(str, _WIDTHS[tag]))
        raise AudioError(f"{_NAMES[tag]} with {bits} bits a sample is not supported: {widths} are")
    if channels == 0 or block_align != channels * bits // 8:
        raise AudioError(
            f"WAV header contradicts itself: {channels} channels of {bits} bits "
            f"in blocks of {block_align} bytes"
        )
    return tag, channels, rate_hz, bits


def _is_wav(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE"


WAV = AudioFormat(
    name="WAV",
    media_types=frozenset(("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave")),
    recognizes=_is_wav,
    open=open_wav,
    accepted_by_voice_id=True,
)
