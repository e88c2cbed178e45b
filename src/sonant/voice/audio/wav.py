"""Read WAV with PCM, floating-point or G.711 samples: check the header, decode one channel on demand.

libsndfile is not used for them because it silently repairs wrong headers: a truncated recording must be an
error. Files with other codecs are in `wav_codecs`.
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
from sonant.voice.audio.wav_chunks import is_wav, read_layout
from sonant.voice.audio.wav_tags import A_LAW, EXTENSIBLE, FLOAT, MU_LAW, NAMES, PCM, tag_name

OWN_TAGS = frozenset((PCM, FLOAT, A_LAW, MU_LAW))
"""The encodings that are read here."""
_WIDTHS = {PCM: (8, 16, 24, 32), FLOAT: (32, 64), A_LAW: (8,), MU_LAW: (8,)}
_MAX_PCM_BITS = 32
#: Last 14 bytes of an EXTENSIBLE sub-format; the first two are the format tag.
_SUBTYPE_TAIL = bytes.fromhex("000000001000800000aa00389b71")


@dataclass(frozen=True, slots=True, kw_only=True)
class WavFormat:
    """What a fmt chunk states."""

    tag: int
    channels: int
    rate_hz: int
    bits: int
    block_bytes: int
    """A sample of every channel, or a block of a codec."""

    @property
    def width(self) -> int:
        """Bytes that a sample takes; it lies in their upper bits."""
        return self.block_bytes // self.channels


@dataclass(frozen=True, slots=True, kw_only=True)
class WavReader:
    """An open WAV recording whose header agrees with the length of its data."""

    data: bytes
    format: WavFormat
    segments: tuple[tuple[int, int], ...]
    """Position and length of the audio in bytes; the lengths are multiples of a frame."""

    @property
    def encoding(self) -> str:
        """The name of the encoding, such as PCM-16 or mu-law."""
        name = NAMES[self.format.tag]
        return f"{name}-{self.format.bits}" if self.format.tag in (PCM, FLOAT) else name

    @property
    def rate_hz(self) -> int:
        """The sample rate."""
        return self.format.rate_hz

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.format.channels

    @property
    def frames(self) -> int:
        """Samples per channel."""
        return sum(length for _, length in self.segments) // self.format.block_bytes

    def blocks(self, channel: int, block_frames: int) -> Iterator[NDArray[np.float32]]:
        """Yield one channel in blocks of at most `block_frames` samples; float32, full scale is 1."""
        for begin, length in self.segments:
            frames = length // self.format.block_bytes
            for start in range(0, frames, block_frames):
                at = begin + start * self.format.block_bytes
                yield self._decode(channel, at, min(block_frames, frames - start))

    def _decode(self, channel: int, at: int, count: int) -> NDArray[np.float32]:
        tag, width = self.format.tag, self.format.width
        raw = np.frombuffer(self.data, np.uint8, count * self.format.block_bytes, at)
        mono = np.ascontiguousarray(raw.reshape(count, self.channels, width)[:, channel])
        if tag == A_LAW:
            return A_LAW_TABLE[mono[:, 0]]
        if tag == MU_LAW:
            return MU_LAW_TABLE[mono[:, 0]]
        if tag == FLOAT:
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
    layout = read_layout(data, strict)
    found = read_format(layout.format)
    if found.tag not in OWN_TAGS:
        raise AudioError(f"encoding is {tag_name(found.tag)}, must be PCM, float, A-law or mu-law")
    _check_widths(found, strict)
    segments = []
    for begin, length in layout.segments:
        if strict and length % found.block_bytes:
            raise AudioError(f"data chunk of {length} bytes is not a multiple of {found.block_bytes}")
        segments.append((begin, length - length % found.block_bytes))
    return WavReader(data=data, format=found, segments=tuple(segments))


def read_format(chunk: bytes) -> WavFormat:
    """Read a fmt chunk of at least 16 bytes. Raises AudioError."""
    tag, channels, rate_hz, _, block_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == EXTENSIBLE:
        if len(chunk) < 40 or chunk[26:40] != _SUBTYPE_TAIL:
            raise AudioError("WAVE_FORMAT_EXTENSIBLE without a known sub-format")
        (tag,) = struct.unpack_from("<H", chunk, 24)
    if channels == 0 or block_bytes == 0:
        raise _contradiction(channels, bits, block_bytes)
    return WavFormat(tag=tag, channels=channels, rate_hz=rate_hz, bits=bits, block_bytes=block_bytes)


def _check_widths(found: WavFormat, strict: bool) -> None:
    """Check bits and bytes of samples against each other; `strict` refuses samples of odd widths."""
    tag, bits, channels = found.tag, found.bits, found.channels
    odd = tag == PCM and not strict and 0 < bits <= _MAX_PCM_BITS
    if bits not in _WIDTHS[tag] and not odd:
        widths = ", ".join(map(str, _WIDTHS[tag]))
        raise AudioError(f"{NAMES[tag]} with {bits} bits a sample is not supported: {widths} are")
    width, rest = divmod(found.block_bytes, channels)
    if rest or not (width * 8 == bits or (odd and bits < width * 8 <= _MAX_PCM_BITS)):
        raise _contradiction(channels, bits, found.block_bytes)


def _contradiction(channels: int, bits: int, block_bytes: int) -> AudioError:
    return AudioError(
        f"WAV header contradicts itself: {channels} channels of {bits} bits in blocks of {block_bytes} bytes"
    )


WAV = AudioFormat(
    name="WAV",
    media_types=frozenset(("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/x-pn-wav")),
    recognizes=is_wav,
    open=open_wav,
    accepted_by_voice_id=True,
    isolated=False,
)
