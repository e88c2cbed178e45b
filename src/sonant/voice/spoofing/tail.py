"""Shares of genuine speech that reach a detector's score, and the scale of risks.

Scores of detectors have no common unit. What they have in common is how rarely genuine speech reaches
them: that is what is calibrated, compared and merged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TAIL_SHARE = 0.1
"""Share of genuine recordings beyond which the tail begins."""
RISK_PER_DECADE = 25.0
"""A risk of 50 is reached by 1 % of genuine recordings, 100 by 0.01 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenuineTail:
    """The distribution of a detector's scores among genuine recordings."""

    middle: float
    """The median."""
    tail: float
    """The upper tenth; beyond it the number of recordings falls exponentially."""
    scale: float
    """The mean excess over the upper tenth."""

    def share(self, score: float) -> float:
        """Compute the share of genuine recordings with at least this score; more than 0, at most 1.

        Below the upper tenth its logarithm is a straight line through the median and the upper tenth.
        """
        if score >= self.tail:
            return max(TAIL_SHARE * math.exp(-(score - self.tail) / self.scale), 1e-300)
        slope = math.log(TAIL_SHARE / 0.5) / (self.tail - self.middle)
        return min(1.0, 0.5 * math.exp((score - self.middle) * slope))

    def score_of(self, share: float) -> float:
        """Compute the score that this share of genuine recordings reaches; at most 0.1, more than 0."""
        return self.tail - self.scale * math.log(share / TAIL_SHARE)


def fit_tail(scores: NDArray[Any], weights: NDArray[Any] | None = None) -> GenuineTail:
    """Fit the distribution of genuine scores, [n], each counted with its weight.

    The exponential is the limit of the tail of every distribution whose own tail falls at least as fast as
    an exponential (Pickands 1975); its scale is the mean excess. Raises ValueError for fewer than 20 scores,
    for values that are not finite, and for a detector that scores half of the recordings the same.
    """
    values = np.asarray(scores, np.float64)
    if len(values) < 20:
        raise ValueError(f"{len(values)} scores are too few for a tail, must be 20 at least")
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    weight = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    middle, tail = (_quantile(values, weight, level) for level in (0.5, 1 - TAIL_SHARE))
    above = values > tail
    if tail <= middle or not above.any():
        raise ValueError("half of the recordings have the same score")
    scale = float(np.average(values[above] - tail, weights=weight[above]))
    return GenuineTail(middle=middle, tail=tail, scale=scale)


def risk_of(share: float) -> int:
    """Convert a share of genuine recordings to a risk, 0..100."""
    return round(min(max(-math.log10(share) * RISK_PER_DECADE, 0.0), 100.0))


def share_of(risk: float) -> float:
    """Convert a risk to the share of genuine recordings that reach it."""
    return float(10 ** (-risk / RISK_PER_DECADE))


def _quantile(values: NDArray[np.float64], weights: NDArray[np.float64], level: float) -> float:
    """Compute a weighted quantile: half of each recording's weight lies below its score."""
    order = np.argsort(values)
    below = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(level * weights.sum(), below, values[order]))
