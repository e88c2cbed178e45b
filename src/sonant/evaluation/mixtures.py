"""Compose recordings in which one person or several speak on one channel, from speech of single people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sonant.evaluation.channels import active_power
from sonant.evaluation.cutting import Samples, SegmentedRecording
from sonant.voice.audio.recording import RATE_HZ

_LEVEL = 0.05
"""RMS of active speech of the first person: -26 dBFS."""
_FADE = RATE_HZ // 200  # 5 ms at the ends of a clip, so that a cut is no click


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """How people share a channel."""

    name: str
    people: int = 2
    gap_s: float = 0.3
    """Silence between two clips."""
    clip_s: tuple[float, float] = (1.6, 6.0)
    """Shortest and longest clip of one person, drawn evenly."""
    share: float = 0.5
    """Speech of the second person as a share of all speech."""
    level_db: float = 0.0
    """Level of the second person relative to the first."""
    overlap: float = 0.0
    """Share of the second person's speech that lies over the first's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A composed recording."""

    samples: Samples
    """Shape [n], 8 kHz."""
    second: Samples
    """What of them is not the first person's, shape [n]."""


def compose(
    mixture: Mixture,
    people: Sequence[Sequence[SegmentedRecording]],
    *,
    net_speech_s: float,
    rng: np.random.Generator,
) -> Composed:
    """Compose a recording with at least `net_speech_s` seconds of speech of the first of `people` and others.

    Each person's speech is brought to one level first. A mixture of more than two people has all of them at
    once, from start to end.
    """
    voices = [_Clips(recordings, rng) for recordings in people]
    need = round(net_speech_s * RATE_HZ)
    if mixture.people == 1:
        first = _sequence(voices[0], need, mixture)
        return Composed(samples=first, second=np.zeros_like(first))
    if mixture.people > 2:
        tracks = [_sequence(voice, need, mixture) for voice in voices]
        size = min(map(len, tracks))
        crowd = sum(track[:size] for track in tracks[1:])
        others = np.asarray(crowd, np.float32)
        return Composed(samples=tracks[0][:size] + others, second=others)
    return _turns(voices[0], voices[1], need, mixture)


def _turns(one: _Clips, other: _Clips, need: int, mixture: Mixture) -> Composed:
    """Let two people speak in turn; each turn of the second overlaps the first's before it as asked."""
    gain = np.float32(10 ** (mixture.level_db / 20))
    gap = round(mixture.gap_s * RATE_HZ)
    first_track, second_track = _Track(), _Track()
    spoken = [0, 0]
    end, last = 0, 0
    while sum(spoken) < need:
        behind = spoken[1] < mixture.share * sum(spoken) or (sum(spoken) > 0 and spoken[1] == 0)
        due = 1 if behind and spoken[0] else 0
        clip = (one, other)[due].next(mixture.clip_s)
        start = end + gap if end else 0
        if due and mixture.overlap and last == 0:
            start = max(0, end - round(mixture.overlap * len(clip)))
        (first_track, second_track)[due].add(clip * gain if due else clip, start)
        spoken[due] += len(clip)
        end, last = max(end, start + len(clip)), due
    size = max(first_track.size, second_track.size)
    second = second_track.samples(size)
    return Composed(samples=first_track.samples(size) + second, second=second)


def _sequence(voice: _Clips, need: int, mixture: Mixture) -> Samples:
    track, end, spoken = _Track(), 0, 0
    while spoken < need:
        clip = voice.next(mixture.clip_s)
        track.add(clip, end)
        end += len(clip) + round(mixture.gap_s * RATE_HZ)
        spoken += len(clip)
    return track.samples(track.size)


class _Track:
    def __init__(self) -> None:
        self._parts: list[tuple[int, Samples]] = []
        self.size = 0

    def add(self, samples: Samples, start: int) -> None:
        self._parts.append((start, samples))
        self.size = max(self.size, start + len(samples))

    def samples(self, size: int) -> Samples:
        out = np.zeros(size, np.float32)
        for start, part in self._parts:
            out[start : start + len(part)] += part
        return out


class _Clips:
    """Cuts clips of one person's speech, one after the other, from recordings in random order."""

    def __init__(self, recordings: Sequence[SegmentedRecording], rng: np.random.Generator) -> None:
        self._recordings, self._rng = [one for one in recordings if one.spans], rng
        self._order: list[int] = []
        self._current: SegmentedRecording | None = None
        self._at = 0

    def next(self, clip_s: tuple[float, float]) -> Samples:
        """Cut the next clip: it begins with speech and holds the pauses of the recording."""
        size = round(self._rng.uniform(*clip_s) * RATE_HZ)
        parts: list[Samples] = []
        while (missing := size - sum(map(len, parts))) > 0:
            parts.append(_faded(self._part(missing)))
        return np.concatenate(parts)

    def _part(self, size: int) -> Samples:
        """Cut at most `size` samples, from a start of speech up to an end of speech."""
        starts = (
            []
            if self._current is None
            else [max(start, self._at) for start, end in self._current.spans if end > self._at]
        )
        if self._current is None or not starts:
            self._order = self._order or self._rng.permutation(len(self._recordings)).tolist()
            self._current = self._recordings[self._order.pop()]
            starts = [self._current.spans[0][0]]
        recording, start = self._current, starts[0]
        self._at = min(start + size, recording.spans[-1][1])
        power = active_power(recording.samples)
        gain = np.float32(_LEVEL / math.sqrt(power)) if power > 0 else np.float32(0)
        return recording.samples[start : self._at] * gain


def _faded(samples: Samples) -> Samples:
    out = samples.copy()
    size = min(_FADE, len(out) // 2)
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    out[:size] *= ramp
    out[len(out) - size :] *= ramp[::-1]
    return out
