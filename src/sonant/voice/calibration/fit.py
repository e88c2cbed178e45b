"""Fit calibrations: the tail of strangers' similarities, and the smallest rate that it supports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sonant.voice.calibration.model import MAX_SIMILARITY, Calibration, Normal, log10_far_of

#: The tail is fitted to this share of the most similar strangers.
TAIL_SHARE = 0.1
#: The rule of 30: 30 errors give the true rate within +-30 % at 90 % confidence (Doddington et al., "The NIST
#: speaker recognition evaluation - overview, methodology, systems, results, perspective", 2000).
RULE_OF_30 = 30

Floats = NDArray[np.float64]


def fit_upper(values: Floats, weights: Floats | None = None) -> Normal:
    """Fit a normal distribution to the upper tenth of values, shape [n].

    A straight line through the quantile plot between shares of 10 % and 10 / n, each point weighted with the
    number of comparisons above it: the middle of the distribution, which says nothing about false accepts,
    is left out. `weights` are the counts of each comparison in a bootstrap.
    """
    order = np.argsort(values)[::-1]
    return _fit_sorted(values[order], np.ones(len(order)) if weights is None else weights[order])


def _fit_sorted(values: Floats, weight: Floats) -> Normal:
    """Fit like `fit_upper`; values must descend."""
    above = np.cumsum(weight)
    total = above[-1]
    shares = np.geomspace(TAIL_SHARE, max(10 / total, 1e-6), 24)
    # The value that a share of comparisons reaches is the one at which the count passes that share.
    at = np.minimum(np.searchsorted(above, shares * total), len(values) - 1)
    normal = NormalDist()
    x = np.array([-normal.inv_cdf(float(share)) for share in shares])
    slope, intercept = np.polyfit(x, values[at], 1, w=np.sqrt(shares * total))
    return Normal(mean=float(intercept), deviation=max(float(slope), 1e-6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """The rates that impostor comparisons support."""

    speakers: int
    pairs: int
    """Pairs of compared speakers: more comparisons of the same two are no new evidence."""
    upper: Normal
    bootstrap: tuple[Normal, ...]
    """The same fit for each resampling of the speakers."""

    def interval(self, log10_far: float) -> tuple[float, float]:
        """Compute the 95 % interval of the true log10 FAR where the fit claims `log10_far`."""
        return self._interval(self.upper.at(log10_far))

    def log10_far(self, value: float) -> tuple[float, float, float]:
        """Compute log10 of the share of strangers at or above a value, with its 95 % interval."""
        return self.upper.log10_above(value), *self._interval(value)

    def _interval(self, value: float) -> tuple[float, float]:
        found = [normal.log10_above(value) for normal in self.bootstrap]
        low, high = np.quantile(found, (0.025, 0.975))
        return float(low), float(high)

    def supported_log10_far(self) -> float:
        """Find the smallest rate that may be claimed, on a grid of tenths of a decade; 0 if none.

        Down to it the interval stays within half a decade on either side, and 30 pairs of speakers reach a
        rate at most one decade above: the normal tail may be followed for a decade beyond what was counted.
        """
        counted = math.log10(RULE_OF_30 / self.pairs) - 1
        supported = 0.0
        for tenths in range(1, 51):
            level = -tenths / 10
            low, high = self.interval(level)
            if level < counted or low < level - 0.5 or high > level + 0.5:
                return supported
            supported = level
        return supported


def measure_support(
    values: Floats,
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    *,
    rounds: int = 200,
    seed: int = 1,
) -> Support:
    """Fit the tail and its uncertainty; value k compares speakers `first[k]` and `second[k]`, shape [n].

    The bootstrap draws speakers, not comparisons: all comparisons of one speaker are correlated, and treating
    them as independent would give intervals several times too narrow.
    """
    speakers, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
    order = np.argsort(values)[::-1]
    falling = values[order]
    one, two = numbers[: len(first)][order], numbers[len(first) :][order]
    random = np.random.default_rng(seed)
    share = np.full(len(speakers), 1 / len(speakers))
    fits = []
    for _ in range(rounds):
        drawn = random.multinomial(len(speakers), share).astype(np.float64)
        weights = drawn[one] * drawn[two]
        if np.count_nonzero(weights) >= RULE_OF_30:
            fits.append(_fit_sorted(falling, weights))
    return Support(
        speakers=len(speakers),
        pairs=min(len(values), len(speakers) * (len(speakers) - 1) // 2),
        upper=_fit_sorted(falling, np.ones(len(falling))),
        bootstrap=tuple(fits),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFit:
    """The distribution of an installation's own strangers on the shipped scale."""

    shift: float
    scale: float
    support: Support
    """The support, in standard deviations of the shipped tails."""

    def shipped_log10_far(self, score: float) -> tuple[float, float, float]:
        """Compute the true log10 FAR of a score on the shipped scale, with its 95 % interval."""
        return self.support.log10_far(self.shipped_deviation(score))

    @staticmethod
    def shipped_deviation(score: float) -> float:
        """Convert a score to deviations of the shipped scale."""
        return -NormalDist().inv_cdf(10 ** log10_far_of(score))

    def own_deviation(self, score: float) -> float:
        """Convert a score of this fit to deviations of the shipped scale."""
        return self.shift + self.scale * self.shipped_deviation(score)


def fit_own(strangers: Floats, first: NDArray[np.intp], second: NDArray[np.intp]) -> OwnFit:
    """Fit an installation's own strangers: their `deviations` and the compared speakers, each shape [n]."""
    support = measure_support(strangers, first, second)
    return OwnFit(shift=support.upper.mean, scale=support.upper.deviation, support=support)


def deviations(
    calibration: Calibration,
    similarities: Floats,
    speech_s: Floats,
    snr_db: Floats,
    *,
    highpass_300hz: bool = False,
) -> Floats:
    """Compute the standard deviations of each similarity above the mean of strangers; [n]."""
    places, of = np.unique(np.stack([speech_s, snr_db]), axis=1, return_inverse=True)
    tails = [
        calibration.tail(float(seconds), float(noise), highpass_300hz=highpass_300hz)
        for seconds, noise in places.T
    ]
    mean = np.array([tail.z.mean for tail in tails])[of.reshape(-1)]
    deviation = np.array([tail.z.deviation for tail in tails])[of.reshape(-1)]
    found: Floats = (np.arctanh(np.clip(similarities, -MAX_SIMILARITY, MAX_SIMILARITY)) - mean) / deviation
    return found


def fit_llr(genuine: Floats, strangers: Floats) -> tuple[float, float]:
    """Fit slope and offset of the log likelihood ratio over deviations; each shape [n].

    Logistic regression with both sides weighted equally (Brümmer and du Preez, "Application-independent
    evaluation of speaker detection", 2006), by Newton's method.
    """
    z = np.concatenate([genuine, strangers])
    target = np.concatenate([np.ones(len(genuine)), np.zeros(len(strangers))])
    weight = np.where(target == 1, 0.5 / len(genuine), 0.5 / len(strangers))
    design = np.stack([z, np.ones(len(z))], axis=1)
    found = np.array([1.0, -float(np.median(z))])
    # A weak prior keeps the slope finite when the two sides do not overlap.
    prior = np.diag([1e-4, 1e-6])
    for _ in range(100):
        share = 1 / (1 + np.exp(-np.clip(design @ found, -50, 50)))
        gradient = design.T @ (weight * (share - target)) + prior @ found
        curvature = (design * (weight * share * (1 - share))[:, None]).T @ design + prior
        step = np.linalg.solve(curvature, gradient)
        found = found - np.clip(step, -2, 2)
        if np.max(np.abs(step)) < 1e-9:
            break
    return float(found[0]), float(found[1])
