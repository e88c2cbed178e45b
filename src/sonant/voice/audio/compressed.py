"""FLAC, Ogg Vorbis and Opus, MP3: read through libsndfile, block by block.

libsndfile guesses what a file is and will open dozens of formats; it is only handed bytes whose first
header was recognised here, and only ever asked for a bounded number of frames.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.errors import AudioError

_OGG_CODECS = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus"}
#: What libsndfile answers when a stream does not say how long it is.
_UNKNOWN_FRAMES = 2**62


class CompressedSource:
    """An open FLAC, Ogg or MP3 recording; read once, from the front."""

    __slots__ = ("_file", "channels", "container", "encoding", "frames", "rate_hz")

    def __init__(self, data: bytes) -> None:
        """Raises AudioError if the bytes are none of the three or libsndfile cannot open them."""
        self.container, self.encoding, start = _recognise(data)
        try:
            self._file = soundfile.SoundFile(io.BytesIO(data[start:]))
        except (soundfile.SoundFileError, RuntimeError):
            raise AudioError(f"{self.container} header cannot be read") from None
        if self._file.format != self.container.upper():
            raise AudioError(f"looks like {self.container} but holds something else")
        self.rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int | None = self._file.frames if 0 < self._file.frames < _UNKNOWN_FRAMES else None

    def blocks(self, channel: int, block_frames: int) -> Iterator[NDArray[np.float32]]:
        """The samples of one channel in blocks of at most `block_frames`. Raises AudioError if damaged."""
        frames = np.empty((block_frames, self.channels), np.float32)
        done = 0
        while True:
            try:
                count = len(self._file.read(out=frames))
            except (soundfile.SoundFileError, RuntimeError):
                promise = "" if self.frames is None else f" of {self.frames / self.rate_hz:.1f} s"
                raise AudioError(
                    f"damaged or truncated: {self.container} cannot be decoded past "
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


def _recognise(data: bytes) -> tuple[str, str, int]:
    """Container, encoding, and where it begins (after an ID3 tag, whose size libmpg123 would believe)."""
    if data[:4] == b"fLaC":
        return "FLAC", "FLAC", 0
    if data[:4] == b"OggS":
        first = 27 + data[26] if len(data) > 26 else len(data)
        for signature, codec in _OGG_CODECS.items():
            if data[first : first + len(signature)] == signature:
                _check_last_page(data)
                return "Ogg", codec, 0
        raise AudioError("Ogg codec is not supported: Vorbis and Opus are")
    start = 0
    while data[start : start + 3] == b"ID3" and len(data) >= start + 10:
        a, b, c, d = (byte & 0x7F for byte in data[start + 6 : start + 10])
        footer = 10 if data[start + 5] & 0x10 else 0
        start += 10 + footer + (a << 21 | b << 14 | c << 7 | d)
    head = data[start : start + 4]
    # Eleven bits of sync, a version that exists, layer III, a bit rate and a sample rate that exist.
    if (
        len(head) == 4
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] & 0x18 != 0x08
        and head[1] & 0x06 == 0x02
        and head[2] & 0xF0 not in (0x00, 0xF0)
        and head[2] & 0x0C != 0x0C
    ):
        return "MP3", "MP3", start
    raise AudioError("not a recording: begins like none of WAV, FLAC, Ogg, MP3")


def _check_last_page(data: bytes) -> None:
    """An Ogg page states its size; the last one tells whether the file was cut off inside it."""
    page = data.rfind(b"OggS\0")
    count = data[page + 26] if len(data) > page + 26 else 0
    promised = page + 27 + count + sum(data[page + 27 : page + 27 + count])
    if promised > len(data):
        raise AudioError(f"truncated: last Ogg page ends at byte {promised}, there are {len(data)}")
