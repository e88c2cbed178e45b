"""Compare two voice models on the same comparisons: is one of them better, and by how much?

Two intervals that overlap do not show that two models are alike: both err on the same difficult people. A
paired bootstrap draws speakers once for both models and looks at the difference of their figures, in which
what is difficult for both cancels (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sonant.errors import SetupError
from sonant.evaluation import bootstrap, metrics
from sonant.evaluation.bootstrap import Comparisons, Interval
from sonant.evaluation.figures import comparisons_of, participants
from sonant.evaluation.metrics import Floats
from sonant.evaluation.run import Outcome

FIGURES = ("eer", "fnmr_at_fmr_0.001", "min_dcf_0.01", "far_90", "frr_90")
"""The compared figures; less is better in each."""
SIGNIFICANT = 0.05
"""The probability below which a difference counts as shown."""

_SEED = 7
_FNMR_AT, _THRESHOLD = 0.001, 90
_NEEDS_FMR: Mapping[str, float] = {"fnmr_at_fmr_0.001": 0.001, "min_dcf_0.01": 0.01, "far_90": 0.001}

Figures = Callable[[Floats | None, Floats | None], dict[str, Floats]]
"""Computes figures by name from weights of genuine and of impostor comparisons; None weighs all alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure of both models on the same comparisons."""

    first: float
    second: float
    interval: Interval | None
    """95 % interval of the second's figure minus the first's; None for under three speakers."""
    p: float | None
    """How probable so great a difference would be, in either direction, if there were none."""

    @property
    def value(self) -> float:
        """The second's figure minus the first's."""
        return self.second - self.first

    @property
    def better(self) -> int:
        """Which of the models errs less: 1 or 2, or 0 where no difference is shown."""
        if self.p is None or self.p >= SIGNIFICANT or self.value == 0:
            return 0
        return 2 if self.value < 0 else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedResult:
    """Two models compared under one condition."""

    outcome: Outcome
    """The first model's, with the comparisons that both have."""
    speakers: int
    genuine: int
    impostor: int
    differences: Mapping[str, Difference]
    """By the figures' names, in the order of FIGURES; what the data do not support is missing."""


def compare_models(first: Outcome, second: Outcome) -> PairedResult:
    """Compare two models' outcomes of one condition.

    Only comparisons that both have count. Where a model could embed a probe and the other could not, ranking
    figures leave the comparison out, and FAR and FRR count it as rejected. Raises SetupError for outcomes of
    different trials.
    """
    one, other = _common(first, second)
    both = ~(np.isnan(one.raw) | np.isnan(other.raw))
    ranked = tuple(
        comparisons_of(model.select(both), model.raw[both], with_failed=False) for model in (one, other)
    )
    differences = _differences(ranked, _ranking_figures)
    if one.score is not None and other.score is not None:
        decided = tuple(
            comparisons_of(model, score, with_failed=True)
            for model, score in ((one, one.score), (other, other.score))
        )
        differences |= _differences(decided, _threshold_figures)
    return PairedResult(
        outcome=one,
        speakers=len(participants(one)),
        genuine=len(ranked[0].genuine),
        impostor=len(ranked[0].impostor),
        differences={
            name: differences[name]
            for name in FIGURES
            if name in differences and _supported(name, len(ranked[0].impostor))
        },
    )


def _common(first: Outcome, second: Outcome) -> tuple[Outcome, Outcome]:
    """Select the comparisons that both outcomes have, in the same order."""
    if (first.line, first.enroll_s, first.test_s, first.speakers) != (
        second.line,
        second.enroll_s,
        second.test_s,
        second.speakers,
    ):
        raise SetupError("two models can only be compared under the same condition and on the same speakers")
    width = 1 + max(int(one.pieces[:, 1].max(initial=0)) for one in (first, second))
    mine, theirs = (one.pieces[:, 0] * width + one.pieces[:, 1] for one in (first, second))
    _, rows, others = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
    one, other = first.select(rows), second.select(others)
    if not (one.genuine.any() and (~one.genuine).any()) or (one.genuine != other.genuine).any():
        raise SetupError("the two models have no comparisons in common: measure both on the same recordings")
    return one, other


def _ranking_figures(comparisons: Comparisons) -> Figures:
    genuine, impostor = comparisons.genuine, comparisons.impostor
    thresholds = metrics.corners(genuine, impostor)

    def figures(g: Floats | None, i: Floats | None) -> dict[str, Floats]:
        curve = metrics.det(genuine, impostor, g, i, thresholds=thresholds)
        return {
            "eer": metrics.equal_error_rate(curve),
            "fnmr_at_fmr_0.001": metrics.fnmr_at_fmr(curve, _FNMR_AT),
            "min_dcf_0.01": metrics.min_dcf(curve, 0.01),
        }

    return figures


def _threshold_figures(comparisons: Comparisons) -> Figures:
    def figures(g: Floats | None, i: Floats | None) -> dict[str, Floats]:
        return {
            f"far_{_THRESHOLD}": metrics.match_rate(comparisons.impostor, _THRESHOLD, i),
            f"frr_{_THRESHOLD}": 1 - metrics.match_rate(comparisons.genuine, _THRESHOLD, g),
        }

    return figures


def _differences(
    models: tuple[Comparisons, ...], figures_of: Callable[[Comparisons], Figures]
) -> dict[str, Difference]:
    first, second = (figures_of(one) for one in models)

    def gap(g: Floats, i: Floats) -> dict[str, Floats]:
        one, other = first(g, i), second(g, i)
        return {name: other[name] - one[name] for name in one}

    drawn = bootstrap.resample(models[0], gap, seed=_SEED)
    one, other = first(None, None), second(None, None)
    return {
        name: Difference(
            first=float(one[name]),
            second=float(other[name]),
            interval=bootstrap.interval_of(drawn[name]) if name in drawn else None,
            p=_two_sided(drawn[name]) if name in drawn else None,
        )
        for name in one
    }


def _two_sided(differences: Floats) -> float:
    """Compute the probability of no difference from replicates, which count as if one more were tied."""
    against = min(np.count_nonzero(differences >= 0), np.count_nonzero(differences <= 0))
    return min(1.0, 2 * (int(against) + 1) / (len(differences) + 1))


def _supported(name: str, impostor: int) -> bool:
    return impostor >= metrics.RULE_OF_3 / _NEEDS_FMR[name] if name in _NEEDS_FMR else True
