"""Bytes of a recording to samples of one channel in the telephone band (8 kHz).

Everything is brought to 8 kHz, because scores between bands mean nothing: an embedding of wideband speech
and one of telephone speech of the same person differ by the band as much as by the voice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from sonant.errors import AudioError, WrongSampleRate
from sonant.voice.audio.compressed import CompressedSource
from sonant.voice.audio.wav import WavSource, open_wav

RATE_HZ = 8000
"""Sample rate of everything after decoding."""

MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 8_000, 192_000, 8
_BLOCK_S = 4.096  # 128 frames of the speech detector at 8 kHz: long enough that a call costs nothing
_MAX_OVERSHOOT = 4.0  # lossy codecs and mixes go past full scale; beyond 12 dB it is not a -1..1 signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Waveform:
    """One channel of sound."""

    samples: NDArray[np.float32]
    """Shape [n], full scale is -1..1."""
    rate_hz: int

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """An opened recording: what its header says, and its samples when asked for. Read it once."""

    container: str
    """WAV, FLAC, Ogg or MP3."""
    encoding: str
    """PCM-16, mu-law, Opus and so on."""
    rate_hz: int
    channels: int
    channel: int
    """The channel that `blocks` yields, from 0."""
    duration_s: float | None
    """As the header says; None if it does not."""
    max_duration_s: float
    _source: WavSource | CompressedSource

    @classmethod
    def open(cls, data: bytes, *, channel: int, strict: bool, max_duration_s: float) -> Recording:
        """Read and check the header; decode nothing yet.

        `strict` accepts only what Voice ID did: WAV, 16-bit PCM, 8 kHz, one or two channels. Raises
        AudioError, whose message states the measured value and the limit and names no file.
        """
        if not data:
            raise AudioError("file is empty: 0 bytes")
        source: WavSource | CompressedSource
        if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
            container, source = "WAV", open_wav(data, strict=strict)
        elif strict:
            raise AudioError("not a WAV file")
        else:
            source = CompressedSource(data)
            container = source.container
        _check_limits(source, channel, strict)
        duration_s = None if source.frames is None else source.frames / source.rate_hz
        if duration_s == 0:
            raise AudioError("holds no audio: 0 samples")
        if duration_s is not None and duration_s > max_duration_s:
            raise AudioError(f"duration is {duration_s:.1f} s, must be at most {max_duration_s:.1f} s")
        return cls(
            container=container,
            encoding=source.encoding,
            rate_hz=source.rate_hz,
            channels=source.channels,
            channel=channel,
            duration_s=duration_s,
            max_duration_s=max_duration_s,
            _source=source,
        )

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Samples at 8 kHz in blocks of about four seconds, each decoded when it is asked for.

        Samples past full scale are clipped to it. Raises AudioError when a block turns out to be damaged,
        not a number, or past the longest duration.
        """
        return telephone_band(self.native_blocks(), self.rate_hz)

    def native_blocks(self) -> Iterator[NDArray[np.float32]]:
        """The same samples at the recording's own rate."""
        block_frames = int(_BLOCK_S * self.rate_hz)
        if isinstance(self._source, WavSource):
            return self._checked(_wav_blocks(self._source, self.channel, block_frames))
        return self._checked(self._source.blocks(self.channel, block_frames))

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


def telephone_band(blocks: Iterator[NDArray[np.float32]], rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """Blocks of samples at any rate to blocks at 8 kHz."""
    return blocks if rate_hz == RATE_HZ else _resampled(blocks, rate_hz)


def decode(data: bytes, *, channel: int, strict: bool, max_duration_s: float) -> Waveform:
    """A whole recording at once; see `Recording.open` and `Recording.blocks`."""
    recording = Recording.open(data, channel=channel, strict=strict, max_duration_s=max_duration_s)
    return Waveform(samples=np.concatenate(list(recording.blocks())), rate_hz=RATE_HZ)


def _check_limits(source: WavSource | CompressedSource, channel: int, strict: bool) -> None:
    rate_hz, channels = source.rate_hz, source.channels
    if strict and source.encoding != "PCM-16":
        raise AudioError(f"encoding is {source.encoding}, must be 16-bit PCM")
    if strict and rate_hz != RATE_HZ:
        raise WrongSampleRate(f"sample rate is {rate_hz} Hz, must be {RATE_HZ} Hz")
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise WrongSampleRate(f"sample rate is {rate_hz} Hz, must be {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
    most = 2 if strict else MAX_CHANNELS
    if channels > most:
        raise AudioError(f"has {channels} channels, must have at most {most}")
    if not 0 <= channel < channels:
        raise AudioError(f"has {channels} channel{'s' * (channels > 1)}, channel {channel} is not there")


def _wav_blocks(source: WavSource, channel: int, block_frames: int) -> Iterator[NDArray[np.float32]]:
    for start in range(0, source.frames, block_frames):
        yield source.read(channel, start, block_frames)


def _resampled(blocks: Iterator[NDArray[np.float32]], rate_hz: int) -> Iterator[NDArray[np.float32]]:
    band = TelephoneBand(rate_hz)
    for block in blocks:
        out = band.feed(block)
        if len(out):
            yield out
    out = band.finish()
    if len(out):
        yield out


class TelephoneBand:
    """Brings sound that comes in pieces to 8 kHz: band-limited conversion (soxr HQ: images below -120 dB)
    that keeps its state between them."""

    __slots__ = ("_stream",)

    def __init__(self, rate_hz: int) -> None:
        self._stream = (
            None
            if rate_hz == RATE_HZ
            else soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality="HQ")
        )

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples at the old rate, -1..1, to what is ready of them at 8 kHz."""
        if self._stream is None:
            return samples
        out: NDArray[np.float32] = np.clip(self._stream.resample_chunk(samples), -1, 1)
        return out

    def finish(self) -> NDArray[np.float32]:
        """The rest."""
        if self._stream is None:
            return np.empty(0, np.float32)
        rest = self._stream.resample_chunk(np.empty(0, np.float32), last=True)
        out: NDArray[np.float32] = np.clip(rest, -1, 1)
        return out
