"""Read recordings through libsndfile, block by block: one stream, or several that were joined.

libsndfile takes a length from the header and reads no further, whatever follows, and it repairs a wrong
length without a word. So it is given streams that other modules of this package have cut to their true
length, and what the header promised is compared here with what was decoded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.errors import AudioError

TOLERANCE_S = 0.5
"""What a lossy stream may lack: some encoders count their delay and padding, up to 2,304 samples at 8 kHz."""
_PART_S = 0.05
_UNKNOWN_FRAMES = 2**62
_TAG_BYTES = 128  # of ID3v1
_FAULTS = (soundfile.SoundFileError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream of a recording, as libsndfile reads it."""

    source: io.BytesIO | LongerFile
    promised_frames: int | None = None
    """Samples per channel that the stream's own header states; None if it does not."""
    promises: bool = False
    """Whether the length that libsndfile finds is a promise, and no estimate."""
    counted_frames: int | None = None
    """Samples per channel that were counted; a fault of the library behind them is the end."""
    raw: tuple[int, int, str] | None = None
    """Sample rate, channels and subtype of a stream without a header."""


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read from the front only: seeking in streams of unknown length fails."""

    def seekable(self) -> bool:
        return False


class LibsndfileReader:
    """An open recording of one or more streams; read once, from the front."""

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        container: str,
        encoding: str | None = None,
        tolerance_s: float = 0.0,
        promise_s: float | None = None,
    ) -> None:
        """Open the streams. Raises AudioError if libsndfile cannot read one, or their formats differ.

        `promise_s` is the length that the container states; `tolerance_s` what may be missing.
        """
        self._container, self._tolerance_s, self._streams = container, tolerance_s, streams
        self._files = [_open(stream, container) for stream in streams]
        first = self._files[0]
        self.rate_hz: int = first.samplerate
        self.channels: int = first.channels
        for file in self._files[1:]:
            if (file.samplerate, file.channels) != (self.rate_hz, self.channels):
                raise AudioError(
                    f"joined from recordings of different kinds: {self.rate_hz} Hz with {self.channels} and "
                    f"{file.samplerate} Hz with {file.channels} channels; send them one by one"
                )
        self.encoding = encoding or _ENCODINGS.get(first.subtype, first.subtype)
        promised = [_promise(stream, file) for stream, file in zip(streams, self._files, strict=True)]
        self._promised = promised
        self.frames: int | None = None
        if promise_s is not None:
            self.frames = round(promise_s * self.rate_hz)
        elif all(one is not None for one in promised):
            self.frames = sum(one for one in promised if one is not None)

    def blocks(self, channel: int, block_frames: int) -> Iterator[NDArray[np.float32]]:
        """Yield one channel in blocks of at most `block_frames` samples.

        Raises AudioError if the recording is damaged or shorter than promised.
        """
        frames = np.empty((block_frames, self.channels), np.float32)
        done = 0
        for file, stream, promised in zip(self._files, self._streams, self._promised, strict=True):
            begun = done
            while count := self._decode(file, stream, frames, begun, done):
                done += count
                yield frames[:count, channel].copy()
            if promised is not None and done - begun < promised - self._tolerance_s * self.rate_hz:
                raise self._truncated(begun + promised, done)
        if self.frames is not None and done < self.frames - self._tolerance_s * self.rate_hz:
            raise self._truncated(self.frames, done)

    def _decode(
        self, file: soundfile.SoundFile, stream: Stream, frames: NDArray[np.float32], begun: int, done: int
    ) -> int:
        """Fill `frames`, in parts so that what lies before damage is not lost; return how many there are."""
        count, step = 0, max(1, round(_PART_S * self.rate_hz))
        while count < len(frames):
            part = frames[count : count + step]
            try:
                found = len(file.read(out=part))
            except _FAULTS:
                missing = (
                    None if stream.counted_frames is None else begun + stream.counted_frames - done - count
                )
                if missing is None or missing > self._tolerance_s * self.rate_hz:
                    raise self._damaged(done + count) from None
                return count
            count += found
            if found < len(part):
                break
        return count

    def _damaged(self, done: int) -> AudioError:
        promise = "" if self.frames is None else f" of {self.frames / self.rate_hz:.1f} s"
        return AudioError(
            f"damaged or truncated: {self._container} cannot be decoded past "
            f"{done / self.rate_hz:.1f} s{promise}"
        )

    def _truncated(self, promised: int, done: int) -> AudioError:
        return AudioError(
            f"truncated: header promises {promised / self.rate_hz:.1f} s, "
            f"there are {done / self.rate_hz:.1f} s"
        )


class LongerFile(io.RawIOBase):
    """Bytes that claim to be more than they are, for libraries that estimate a length from the size.

    Reading ends where the bytes end, but the claimed last bytes can be read: libmpg123 searches a tag there.
    """

    def __init__(self, data: bytes, size: int) -> None:
        """Claim `size` further bytes."""
        self._data, self._size, self._at = data, len(data) + max(size, 2 * _TAG_BYTES), 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that positions can be chosen."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Choose the position; the end is that of the claimed size."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """Read from the position on."""
        end = self._size if size < 0 else min(self._size, self._at + size)
        found = self._data[self._at : end]
        if self._at >= max(len(self._data), self._size - _TAG_BYTES):
            found = bytes(max(0, end - self._at))
        self._at += len(found)
        return found

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def _open(stream: Stream, container: str) -> soundfile.SoundFile:
    try:
        if stream.raw is None:
            return _SequentialFile(stream.source)
        rate_hz, channels, subtype = stream.raw
        return _SequentialFile(
            stream.source, samplerate=rate_hz, channels=channels, subtype=subtype, format="RAW"
        )
    except _FAULTS:
        raise AudioError(f"{container} header cannot be read") from None


def _promise(stream: Stream, file: soundfile.SoundFile) -> int | None:
    if stream.promised_frames is not None:
        return stream.promised_frames
    return file.frames if stream.promises and 0 < file.frames < _UNKNOWN_FRAMES else None


#: Names of libsndfile's subtypes in messages and figures.
_ENCODINGS = {
    "PCM_S8": "PCM-8", "PCM_U8": "PCM-8", "PCM_16": "PCM-16", "PCM_24": "PCM-24", "PCM_32": "PCM-32",
    "FLOAT": "float-32", "DOUBLE": "float-64", "ULAW": "mu-law", "ALAW": "A-law",
    "IMA_ADPCM": "IMA ADPCM", "MS_ADPCM": "MS ADPCM", "GSM610": "GSM 6.10", "G721_32": "G.721",
    "G723_24": "G.723 24 kbit/s", "G723_40": "G.723 40 kbit/s", "NMS_ADPCM_16": "NMS ADPCM 16 kbit/s",
    "NMS_ADPCM_24": "NMS ADPCM 24 kbit/s", "NMS_ADPCM_32": "NMS ADPCM 32 kbit/s", "VOX_ADPCM": "VOX ADPCM",
    "DWVW_12": "DWVW-12", "DWVW_16": "DWVW-16", "DWVW_24": "DWVW-24",
    "ALAC_16": "ALAC", "ALAC_20": "ALAC", "ALAC_24": "ALAC", "ALAC_32": "ALAC",
    "VORBIS": "Vorbis", "OPUS": "Opus", "MPEG_LAYER_I": "MP1", "MPEG_LAYER_II": "MP2",
    "MPEG_LAYER_III": "MP3",
}  # fmt: skip
