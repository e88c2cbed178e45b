"""Summarize what a channel of a recording holds where speech was expected and there is little."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AudioError
from sonant.voice.audio.recording import RATE_HZ, Recording
from sonant.voice.models import Models
from sonant.voice.quality import level_dbfs
from sonant.voice.speech import analyze

LITTLE_SHARE = 0.1
"""Channels with a smaller share of speech are summarized, beside the recording's other channels."""
MAX_SUMMARIZED_S = 300.0
"""So much of each channel is analyzed."""
MAX_SUMMARIZED_SAMPLES = 100_000_000
"""So many samples are decoded for it: fewer seconds of recordings with many channels, each of which is
decoded with all others. Two channels of 48 kHz keep their 300 s."""
SILENT_DBFS = -65.0
"""An idle telephone line is quieter: the smallest step of mu-law lies at -72 dBFS."""
WORTH_MENTIONING_S = 3.0
"""Channels with less speech are not mentioned: a word may have come over from another."""

_FRAME = 1024  # 128 ms: dial tones of 350 and 440 Hz lie 11 bins apart
_PEAK_BINS = 2  # on each side of a tone's bin that a Hann window spreads it to
_TONES = 2  # call progress tones have one or two frequencies
#: Share of the power in two peaks, from 120 Hz on; tones have 0.99 and more.
_TONE_SHARE = 0.8
_LOWEST_BIN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSummary:
    """What one channel holds, as far as it was analyzed."""

    channel: int
    """Counted from 0."""
    net_speech_s: float
    level_dbfs: float
    """Mean power of all its audio."""
    tones_hz: tuple[int, ...]
    """Frequencies of one or two tones that are nearly all of its sound; else empty."""

    @property
    def nature(self) -> str:
        """What the channel holds beside speech: silence, or a tone; empty if unknown."""
        if self.level_dbfs < SILENT_DBFS:
            return "silence"
        if self.tones_hz:
            return "a tone of " + " and ".join(str(one) for one in self.tones_hz) + " Hz"
        return ""


def summarize_channels(
    data: bytes, models: Models, *, strict: bool, max_duration_s: float
) -> tuple[ChannelSummary, ...]:
    """Summarize every channel of a recording that can be decoded; empty for one that cannot be opened."""
    try:
        opened = Recording.open(data, channel=0, strict=strict, max_duration_s=max_duration_s)
    except AudioError:
        return ()
    count = opened.channels
    most_s = min(MAX_SUMMARIZED_S, MAX_SUMMARIZED_SAMPLES / (opened.rate_hz * count**2))
    return tuple(
        _summarize(channel, _samples(data, channel, strict, max_duration_s, most_s), models)
        for channel in range(count)
    )


def describe_channels(channel: int, found: tuple[ChannelSummary, ...]) -> str:
    """Describe the chosen channel, and each other one that holds speech, for a message."""
    chosen = next((one for one in found if one.channel == channel), None)
    parts = []
    if chosen is not None:
        parts.append(f"at {chosen.level_dbfs:.0f} dBFS" + (f" ({chosen.nature})" if chosen.nature else ""))
    parts += [
        f"but channel {one.channel} holds {one.net_speech_s:.1f} s of speech: check ChannelId"
        for one in found
        if one.channel != channel and one.net_speech_s >= WORTH_MENTIONING_S
    ]
    return ", ".join(parts)


def find_tones(samples: NDArray[np.float32]) -> tuple[int, ...]:
    """Find the frequencies of one or two tones that make up the sound (8 kHz, [n]); empty for other sound."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not len(frames):
        return ()
    spectra = np.fft.rfft(frames * np.hanning(_FRAME), axis=1)
    power = np.mean(spectra.real**2 + spectra.imag**2, axis=0)[_LOWEST_BIN:]
    found: list[int] = []
    total, taken = float(power.sum()), 0.0
    while len(found) < _TONES and taken < _TONE_SHARE * total:
        peak = int(np.argmax(power))
        around = slice(max(0, peak - _PEAK_BINS), peak + _PEAK_BINS + 1)
        taken += float(power[around].sum())
        power[around] = 0.0
        found.append(round((peak + _LOWEST_BIN) * RATE_HZ / _FRAME))
    return tuple(sorted(found)) if 0 < total * _TONE_SHARE <= taken else ()


def _summarize(channel: int, samples: NDArray[np.float32], models: Models) -> ChannelSummary:
    analyzed = analyze(samples, models)
    return ChannelSummary(
        channel=channel,
        net_speech_s=len(analyzed.speech) / RATE_HZ,
        level_dbfs=level_dbfs(analyzed.samples),
        tones_hz=find_tones(analyzed.samples),
    )


def _samples(
    data: bytes, channel: int, strict: bool, max_duration_s: float, most_s: float
) -> NDArray[np.float32]:
    """Decode the start of a channel, up to a fault."""
    blocks = [np.empty(0, np.float32)]
    with suppress(AudioError):
        recording = Recording.open(data, channel=channel, strict=strict, max_duration_s=max_duration_s)
        blocks.extend(_first(recording.blocks(), most_s))
    return np.concatenate(blocks)


def _first(blocks: Iterator[NDArray[np.float32]], most_s: float) -> Iterator[NDArray[np.float32]]:
    taken = 0
    for block in blocks:
        yield block
        taken += len(block)
        if taken >= most_s * RATE_HZ:
            return
