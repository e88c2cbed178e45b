"""Read FLAC, Ogg (Vorbis and Opus) and MP3 through libsndfile, block by block.

libsndfile guesses what a file is and opens dozens of formats. It is only given bytes whose first header was
recognized here, and only a bounded number of frames is read.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial

import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.errors import AudioError
from sonant.voice.audio.formats import AudioFormat, AudioReader

_OGG_CODECS = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus"}
#: libsndfile's answer when a stream does not state its length.
_UNKNOWN_FRAMES = 2**62


class CompressedReader:
    """An open FLAC, Ogg or MP3 recording; read once, from the front."""

    __slots__ = ("_container", "_file", "channels", "encoding", "frames", "rate_hz")

    def __init__(self, data: bytes, *, container: str, encoding: str) -> None:
        """Open the bytes of a recognized container. Raises AudioError if libsndfile cannot read them."""
        self._container, self.encoding = container, encoding
        try:
            self._file = soundfile.SoundFile(io.BytesIO(data))
        except (soundfile.SoundFileError, RuntimeError):
            raise AudioError(f"{container} header cannot be read") from None
        if self._file.format != container.upper():
            raise AudioError(f"looks like {container} but holds something else")
        self.rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int | None = self._file.frames if 0 < self._file.frames < _UNKNOWN_FRAMES else None

    def blocks(self, channel: int, block_frames: int) -> Iterator[NDArray[np.float32]]:
        """Yield one channel in blocks of at most `block_frames` samples. Raises AudioError if damaged."""
        frames = np.empty((block_frames, self.channels), np.float32)
        done = 0
        while True:
            try:
                count = len(self._file.read(out=frames))
            except (soundfile.SoundFileError, RuntimeError):
                promise = "" if self.frames is None else f" of {self.frames / self.rate_hz:.1f} s"
                raise AudioError(
                    f"damaged or truncated: {self._container} cannot be decoded past "
                    f"{done / self.rate_hz:.1f} s{promise}"
                ) from None
            if count == 0:
                break
            done += count
            yield frames[:count, channel].copy()
        if self.frames is not None and done < self.frames:
            raise AudioError(
                f"truncated: header promises {self.frames / self.rate_hz:.1f} s, "
                f"there are {done / self.rate_hz:.1f} s"
            )


def _open_flac(data: bytes, _strict: bool) -> AudioReader:
    return CompressedReader(data, container="FLAC", encoding="FLAC")


def _open_ogg(data: bytes, _strict: bool) -> AudioReader:
    first = 27 + data[26] if len(data) > 26 else len(data)
    for signature, codec in _OGG_CODECS.items():
        if data[first : first + len(signature)] == signature:
            _check_last_page(data)
            return CompressedReader(data, container="Ogg", encoding=codec)
    raise AudioError("Ogg codec is not supported: Vorbis and Opus are")


def _check_last_page(data: bytes) -> None:
    """Raise AudioError if the file was cut off inside its last Ogg page, which states its own size."""
    page = data.rfind(b"OggS\0")
    count = data[page + 26] if len(data) > page + 26 else 0
    promised = page + 27 + count + sum(data[page + 27 : page + 27 + count])
    if promised > len(data):
        raise AudioError(f"truncated: last Ogg page ends at byte {promised}, there are {len(data)}")


def _open_mp3(data: bytes, _strict: bool) -> AudioReader:
    return CompressedReader(data[_mp3_start(data) :], container="MP3", encoding="MP3")


def _is_mp3(data: bytes) -> bool:
    start = _mp3_start(data)
    head = data[start : start + 4]
    # Eleven bits of sync, a version that exists, layer III, a bit rate and a sample rate that exist.
    return (
        len(head) == 4
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] & 0x18 != 0x08
        and head[1] & 0x06 == 0x02
        and head[2] & 0xF0 not in (0x00, 0xF0)
        and head[2] & 0x0C != 0x0C
    )


def _mp3_start(data: bytes) -> int:
    """Find the first byte behind all ID3 tags, whose sizes libmpg123 would trust."""
    start = 0
    while data[start : start + 3] == b"ID3" and len(data) >= start + 10:
        a, b, c, d = (byte & 0x7F for byte in data[start + 6 : start + 10])
        footer = 10 if data[start + 5] & 0x10 else 0
        start += 10 + footer + (a << 21 | b << 14 | c << 7 | d)
    return start


def _starts_with(signature: bytes, data: bytes) -> bool:
    return data.startswith(signature)


FLAC = AudioFormat(
    name="FLAC",
    media_types=frozenset(("audio/flac", "audio/x-flac")),
    recognizes=partial(_starts_with, b"fLaC"),
    open=_open_flac,
)
OGG = AudioFormat(
    name="Ogg",
    media_types=frozenset(("audio/ogg",)),
    recognizes=partial(_starts_with, b"OggS"),
    open=_open_ogg,
)
MP3 = AudioFormat(
    name="MP3",
    media_types=frozenset(("audio/mpeg", "audio/mp3")),
    recognizes=_is_mp3,
    open=_open_mp3,
)
