"""Compute error rates of scores: pure functions of two arrays, optionally weighted.

`genuine` and `impostor` are scores of comparisons of one person and of two persons; higher is more alike; a
comparison matches at a score of at least the threshold. The bootstrap varies the weights (default 1 each).
Every function raises NotEnoughTrials when there is nothing to count.

Definitions: FMR, FNMR, DET, EER from ISO/IEC 19795-1; detection cost from NIST SRE plans; Cllr and its
minimum from N. Brümmer and J. du Preez, "Application-independent evaluation of speaker detection" (2006).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.errors import NotEnoughTrials

Floats = NDArray[np.float64]

RULE_OF_3, RULE_OF_30 = 3, 30
"""No error in N comparisons bounds the rate by 3/N at 95 %; 30 errors give it within 30 % at 90 %
(Doddington et al., NIST overview of speaker recognition, 2000)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Det:
    """Detection error trade-off: the two error rates at every distinct threshold."""

    threshold: Floats
    """Shape [n + 1], ascending; the last is infinite, where nothing matches."""
    fmr: Floats
    """Shape [n + 1] or [replicates, n + 1], falling from 1 to 0."""
    fnmr: Floats
    """The same shape, rising from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """Scores calibrated on themselves by pooling adjacent violators: the best possible calibration."""

    score: Floats
    """Shape [blocks]: the lowest score of each block, ascending."""
    genuine_share: Floats
    """Shape [blocks]: share of all genuine comparisons that lie in the block."""
    impostor_share: Floats


def det(
    genuine: Floats,
    impostor: Floats,
    genuine_weight: Floats | None = None,
    impostor_weight: Floats | None = None,
    *,
    thresholds: Floats | None = None,
) -> Det:
    """Compute FMR and FNMR at every distinct score, or at `thresholds` (ascending, the last infinite).

    Weights are [n] or [replicates, n]; replicates are vectorized.
    """
    _need(genuine, impostor)
    if thresholds is None:
        thresholds = np.append(np.unique(np.concatenate([genuine, impostor])), np.inf)
    below_g = _below(genuine, genuine_weight, thresholds)
    below_i = _below(impostor, impostor_weight, thresholds)
    return Det(threshold=thresholds, fmr=1 - below_i, fnmr=below_g)


def corners(genuine: Floats, impostor: Floats) -> Floats:
    """Find the thresholds at which the DET turns: before and after each genuine score.

    All figures here are the same with these alone, under any weights, and genuine scores are few.
    """
    lowest = min(float(genuine.min()), float(impostor.min()))
    return np.unique(np.concatenate([[lowest], genuine, np.nextafter(genuine, np.inf), [np.inf]]))


def equal_error_rate(curve: Det) -> Floats:
    """Compute the rate where FMR = FNMR, on straight lines between points of the DET; [] or [replicates]."""
    gap = np.atleast_2d(curve.fnmr - curve.fmr)  # rises from -1 to 1
    fmr = np.atleast_2d(curve.fmr)
    row = np.arange(len(gap))
    after = np.argmax(gap >= 0, axis=1)
    before = after - 1
    step = gap[row, after] - gap[row, before]
    part = -gap[row, before] / step
    rate = fmr[row, before] + part * (fmr[row, after] - fmr[row, before])
    return np.asarray(rate.reshape(curve.fmr.shape[:-1]))


def min_dcf(curve: Det, p_target: float) -> Floats:
    """Compute the least detection cost over all thresholds, C_miss = C_fa = 1; refusing all costs 1."""
    cost = p_target * curve.fnmr + (1 - p_target) * curve.fmr
    return np.asarray(cost.min(axis=-1) / min(p_target, 1 - p_target))


def fnmr_at_fmr(curve: Det, fmr: float) -> Floats:
    """Compute FNMR at the lowest threshold whose FMR is at most `fmr`, without interpolation."""
    allowed = curve.fmr <= fmr + 1e-12
    at = np.atleast_2d(np.argmax(allowed, axis=-1)[..., None])
    rate = np.take_along_axis(np.atleast_2d(curve.fnmr), at, axis=1)[:, 0]
    return np.asarray(rate.reshape(curve.fmr.shape[:-1]))


def match_rate(scores: Floats, threshold: float, weight: Floats | None = None) -> Floats:
    """Compute the share of comparisons at or above the threshold: FMR, or 1 - FNMR of genuine ones."""
    if len(scores) == 0:
        raise NotEnoughTrials(0, 1)
    w = np.ones(len(scores)) if weight is None else weight
    return np.asarray((w * (scores >= threshold)).sum(axis=-1) / w.sum(axis=-1))


def cllr(
    genuine_llr: Floats,
    impostor_llr: Floats,
    genuine_weight: Floats | None = None,
    impostor_weight: Floats | None = None,
) -> Floats:
    """Compute the cost of log-likelihood ratios (natural logarithm) in bits: 0 perfect, 1 no information."""
    _need(genuine_llr, impostor_llr)
    costs = 0.0
    for cost, weight in (
        (np.logaddexp(0, -genuine_llr), genuine_weight),
        (np.logaddexp(0, impostor_llr), impostor_weight),
    ):
        w = np.ones(len(cost)) if weight is None else weight
        costs = costs + (w * cost).sum(axis=-1) / w.sum(axis=-1)
    return np.asarray(costs / (2 * np.log(2)))


def pool_adjacent_violators(genuine: Floats, impostor: Floats) -> Calibrated:
    """Fit the ascending step function from score to likelihood ratio to these comparisons."""
    score, g, i = _runs(genuine, impostor, np.ones((1, len(genuine))), np.ones((1, len(impostor))))
    return _pool(score, g[0], i[0])


def min_cllr_weighted(
    genuine: Floats, impostor: Floats, genuine_weight: Floats, impostor_weight: Floats
) -> Floats:
    """Compute `min_cllr` for each row of weights, [replicates, n]."""
    score, g, i = _runs(genuine, impostor, genuine_weight, impostor_weight)
    return np.array([min_cllr(_pool(score, *row)) for row in zip(g, i, strict=True)])


def min_cllr(best: Calibrated) -> float:
    """Compute Cllr under perfect calibration, which depends only on the order of the scores."""
    g, i = best.genuine_share, best.impostor_share
    both = g + i
    with np.errstate(divide="ignore", invalid="ignore"):  # an empty side costs nothing
        cost = np.where(g > 0, g * np.log2(both / g), 0) + np.where(i > 0, i * np.log2(both / i), 0)
    return float(cost.sum() / 2)


def need_comparisons(count: int, rate: float) -> None:
    """Raise NotEnoughTrials unless `count` comparisons support a statement about an error rate of `rate`.

    The rule of 3: with fewer than 3 / rate of them, even no error at all does not prove the rate.
    """
    need = int(np.ceil(RULE_OF_3 / rate - 1e-9))
    if count < need:
        raise NotEnoughTrials(count, need)


def rough(count: int, rate: float) -> bool:
    """Decide whether fewer than 30 errors are expected, so that only an order of magnitude is known."""
    return count * rate < RULE_OF_30


def _need(genuine: Floats, impostor: Floats) -> None:
    if min(len(genuine), len(impostor)) == 0:
        raise NotEnoughTrials(0, 1)


def _below(scores: Floats, weight: Floats | None, thresholds: Floats) -> Floats:
    """Compute the share of the weight below each threshold; [..., thresholds]."""
    order = np.argsort(scores, kind="stable")
    count = np.searchsorted(scores[order], thresholds, side="left")
    if weight is None:
        return count / len(scores)
    total = np.cumsum(weight[..., order], axis=-1)
    share = np.where(count > 0, total[..., np.maximum(count, 1) - 1], 0)
    return np.asarray(share / total[..., -1:])


def _runs(
    genuine: Floats, impostor: Floats, genuine_weight: Floats, impostor_weight: Floats
) -> tuple[Floats, Floats, Floats]:
    """Compute score [runs] and weights [replicates, runs] of runs that pooling would join anyway.

    In ascending order of scores, a run of genuine comparisons and the impostors right after it always violate
    the order, so each such pair is one run: some hundreds are left of tens of thousands.
    """
    _need(genuine, impostor)
    scores, place = np.unique(np.concatenate([genuine, impostor]), return_inverse=True)
    has_g = np.bincount(place[: len(genuine)], minlength=len(scores)) > 0
    has_i = np.bincount(place[len(genuine) :], minlength=len(scores)) > 0
    # A run begins where a genuine score follows an impostor's, and at a score that both have.
    begins = np.append(True, has_g[1:] & (has_i[:-1] | has_i[1:]))
    run = np.cumsum(begins)[place] - 1
    count = int(begins.sum())
    return (
        scores[begins],
        _summed(genuine_weight, run[: len(genuine)], count),
        _summed(impostor_weight, run[len(genuine) :], count),
    )


def _summed(weight: Floats, run: NDArray[np.intp], count: int) -> Floats:
    return np.stack([np.bincount(run, row, minlength=count) for row in weight])


def _pool(score: Floats, g: Floats, i: Floats) -> Calibrated:
    pooled: list[tuple[float, float, float]] = []
    for block in zip(score.tolist(), (g / g.sum()).tolist(), (i / i.sum()).tolist(), strict=True):
        while (
            pooled and pooled[-1][1] * block[2] >= block[1] * pooled[-1][2]
        ):  # the ratio does not rise: pool
            last = pooled.pop()
            block = (last[0], last[1] + block[1], last[2] + block[2])
        pooled.append(block)
    blocks = np.array(pooled)
    return Calibrated(score=blocks[:, 0], genuine_share=blocks[:, 1], impostor_share=blocks[:, 2])
