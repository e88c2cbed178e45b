"""Recover a stored embedding from answers about it: least squares on scores, and an adaptive search.

Pure functions of numbers. The attacker knows the encoder and its calibration, so an answer about a probe says
in which interval the product of probe and embedding lies. The embedding is taken as normally distributed with
the mean and covariance of other people's embeddings; intervals are moment-matched (truncated normal), as in
assumed density filtering.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.calibration.model import Calibration, log10_far_of
from sonant.voice.disclosure import RISK_BANDS
from sonant.voice.quality import Quality
from sonant.voice.scoring import RISK_ANCHORS

Floats = NDArray[np.float64]

#: What the attacker does not know about a comparison (its quality), as a deviation of the similarity.
NOISE = 0.01
#: Share of the pool's covariance that is replaced by one without directions.
SHRINKAGE = 0.3
CANDIDATES = 48

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where a similarity lies: at or above `low`, below `high`."""

    low: float
    high: float


@dataclass(slots=True)
class Belief:
    """What the attacker believes of the embedding: a normal distribution."""

    mean: Floats
    """Shape [d]."""
    covariance: Floats
    """Shape [d, d]."""

    @classmethod
    def of_strangers(cls, pool: Floats) -> Belief:
        """Begin with other people's embeddings, [n, d]."""
        spread = np.cov(pool, rowvar=False)
        even = np.eye(len(spread)) * np.trace(spread) / len(spread)
        return cls(mean=pool.mean(axis=0), covariance=(1 - SHRINKAGE) * spread + SHRINKAGE * even)

    @property
    def template(self) -> Floats:
        """The recovered embedding, unit length."""
        return unit(self.mean)

    def predict(self, probes: Floats) -> tuple[Floats, Floats]:
        """Predict the products with probes [n, d]: means and deviations, [n]."""
        spread = np.einsum("nd,de,ne->n", probes, self.covariance, probes)
        return probes @ self.mean, np.sqrt(spread + NOISE**2)

    def learn(self, probe: Floats, answer: Interval) -> None:
        """Take an answer about one probe into account."""
        towards = self.covariance @ probe
        variance = float(probe @ towards) + NOISE**2
        mean = float(probe @ self.mean)
        new_mean, new_variance = truncated(mean, math.sqrt(variance), answer)
        self.mean = self.mean + towards * ((new_mean - mean) / variance)
        self.covariance = self.covariance - np.outer(towards, towards) * (
            (1 - new_variance / variance) / variance
        )

    def draw(self, count: int, random: np.random.Generator) -> Floats:
        """Draw embeddings that fit what is known, [count, d]."""
        values, vectors = np.linalg.eigh(self.covariance)
        scaled = vectors * np.sqrt(np.clip(values, 0, None))
        drawn: Floats = self.mean + random.normal(size=(count, len(values))) @ scaled.T
        return drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Similarities at which scores change; the attacker knows the calibration."""

    calibration: Calibration
    quality: Quality
    """Of the comparisons."""

    def at(self, score: float) -> float:
        """Return the least similarity of a score."""
        if score <= 0:
            return -math.inf
        return self.calibration.tail_for(self.quality).similarity_at(min(log10_far_of(score), -1e-9))

    def of(self, scores: Sequence[int]) -> Floats:
        return np.array([self.at(score) for score in scores])

    def of_risks(self) -> Floats:
        """Return the similarities at which the risk of the only fraudster on a list changes its band."""
        tail = self.calibration.tail_for(self.quality)
        scores, levels = (list(column) for column in zip(*RISK_ANCHORS, strict=True))
        shares = np.interp(RISK_BANDS[1:], scores, levels)
        return np.array([tail.similarity_at(float(share)) for share in shares])

    def nearest(self, similarity: float) -> int:
        """Find the threshold that is nearest to a similarity."""
        points = self.of(range(1, 101))
        return int(np.argmin(np.abs(points - similarity))) + 1


def least_squares(pool: Floats, probes: Floats, answers: Sequence[Interval]) -> Floats:
    """Solve for the embedding: probes [n, d] with their answers; strangers' statistics fill the rest up.

    Each answer counts as its expected value, with the variance that its interval leaves.
    """
    prior = Belief.of_strangers(pool)
    means, deviations = prior.predict(probes)
    told = [
        truncated(float(mean), float(deviation), answer)
        for mean, deviation, answer in zip(means, deviations, answers, strict=True)
    ]
    values, left = np.array([one[0] for one in told]), np.array([one[1] for one in told])
    # A value known only to lie in an interval of variance `left` weighs as a measurement with this noise.
    noise = left * deviations**2 / np.maximum(deviations**2 - left, 1e-9)
    cross = prior.covariance @ probes.T
    gram = probes @ cross + np.diag(noise + NOISE**2)
    # The expected value is already drawn towards the prior mean: undo that before it is drawn again.
    measured = means + (values - means) * (deviations**2 + noise) / deviations**2
    return unit(prior.mean + cross @ np.linalg.solve(gram, measured - means))


def choose_probe(belief: Belief, edges: Floats | None, random: np.random.Generator) -> Floats:
    """Choose the probe whose answer is expected to tell most, unit length, [d].

    `edges` are the similarities at which the answer changes; None for an exact similarity, or for a decision
    at a threshold that is chosen for each probe.
    """
    draws = belief.draw(CANDIDATES, random)
    towards = belief.template
    # Between the best guess and directions of which little is known.
    shares = random.uniform(0, 1.5, size=(CANDIDATES, 1))
    away = draws - belief.mean
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    probes = towards + shares * away
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    means, deviations = belief.predict(probes)
    if edges is None:
        return unit(probes[int(np.argmax(deviations))])
    return unit(probes[int(np.argmax(entropy(means, deviations, edges)))])


def entropy(means: Floats, deviations: Floats, edges: Floats) -> Floats:
    """Compute how much each probe's answer is expected to tell, in nats, [n]."""
    below = 0.5 * (1 + _erf((edges[None, :] - means[:, None]) / (deviations[:, None] * math.sqrt(2))))
    ends = np.concatenate([np.zeros((len(means), 1)), below, np.ones((len(means), 1))], axis=1)
    shares = np.clip(np.diff(ends, axis=1), 1e-12, 1)
    found: Floats = -(shares * np.log(shares)).sum(axis=1)
    return found


def truncated(mean: float, deviation: float, within: Interval) -> tuple[float, float]:
    """Compute mean and variance of a normal distribution within an interval."""
    low, high = (within.low - mean) / deviation, (within.high - mean) / deviation
    if low > 8 or high < -8:  # too improbable for these formulas: the nearest end
        return mean + deviation * (low if low > 8 else high), (0.05 * deviation) ** 2
    share = max(_below(high) - _below(low), 1e-15)
    shift = (_density(low) - _density(high)) / share
    bend = (_weighted(low) - _weighted(high)) / share
    left = min(max(1 + bend - shift * shift, 1e-6), 1.0)
    return mean + deviation * shift, deviation * deviation * left


def unit(vector: Floats) -> Floats:
    """Scale to unit length."""
    scaled: Floats = vector / np.linalg.norm(vector)
    return scaled


def _below(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) if abs(z) < 38 else 0.0


def _weighted(z: float) -> float:
    return z * _density(z) if math.isfinite(z) else 0.0
