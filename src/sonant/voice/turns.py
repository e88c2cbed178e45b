"""Who speaks when in speech of one channel: turns by speaker, overlap, and whether there is a second voice.

All positions are samples at 8 kHz. `turn_detection` finds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
"""Start and end, in samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A stretch in which one speaker talks, from `start` to `end`. Turns of two speakers may overlap."""

    speaker: int
    """Speakers are numbered from 0, who speaks most."""
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondVoice:
    """Whether a second person speaks, and how much."""

    possible: bool
    """Probable enough for a warning."""
    certain: bool
    """So probable that the speech should not be used as one person's."""
    share: float
    """Speech of all but the first speaker, as a share of all speech, 0..1."""
    overlap: float
    """Share of speech in which two people talk at once, 0..1."""
    separation: float | None
    """1 minus the similarity of the first two speakers; None where one of them speaks too little alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerTurns:
    """Who speaks when."""

    turns: tuple[Turn, ...]
    """By start. Frames without speech belong to nobody."""
    analyzed: int
    """Samples analyzed."""
    second_voice: SecondVoice

    @property
    def speakers(self) -> int:
        """The number of people."""
        return 1 + max((turn.speaker for turn in self.turns), default=-1)

    def spans(self, speaker: int) -> tuple[Span, ...]:
        """List the spans in which a speaker talks."""
        return tuple((turn.start, turn.end) for turn in self.turns if turn.speaker == speaker)

    def alone(self, speaker: int) -> tuple[Span, ...]:
        """List the spans in which a speaker talks and nobody else does."""
        others = [(turn.start, turn.end) for turn in self.turns if turn.speaker != speaker]
        return tuple(subtract(self.spans(speaker), others))


def take(samples: NDArray[np.float32], spans: Iterable[Span]) -> NDArray[np.float32]:
    """Join the samples of spans."""
    return np.concatenate([np.empty(0, np.float32), *(samples[start:end] for start, end in spans)])


def subtract(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """Return the parts of `spans` that lie in none of `others`."""
    left = list(spans)
    for low, high in others:
        parts = []
        for start, end in left:
            parts += [(start, min(end, low)), (max(start, high), end)]
        left = [(start, end) for start, end in parts if start < end]
    return left


def length(spans: Iterable[Span]) -> int:
    """Add up the samples of spans; where they overlap, samples count once."""
    total, reached = 0, 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
