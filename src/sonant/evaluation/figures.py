"""Compute the figures of a report from scores, each with its interval or the reason for a missing value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sonant.errors import NotEnoughTrials
from sonant.evaluation import bootstrap, metrics
from sonant.evaluation.bootstrap import Comparisons, Interval
from sonant.evaluation.metrics import Floats
from sonant.evaluation.run import Outcome
from sonant.evaluation.trials import SpeakerInfo

THRESHOLDS = (80, 90, 95)
NOT_CALIBRATED = "scores are not calibrated"
_SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure, as far as the data support it."""

    value: float | None
    low: float | None = None
    """95 % interval over speakers; None when there are under three."""
    high: float | None = None
    rough: bool = False
    """Whether fewer than 30 errors support it, so that only its order of magnitude is known."""
    unsupported_reason: str = ""
    """The reason for a missing value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The figures of one condition, or of one group of speakers under it."""

    outcome: Outcome
    group: str
    """`all`, or such as `gender F`."""
    speakers: int
    genuine: int
    """Number of genuine comparisons, without those that failed for lack of speech."""
    impostor: int
    figures: Mapping[str, Figure]
    """Figures by name; see `NAMES`."""

    def scores(self, values: Floats) -> tuple[Floats, Floats]:
        """Split one of the outcome's columns into genuine and impostor values, without failures."""
        there = ~np.isnan(values)
        return values[there & self.outcome.genuine], values[there & ~self.outcome.genuine]


NAMES: Mapping[str, str] = {
    "eer": "EER",
    "min_dcf_0.01": "minDCF 0.01",
    "min_dcf_0.001": "minDCF 0.001",
    "fnmr_at_fmr_0.001": "FNMR at FMR 0.1 %",
    **{f"{kind}_{limit}": f"{kind.upper()} at {limit}" for limit in THRESHOLDS for kind in ("far", "frr")},
    "cllr": "Cllr",
    "min_cllr": "min Cllr",
    "calibration_loss": "calibration loss",
}
RATES = frozenset(name for name in NAMES if name.startswith(("eer", "fnmr", "far", "frr")))
"""Figures that are rates, shown in percent."""


def nominal_far(score: float) -> float:
    """Convert a score to its FAR: 10 % at 50, 1 % at 80, 0.1 % at 90, 0.001 % at 100, log-linear between."""
    return float(10 ** np.interp(score, [50, 80, 90, 100], [-1, -2, -3, -5]))


def results(outcome: Outcome, facts: Mapping[str, SpeakerInfo]) -> list[Result]:
    """Compute the figures of all comparisons, then of those within each known gender and channel.

    A group without genuine or without impostor comparisons is left out.
    """
    found = [_result(outcome, "all", len(participants(outcome)))]
    for kind in ("gender", "channel"):
        of = np.array([getattr(facts.get(name, SpeakerInfo()), kind) for name in outcome.speakers])
        for value in sorted(set(of.tolist()) - {""}):
            part = _only(outcome, of == value)
            if part is not None:
                found.append(_result(part, f"{kind} {value}", len(participants(part))))
    return found


def _result(outcome: Outcome, group: str, speakers: int) -> Result:
    comparisons = comparisons_of(outcome, outcome.raw, with_failed=False)
    figures = dict.fromkeys(NAMES, Figure(value=None, unsupported_reason=NOT_CALIBRATED))
    figures |= _ranking_figures(comparisons)
    if outcome.score is not None:
        figures |= _threshold_figures(comparisons_of(outcome, outcome.score, with_failed=True))
    if outcome.llr is not None:
        figures |= _likelihood_figures(comparisons_of(outcome, outcome.llr, with_failed=False))
    return Result(
        outcome=outcome,
        group=group,
        speakers=speakers,
        genuine=len(comparisons.genuine),
        impostor=len(comparisons.impostor),
        figures=figures,
    )


def _ranking_figures(comparisons: Comparisons) -> dict[str, Figure]:
    """Compute the figures that depend only on the order of the scores."""
    genuine, impostor = len(comparisons.genuine), len(comparisons.impostor)
    curve = metrics.det(comparisons.genuine, comparisons.impostor)
    needed = {"min_dcf_0.01": 0.01, "min_dcf_0.001": 0.001, "fnmr_at_fmr_0.001": 0.001}
    take: dict[str, Callable[[metrics.Det], Floats]] = {
        "eer": metrics.equal_error_rate,
        "min_dcf_0.01": lambda det: metrics.min_dcf(det, 0.01),
        "min_dcf_0.001": lambda det: metrics.min_dcf(det, 0.001),
        "fnmr_at_fmr_0.001": lambda det: metrics.fnmr_at_fmr(det, 0.001),
    }
    corners = metrics.corners(comparisons.genuine, comparisons.impostor)
    spread = bootstrap.intervals(
        comparisons,
        lambda g, i: _each(
            take, metrics.det(comparisons.genuine, comparisons.impostor, g, i, thresholds=corners)
        ),
        seed=_SEED,
    )
    values = {name: float(value) for name, value in _each(take, curve).items()}
    figures = {
        "eer": _rate(values["eer"], min(genuine, impostor), spread.get("eer")),
        "fnmr_at_fmr_0.001": replace(
            _rate(values["fnmr_at_fmr_0.001"], genuine, spread.get("fnmr_at_fmr_0.001")),
            rough=metrics.rough(impostor, 0.001),
        ),
    }
    for name in ("min_dcf_0.01", "min_dcf_0.001"):
        figures[name] = _figure(values[name], spread.get(name), rough=metrics.rough(impostor, needed[name]))
    for name, rate in needed.items():
        figures[name] = _if_supported(impostor, rate, figures[name])
    best = metrics.pool_adjacent_violators(comparisons.genuine, comparisons.impostor)
    spread = bootstrap.intervals(
        comparisons,
        lambda g, i: {"min": metrics.min_cllr_weighted(comparisons.genuine, comparisons.impostor, g, i)},
        seed=_SEED,
        replicates=bootstrap.PAV_REPLICATES,
    )
    figures["min_cllr"] = _figure(metrics.min_cllr(best), spread.get("min"))
    return figures


def _threshold_figures(transactions: Comparisons) -> dict[str, Figure]:
    """Compute FAR and FRR at scores of 80, 90, 95. A probe without a template is never accepted."""

    def rates(g: Floats | None, i: Floats | None) -> dict[str, Floats]:
        found = {}
        for limit in THRESHOLDS:
            found[f"far_{limit}"] = metrics.match_rate(transactions.impostor, limit, i)
            found[f"frr_{limit}"] = 1 - metrics.match_rate(transactions.genuine, limit, g)
        return found

    spread = bootstrap.intervals(transactions, rates, seed=_SEED)
    figures = {}
    for name, value in rates(None, None).items():
        count = len(transactions.impostor if name.startswith("far") else transactions.genuine)
        figures[name] = _rate(float(value), count, spread.get(name))
    for limit in THRESHOLDS:
        name = f"far_{limit}"
        figures[name] = _if_supported(len(transactions.impostor), nominal_far(limit), figures[name])
    return figures


def _likelihood_figures(ratios: Comparisons) -> dict[str, Figure]:
    """Compute Cllr and the part of it that the best calibration of these ratios would remove."""
    genuine, impostor = ratios.genuine, ratios.impostor
    spread = bootstrap.intervals(
        ratios, lambda g, i: {"cllr": metrics.cllr(genuine, impostor, g, i)}, seed=_SEED
    ) | bootstrap.intervals(
        ratios,
        lambda g, i: {
            "loss": metrics.cllr(genuine, impostor, g, i) - metrics.min_cllr_weighted(genuine, impostor, g, i)
        },
        seed=_SEED,
        replicates=bootstrap.PAV_REPLICATES,
    )
    value = float(metrics.cllr(genuine, impostor))
    best = metrics.min_cllr(metrics.pool_adjacent_violators(genuine, impostor))
    return {
        "cllr": _figure(value, spread.get("cllr")),
        "calibration_loss": _figure(value - best, spread.get("loss")),
    }


def _each(take: Mapping[str, Callable[[metrics.Det], Floats]], curve: metrics.Det) -> dict[str, Floats]:
    return {name: figure(curve) for name, figure in take.items()}


def _rate(value: float, count: int, interval: Interval | None) -> Figure:
    """Build the figure of a rate over `count` comparisons; without an error its bound is 3 / count."""
    figure = _figure(value, interval, rough=metrics.rough(count, value))
    if value > 0 or figure.high is None:
        return figure
    return replace(figure, high=max(figure.high, min(1.0, metrics.RULE_OF_3 / count)))


def _figure(value: float, interval: Interval | None, *, rough: bool = False) -> Figure:
    if interval is None:
        return Figure(value=value, rough=rough)
    return Figure(value=value, low=interval.low, high=interval.high, rough=rough)


def _if_supported(impostor: int, rate: float, figure: Figure) -> Figure:
    try:
        metrics.need_comparisons(impostor, rate)
    except NotEnoughTrials as fault:
        return Figure(value=None, unsupported_reason=str(fault))
    return figure


def comparisons_of(outcome: Outcome, values: Floats, *, with_failed: bool) -> Comparisons:
    """Select the comparisons of one of the outcome's columns; speakers that take part are renumbered."""
    mask = np.ones(len(values), np.bool_) if with_failed else ~np.isnan(values)
    values = np.where(np.isnan(values), -np.inf, values)
    genuine, impostor = mask & outcome.genuine, mask & ~outcome.genuine
    number = np.full(len(outcome.speakers), -1, np.intp)
    there = participants(outcome)
    number[there] = np.arange(len(there))
    pair_speakers = np.stack([number[outcome.reference_speaker], number[outcome.probe_speaker]], axis=1)
    return Comparisons(
        genuine=values[genuine],
        impostor=values[impostor],
        genuine_speaker=pair_speakers[genuine, 0],
        impostor_speakers=pair_speakers[impostor],
        speakers=len(there),
    )


def participants(outcome: Outcome) -> NDArray[np.intp]:
    """List the numbers of the speakers who are in any comparison."""
    return np.unique(np.concatenate([outcome.reference_speaker, outcome.probe_speaker]))


def _only(outcome: Outcome, member: NDArray[np.bool_]) -> Outcome | None:
    """Select comparisons of two members; None without a genuine or an impostor one."""
    mask = member[outcome.reference_speaker] & member[outcome.probe_speaker]
    there = mask & ~np.isnan(outcome.raw)
    if not ((there & outcome.genuine).any() and (there & ~outcome.genuine).any()):
        return None
    return outcome.select(mask)


def all_results(outcomes: Sequence[Outcome], facts: Mapping[str, SpeakerInfo]) -> list[Result]:
    """Compute the results of all conditions, in their order."""
    return [result for outcome in outcomes for result in results(outcome, facts)]
