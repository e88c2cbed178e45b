"""Decode a recording's bytes to samples of one channel in the telephone band (8 kHz).

All audio is resampled to 8 kHz because scores between bands are meaningless: an embedding of wideband speech
and one of telephone speech of the same person differ by the band as much as by the voice. Samples of 8 kHz
stay as they are; what lies below the band is removed before they are analyzed (`telephone_band`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from sonant.errors import AudioError, WrongSampleRate
from sonant.voice.audio.formats import AudioReader
from sonant.voice.audio.readers import open_reader

RATE_HZ = 8000
"""Sample rate of all audio after decoding."""

MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 8_000, 192_000, 8
BLOCK_S = 4.096
"""Length of decoded blocks: 128 frames of the speech detector, so that the cost of a call is negligible."""
_MAX_OVERSHOOT = 4.0  # lossy codecs and mixes go past full scale; beyond 12 dB it is not a -1..1 signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Waveform:
    """One channel of audio."""

    samples: NDArray[np.float32]
    """Shape [n], full scale is -1..1."""
    rate_hz: int

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return len(self.samples) / self.rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """An open recording: the facts of its header, and its samples on demand. Readable once."""

    container: str
    """WAV, FLAC, Ogg or MP3."""
    encoding: str
    """PCM-16, mu-law, Opus and so on."""
    rate_hz: int
    channels: int
    channel: int
    """The channel that `blocks` yields, counted from 0."""
    duration_s: float | None
    """The duration according to the header; None if it does not say."""
    max_duration_s: float
    _reader: AudioReader

    @classmethod
    def open(cls, data: bytes, *, channel: int, strict: bool, max_duration_s: float) -> Recording:
        """Read and check the header without decoding samples.

        `strict` accepts only what Voice ID did: WAV, 16-bit PCM, 8 kHz, one or two channels. Raises
        AudioError, whose message states the measured value and the limit and names no file.
        """
        if not data:
            raise AudioError("file is empty: 0 bytes")
        container, reader = open_reader(data, strict=strict)
        _check_limits(reader, channel, strict)
        duration_s = None if reader.frames is None else reader.frames / reader.rate_hz
        if duration_s == 0:
            raise AudioError("holds no audio: 0 samples")
        if duration_s is not None and duration_s > max_duration_s:
            raise AudioError(f"duration is {duration_s:.1f} s, must be at most {max_duration_s:.1f} s")
        return cls(
            container=container.name,
            encoding=reader.encoding,
            rate_hz=reader.rate_hz,
            channels=reader.channels,
            channel=channel,
            duration_s=duration_s,
            max_duration_s=max_duration_s,
            _reader=reader,
        )

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield samples at 8 kHz in blocks of about four seconds, each decoded on demand.

        Samples beyond full scale are clipped. Raises AudioError for a block that is damaged, holds values
        that are not numbers, or lies beyond the longest duration.
        """
        return resample_blocks(self.native_blocks(), self.rate_hz)

    def native_blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the same samples at the recording's own rate."""
        return self._checked(self._reader.blocks(self.channel, int(BLOCK_S * self.rate_hz)))

    def _checked(self, blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        done = 0
        for block in blocks:
            if done + len(block) > self.max_duration_s * self.rate_hz:
                raise AudioError(f"duration is more than {self.max_duration_s:.1f} s, the longest allowed")
            low, high = float(block.min()), float(block.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise AudioError(
                    f"holds samples that are not finite numbers near {done / self.rate_hz:.1f} s"
                )
            if max(-low, high) > _MAX_OVERSHOOT:
                raise AudioError(
                    f"holds a sample of {max(-low, high):.3g} near {done / self.rate_hz:.1f} s, "
                    f"full scale is 1, at most {_MAX_OVERSHOOT:g} is accepted"
                )
            done += len(block)
            yield np.clip(block, -1, 1, out=block) if max(-low, high) > 1 else block
        if done == 0:
            raise AudioError("holds no audio: 0 samples")


def resample_blocks(blocks: Iterator[NDArray[np.float32]], rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """Resample blocks at any rate to blocks at 8 kHz."""
    return blocks if rate_hz == RATE_HZ else _resampled(blocks, rate_hz)


def decode(data: bytes, *, channel: int, strict: bool, max_duration_s: float) -> Waveform:
    """Decode a whole recording at once; see `Recording.open` and `Recording.blocks`."""
    recording = Recording.open(data, channel=channel, strict=strict, max_duration_s=max_duration_s)
    return Waveform(samples=np.concatenate(list(recording.blocks())), rate_hz=RATE_HZ)


def _check_limits(reader: AudioReader, channel: int, strict: bool) -> None:
    rate_hz, channels = reader.rate_hz, reader.channels
    if strict and reader.encoding != "PCM-16":
        raise AudioError(f"encoding is {reader.encoding}, must be 16-bit PCM")
    if strict and rate_hz != RATE_HZ:
        raise WrongSampleRate(f"sample rate is {rate_hz} Hz, must be {RATE_HZ} Hz")
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise WrongSampleRate(f"sample rate is {rate_hz} Hz, must be {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
    most = 2 if strict else MAX_CHANNELS
    if channels > most:
        raise AudioError(f"has {channels} channels, must have at most {most}")
    if not 0 <= channel < channels:
        raise AudioError(f"has {channels} channel{'s' * (channels > 1)}, channel {channel} is not there")


def _resampled(blocks: Iterator[NDArray[np.float32]], rate_hz: int) -> Iterator[NDArray[np.float32]]:
    resampler = TelephoneResampler(rate_hz)
    for block in blocks:
        out = resampler.push(block)
        if len(out):
            yield out
    out = resampler.finish()
    if len(out):
        yield out


class TelephoneResampler:
    """Resamples a stream of audio blocks to 8 kHz.

    Band-limited conversion (soxr HQ: images below -120 dB) that keeps its state between blocks.
    """

    __slots__ = ("_stream",)

    def __init__(self, rate_hz: int) -> None:
        self._stream = (
            None
            if rate_hz == RATE_HZ
            else soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality="HQ")
        )

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take samples at the old rate, -1..1; return those that are ready at 8 kHz."""
        if self._stream is None:
            return samples
        out: NDArray[np.float32] = np.clip(self._stream.resample_chunk(samples), -1, 1)
        return out

    def finish(self) -> NDArray[np.float32]:
        """Return the remaining samples."""
        if self._stream is None:
            return np.empty(0, np.float32)
        rest = self._stream.resample_chunk(np.empty(0, np.float32), last=True)
        out: NDArray[np.float32] = np.clip(rest, -1, 1)
        return out
