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
from sonant.evaluation import metrics
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

    def with_scores(self, genuine: Floats, impostor: Floats) -> Comparisons:
        """The same comparisons by another score."""
        return Comparisons(
            genuine=genuine,
            impostor=impostor,
            genuine_speaker=self.genuine_speaker,
            impostor_speakers=self.impostor_speakers,
            speakers=self.speakers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Central 95 % of the replicates."""

    low: float
    high: float


Weighted = Callable[[Floats, Floats], dict[str, Floats]]
"""Weights of genuine [replicates, g] and impostor [replicates, i] comparisons to figures [replicates]."""


def intervals(comparisons: Comparisons, figures: Weighted, *, seed: int) -> dict[str, Interval]:
    """The interval of each figure; none when there are under three speakers. Equal seeds, equal intervals."""
    cells = len(comparisons.genuine) + len(comparisons.impostor)
    count = int(np.clip(_CELLS // max(1, cells), _MIN_REPLICATES, REPLICATES))
    return _intervals(comparisons, figures, count, max(1, _CELLS_AT_ONCE // max(1, cells)), seed)


def min_cllr_interval(comparisons: Comparisons, *, seed: int) -> Interval | None:
    """The interval of the minimum of Cllr."""

    def figures(g: Floats, i: Floats) -> dict[str, Floats]:
        return {"min_cllr": metrics.min_cllr_weighted(comparisons.genuine, comparisons.impostor, g, i)}

    cells = len(comparisons.genuine) + len(comparisons.impostor)
    at_once = max(1, _CELLS_AT_ONCE // cells)
    return _intervals(comparisons, figures, PAV_REPLICATES, at_once, seed).get("min_cllr")


def _intervals(
    comparisons: Comparisons, figures: Weighted, count: int, at_once: int, seed: int
) -> dict[str, Interval]:
    if comparisons.speakers < _MIN_SPEAKERS:
        return {}
    rng = np.random.default_rng(seed)
    found: dict[str, list[Floats]] = {}
    for first in range(0, count, at_once):
        drawn = _draw(comparisons, min(at_once, count - first), rng)
        one, two = comparisons.impostor_speakers.T
        for name, values in figures(
            drawn[:, comparisons.genuine_speaker], drawn[:, one] * drawn[:, two]
        ).items():
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
