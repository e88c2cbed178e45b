"""Intervals by resampling speakers.

Comparisons are not independent: one voice that is easily confused is in hundreds of them, so resampling
comparisons would promise far more certainty than there is. Speakers are drawn with replacement; a comparison
counts as often as its two speakers were drawn, multiplied (once for a genuine one, whose speakers are one).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.errors import NotEnoughTrials
from sonant.evaluation.metrics import Floats

REPLICATES = 1000
PAV_REPLICATES = 200
"""Pooling adjacent violators cannot be vectorised over replicates, so its interval rests on fewer."""
CONFIDENCE = 0.95

_CELLS = 300_000_000  # replicates times comparisons, at most: some ten seconds
_CELLS_AT_ONCE = 2_000_000  # 16 MB an array: stays in the cache's reach, memory does not grow with replicates
_MIN_REPLICATES = 100
_MIN_SPEAKERS = 3

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """Scored comparisons of one condition, and whose they are."""

    genuine: Floats
    """Shape [g]: scores of a person against himself."""
    impostor: Floats
    """Shape [i]: scores of a person against another."""
    genuine_speaker: Indices
    """Shape [g], numbers from 0 to `speakers` - 1."""
    impostor_speakers: Indices
    """Shape [i, 2]: whose reference, whose probe."""
    speakers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Central 95 % of the replicates."""

    low: float
    high: float


Weighted = Callable[[Floats, Floats], dict[str, Floats]]
"""Weights of genuine [replicates, g] and impostor [replicates, i] comparisons to figures [replicates]."""


def intervals(
    comparisons: Comparisons, figures: Weighted, *, seed: int, replicates: int = REPLICATES
) -> dict[str, Interval]:
    """The interval of each figure; none when there are under three speakers. Equal seeds, equal intervals.

    Of more than 300,000 comparisons fewer replicates are made, 100 at least, so that it takes seconds.
    """
    if comparisons.speakers < _MIN_SPEAKERS:
        return {}
    cells = len(comparisons.genuine) + len(comparisons.impostor)
    count = min(replicates, max(_MIN_REPLICATES, _CELLS // max(1, cells)))
    at_once = max(1, _CELLS_AT_ONCE // max(1, cells))
    rng = np.random.default_rng(seed)
    one, two = comparisons.impostor_speakers.T
    found: dict[str, list[Floats]] = {}
    for first in range(0, count, at_once):
        drawn = _draw(comparisons, min(at_once, count - first), rng)
        weighted = figures(drawn[:, comparisons.genuine_speaker], drawn[:, one] * drawn[:, two])
        for name, values in weighted.items():
            found.setdefault(name, []).append(values)
    tail = 100 * (1 - CONFIDENCE) / 2
    spread = {name: np.percentile(np.concatenate(parts), [tail, 100 - tail]) for name, parts in found.items()}
    return {name: Interval(low=float(low), high=float(high)) for name, (low, high) in spread.items()}


def _draw(comparisons: Comparisons, count: int, rng: np.random.Generator) -> Floats:
    """How often each speaker is drawn: [count, speakers]. Draws that leave no comparison of a kind do not
    count: the figures are undefined there."""
    share = np.full(comparisons.speakers, 1 / comparisons.speakers)
    pairs = np.unique(comparisons.impostor_speakers, axis=0)
    own = np.unique(comparisons.genuine_speaker)
    if not (len(own) and len(pairs)):
        raise NotEnoughTrials(0, 1)
    drawn = rng.multinomial(comparisons.speakers, share, size=count).astype(np.float64)
    one, two = pairs.T
    while True:
        usable = drawn[:, own].any(axis=1) & (drawn[:, one] * drawn[:, two]).any(axis=1)
        lost = np.flatnonzero(~usable)
        if len(lost) == 0:
            return drawn
        drawn[lost] = rng.multinomial(comparisons.speakers, share, size=len(lost))
