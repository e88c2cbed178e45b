"""Write results as text for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sonant.evaluation.bootstrap import CONFIDENCE, PAV_REPLICATES, REPLICATES
from sonant.evaluation.channels import MEAN_BURST_PACKETS
from sonant.evaluation.figures import NAMES, NOT_CALIBRATED, RATES, THRESHOLDS, Figure, Result
from sonant.evaluation.run import Outcome

FORMAT = 1

ORDER = ("eer", "fnmr_at_fmr_0.001", "min_dcf_0.01", "min_dcf_0.001", "min_cllr")
"""Columns of the table of figures that depend only on the order of the scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of an evaluation with their data, model and version."""

    data: str
    """A short description of the recordings."""
    model_id: str
    scorer: str
    version: str
    seed: int
    results: Sequence[Result]


def as_text(report: Report) -> str:
    """Write tables of at most about 110 characters per line, then notes on their reliability."""
    lines = [heading(report), ""]
    lines += aligned([["condition", "group", *(NAMES[name] for name in ORDER)], *_rows(report, ORDER)])
    tables: list[tuple[str, ...]] = []
    if calibrated(report):
        tables += [(f"far_{limit}", f"frr_{limit}") for limit in THRESHOLDS]
    if any(result.figures["cllr"].value is not None for result in report.results):
        tables.append(("cllr", "min_cllr", "calibration_loss"))
    for names in tables:
        lines += [
            "",
            *aligned([["condition", "group", *(NAMES[name] for name in names)], *_rows(report, names)]),
        ]
    lines += ["", *aligned([list(COUNTS), *[counts(result) for result in report.results]])]
    lines += ["", *(f"* {note}" for note in notes(report))]
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> dict[str, Any]:
    """Build the JSON document: every figure with its bounds, or `null` with a reason."""
    return {
        "format": FORMAT,
        "data": report.data,
        "model": report.model_id,
        "scorer": report.scorer,
        "sonant": report.version,
        "seed": report.seed,
        "interval": {"confidence": CONFIDENCE, "over": "speakers", "replicates": REPLICATES},
        "notes": notes(report),
        "results": [
            {
                "channel": {
                    "reference": result.outcome.line.reference,
                    "probe": result.outcome.line.probe,
                },
                "enroll_s": result.outcome.enroll_s,
                "test_s": result.outcome.test_s,
                "group": result.group,
                "speakers": result.speakers,
                "genuine": result.genuine,
                "impostor": result.impostor,
                "references": result.outcome.references,
                "failures_to_enroll": result.outcome.references_failed,
                "probes": result.outcome.probes,
                "failures_to_acquire": result.outcome.probes_failed,
                "unreadable_recordings": result.outcome.unreadable,
                "figures": {name: _json_figure(figure) for name, figure in result.figures.items()},
            }
            for result in report.results
        ],
    }


COUNTS = (
    "condition", "group", "speakers", "genuine", "impostor", "references", "probes",
    "failed to enroll", "failed to acquire",
)  # fmt: skip


def counts(result: Result) -> list[str]:
    """List the counts behind a result, under the headings COUNTS."""
    outcome = result.outcome
    whole = [outcome.references, outcome.probes, outcome.references_failed, outcome.probes_failed]
    return [
        condition(result.outcome),
        result.group,
        *(f"{count:,}" for count in (result.speakers, result.genuine, result.impostor)),
        *(f"{count:,}" if result.group == "all" else "" for count in whole),
    ]


def heading(report: Report) -> str:
    """Describe the evaluation in one line."""
    return f"{report.data}; model {report.model_id}, scored by {report.scorer}; sonant {report.version}"


def condition(outcome: Outcome) -> str:
    """Describe a condition, such as `g711, 30 s against 10 s`."""
    lengths = ["all" if one is None else f"{one:g} s" for one in (outcome.enroll_s, outcome.test_s)]
    return f"{outcome.line.name}, {lengths[0]} against {lengths[1]}"


def calibrated(report: Report) -> bool:
    """Return whether any result has calibrated scores."""
    return any(result.outcome.score is not None for result in report.results)


def show(name: str, figure: Figure) -> str:
    """Format a figure with its interval: `1.3 % (0.4-2.2)`; `~` if it is rough, a dash if it is missing."""
    if figure.value is None:
        return "-"
    rate = name in RATES
    text = f"{'~' if figure.rough else ''}{number(figure.value, rate=rate)}{' %' if rate else ''}"
    if figure.low is None or figure.high is None:
        return text
    return f"{text} ({number(figure.low, rate=rate)}-{number(figure.high, rate=rate)})"


def number(value: float, *, rate: bool) -> str:
    """Format a rate in percent with two significant digits, anything else with three decimals."""
    if not rate:
        return f"{value:.3f}"
    percent = 100 * value
    if percent == 0:
        return "0"
    return f"{percent:.0f}" if percent >= 20 else f"{percent:.1f}" if percent >= 1 else f"{percent:.2g}"


def notes(report: Report) -> list[str]:
    """List the limits of the figures for the reader."""
    first = report.results[0]
    fewest = min(result.speakers for result in report.results if result.group == "all")
    found = [
        f"In brackets {100 * CONFIDENCE:.0f} % intervals: up to {REPLICATES:,} resamplings of speakers "
        f"({PAV_REPLICATES} for min Cllr and the loss). They show how the figures vary among speakers "
        f"like these {fewest}, not among all people.",
        "~ marks a figure with fewer than 30 errors (rule of 30): only its order of magnitude is "
        "known. Where no error was seen, the upper bound is at least 3 / comparisons (rule of 3).",
    ]
    if fewest < 20:
        found.append(
            f"{fewest} speakers are few: one person who is easily confused changes every figure. Do not take "
            "them for the rates of your callers."
        )
    for name in NAMES:
        reasons = dict.fromkeys(result.figures[name].unsupported_reason for result in report.results)
        found += [f"{NAMES[name]}: {reason}." for reason in reasons if reason and reason != NOT_CALIBRATED]
    if not calibrated(report):
        found.append(f"No FAR and FRR at {', '.join(map(str, THRESHOLDS))}, no Cllr: {NOT_CALIBRATED}.")
    if any("loss" in result.outcome.line.name for result in report.results):
        found.append(f"Packets are lost in bursts of {MEAN_BURST_PACKETS:g} on average.")
    if first.outcome.unreadable:
        found.append(f"{first.outcome.unreadable} recordings could not be decoded and were left out.")
    return found


def _rows(report: Report, names: Sequence[str]) -> list[list[str]]:
    return [
        [condition(result.outcome), result.group, *(show(name, result.figures[name]) for name in names)]
        for result in report.results
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _json_figure(figure: Figure) -> Mapping[str, Any]:
    if figure.value is None:
        return {"value": None, "why_not": figure.unsupported_reason}
    return {"value": figure.value, "low": figure.low, "high": figure.high, "rough": figure.rough}
