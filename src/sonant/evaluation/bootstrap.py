"""Compute confidence intervals by resampling speakers.

Comparisons are not independent: one voice that is easily confused is in hundreds of them, so resampling
comparisons would promise far more certainty than there is. Speakers are drawn with replacement; a comparison
counts as often as its two speakers were drawn, multiplied (a genuine one has one speaker).
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
"""Fewer replicates for pooling adjacent violators, which cannot be vectorized over them."""
CONFIDENCE = 0.95

_MAX_CELLS = 300_000_000  # replicates times comparisons: about ten seconds
_CELLS_PER_BLOCK = 2_000_000  # 16 MB per array: fits the cache, and memory does not grow with replicates
_MIN_REPLICATES = 100
_MIN_SPEAKERS = 3

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """Scored comparisons of one condition with their speakers."""

    genuine: Floats
    """Shape [g]: scores of comparisons of one speaker."""
    impostor: Floats
    """Shape [i]: scores of comparisons of two speakers."""
    genuine_speaker: Indices
    """Shape [g], numbers from 0 to `speakers` - 1."""
    impostor_speakers: Indices
    """Shape [i, 2]: speakers of the reference and of the probe."""
    speakers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The central 95 % of the replicates."""

    low: float
    high: float


Weighted = Callable[[Floats, Floats], dict[str, Floats]]
"""Computes figures [replicates] from weights of genuine [replicates, g] and impostor [replicates, i]
comparisons."""


def intervals(
    comparisons: Comparisons, figures: Weighted, *, seed: int, replicates: int = REPLICATES
) -> dict[str, Interval]:
    """Compute the interval of each figure; none for under three speakers. Equal seeds give equal intervals.

    Above 300,000 comparisons fewer replicates are made, at least 100, so that it takes seconds.
    """
    found = resample(comparisons, figures, seed=seed, replicates=replicates)
    return {name: interval_of(values) for name, values in found.items()}


def resample(
    comparisons: Comparisons, figures: Weighted, *, seed: int, replicates: int = REPLICATES
) -> dict[str, Floats]:
    """Compute each figure for every replicate, [replicates]; nothing for under three speakers.

    `figures` may compute those of several columns of scores of the same comparisons.
    """
    if comparisons.speakers < _MIN_SPEAKERS:
        return {}
    cells = len(comparisons.genuine) + len(comparisons.impostor)
    count = min(replicates, max(_MIN_REPLICATES, _MAX_CELLS // max(1, cells)))
    per_block = max(1, _CELLS_PER_BLOCK // max(1, cells))
    rng = np.random.default_rng(seed)
    one, two = comparisons.impostor_speakers.T
    found: dict[str, list[Floats]] = {}
    for first in range(0, count, per_block):
        drawn = _draw(comparisons, min(per_block, count - first), rng)
        weighted = figures(drawn[:, comparisons.genuine_speaker], drawn[:, one] * drawn[:, two])
        for name, values in weighted.items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def interval_of(values: Floats) -> Interval:
    """Find the interval of a figure from its replicates."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(low=float(low), high=float(high))


def _draw(comparisons: Comparisons, count: int, rng: np.random.Generator) -> Floats:
    """Draw speakers with replacement: their counts, [count, speakers].

    Draws that leave no comparison of a kind are repeated, since the figures are undefined there.
    """
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
