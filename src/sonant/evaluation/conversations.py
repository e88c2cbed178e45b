"""Make conversations of two people on one channel from speech of each: turns, gaps, interruptions, levels.

Who speaks when is known exactly, so errors of what separates the parties can be counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sonant.evaluation.channels import Channel
from sonant.evaluation.cutting import SegmentedRecording
from sonant.voice.audio.recording import RATE_HZ

Samples = NDArray[np.float32]

PHRASE_GAP_S = 0.4
"""Speech between two longer pauses is one phrase; a person's phrases follow each other without the pauses."""
_FADE = RATE_HZ // 100  # 10 ms at both ends of a turn, so that cuts do not click
_LEAST_TURN = RATE_HZ // 4  # a shorter rest of somebody's speech is left out
_TARGET_RMS = 10 ** (-26 / 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTaking:
    """How two people take turns. Ranges are drawn from uniformly."""

    turn_s: tuple[float, float] = (1.0, 6.0)
    """Length of a turn, before it is scaled to the parties' shares."""
    gap_s: tuple[float, float] = (0.0, 0.6)
    """Silence between two turns that do not overlap."""
    overlap_share: float = 0.1
    """Part of the speech in which both speak: the next turn begins before the last one ends."""
    overlap_s: tuple[float, float] = (0.3, 1.5)
    """Length of one overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A recording of two parties, numbered 0 and 1."""

    samples: Samples = field(repr=False)
    """Shape [n] at 8 kHz."""
    turns: tuple[tuple[int, int, int], ...]
    """Party, first sample and last sample (exclusive) of each turn, in order of their starts."""

    def speech_s(self, party: int) -> float:
        """Add up the turns of a party, in seconds."""
        return sum(end - start for who, start, end in self.turns if who == party) / RATE_HZ


class PhraseReader:
    """Reads a person's speech phrase by phrase; nothing is returned twice."""

    __slots__ = ("_phrases", "_position")

    def __init__(self, recordings: Iterable[SegmentedRecording]) -> None:
        self._phrases = [phrase for recording in recordings for phrase in _phrases_of(recording)]
        self._position = 0

    @property
    def left_s(self) -> float:
        """Seconds of speech that have not been read."""
        return sum(len(phrase) for phrase in self._phrases[self._position :]) / RATE_HZ

    def read(self, count: int) -> Samples:
        """Read the next `count` samples of speech, or fewer at the end."""
        found: list[Samples] = [np.empty(0, np.float32)]
        while count > 0 and self._position < len(self._phrases):
            phrase = self._phrases[self._position]
            found.append(phrase[:count])
            if len(phrase) > count:
                self._phrases[self._position] = phrase[count:]
            else:
                self._position += 1
            count -= len(found[-1])
        return np.concatenate(found)


def converse(
    readers: Sequence[PhraseReader],
    *,
    speech_s: float,
    share: float,
    rng: np.random.Generator,
    lines: Sequence[Channel],
    taking: TurnTaking | None = None,
    level_db: float = 0.0,
) -> Conversation:
    """Let two people talk until they have spoken `speech_s` seconds together, or one has no speech left.

    `share` is the part of party 0 in the speech, 0..1; `level_db` how much louder party 0 is than party 1.
    Each party's speech comes over its own line of `lines`; then they are mixed.
    """
    taking = taking or TurnTaking()
    budget = [speech_s * share * RATE_HZ, speech_s * (1 - share) * RATE_HZ]
    gains = [10 ** (level_db / 40), 10 ** (-level_db / 40)]
    overlaps = _overlap_probability(taking)
    turns: list[tuple[int, int, int]] = []
    pieces: list[Samples] = []
    party, end = int(rng.integers(2)), 0
    while True:
        length = rng.uniform(*taking.turn_s) * RATE_HZ * 2 * (share if party == 0 else 1 - share)
        spoken = readers[party].read(round(min(max(length, _LEAST_TURN), budget[party])))
        if len(spoken) < _LEAST_TURN:
            break
        budget[party] -= len(spoken)
        start = end + round(_offset_s(taking, overlaps, rng) * RATE_HZ) if turns else 0
        start = max(start, turns[-1][1] + _LEAST_TURN // 2 if turns else 0)
        pieces.append(_shaped(spoken) * np.float32(gains[party]))
        turns.append((party, start, start + len(spoken)))
        end = max(end, start + len(spoken))
        party = 1 - party
    tracks = np.zeros((2, end), np.float32)
    for (who, start, stop), piece in zip(turns, pieces, strict=True):
        tracks[who, start:stop] += piece
    mixed = sum(
        line.apply(track, seed=(int(rng.integers(1 << 31)),))
        for line, track in zip(lines, tracks, strict=True)
    )
    return Conversation(samples=np.clip(np.asarray(mixed, np.float32), -1, 1), turns=tuple(turns))


def _overlap_probability(taking: TurnTaking) -> float:
    """Compute at which part of the changes to overlap, from the part of the speech that overlaps."""
    return min(1.0, taking.overlap_share * float(np.mean(taking.turn_s)) / float(np.mean(taking.overlap_s)))


def _offset_s(taking: TurnTaking, overlaps: float, rng: np.random.Generator) -> float:
    """Draw when the next turn begins, in seconds after the end of the last."""
    return -rng.uniform(*taking.overlap_s) if rng.random() < overlaps else rng.uniform(*taking.gap_s)


def _phrases_of(recording: SegmentedRecording) -> list[Samples]:
    merged: list[list[int]] = []
    for start, end in recording.spans:
        if merged and start - merged[-1][1] < PHRASE_GAP_S * RATE_HZ:
            merged[-1][1] = end
        else:
            merged.append([start, end])
    return [_levelled(recording.samples[start:end]) for start, end in merged]


def _levelled(samples: Samples) -> Samples:
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return samples * np.float32(_TARGET_RMS / rms) if rms > 0 else samples


def _shaped(samples: Samples) -> Samples:
    ramp = np.linspace(0, 1, min(_FADE, len(samples) // 2), dtype=np.float32)
    shaped = samples.copy()
    shaped[: len(ramp)] *= ramp
    shaped[len(shaped) - len(ramp) :] *= ramp[::-1]
    return shaped
