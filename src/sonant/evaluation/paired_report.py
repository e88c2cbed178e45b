"""Write the comparison of two voice models as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sonant.evaluation.bootstrap import CONFIDENCE, REPLICATES
from sonant.evaluation.figures import NAMES, RATES
from sonant.evaluation.paired import FIGURES, SIGNIFICANT, Difference, PairedResult
from sonant.evaluation.report import aligned, condition, number

_VERDICTS = ("not shown", "the first", "the second")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedReport:
    """The results of two models on the same comparisons."""

    first_id: str
    second_id: str
    second_scorer: str
    results: Sequence[PairedResult]


def as_text(report: PairedReport) -> str:
    """Write one line for each figure of each condition, then what they mean."""
    rows = [
        [
            condition(result.outcome) if place == 0 else "",
            NAMES[name],
            _value(name, one.first),
            _value(name, one.second),
            _difference(name, one),
            "-" if one.p is None else f"{one.p:.3f}",
            _VERDICTS[one.better],
        ]
        for result in report.results
        for place, (name, one) in enumerate(result.differences.items())
    ]
    lines = [
        f"first: {report.first_id}",
        f"second: {report.second_id}, scored by {report.second_scorer}",
        "",
        *aligned([["condition", "figure", "first", "second", "second - first", "p", "errs less"], *rows]),
        "",
        *(f"* {note}" for note in notes(report)),
    ]
    return "\n".join(lines) + "\n"


def as_json(report: PairedReport) -> dict[str, Any]:
    """Build the part of the JSON document about the second model."""
    return {
        "model": report.second_id,
        "scorer": report.second_scorer,
        "interval": {"confidence": CONFIDENCE, "over": "speakers", "replicates": REPLICATES},
        "notes": notes(report),
        "results": [
            {
                "channel": {"reference": result.outcome.line.reference, "probe": result.outcome.line.probe},
                "enroll_s": result.outcome.enroll_s,
                "test_s": result.outcome.test_s,
                "speakers": result.speakers,
                "genuine": result.genuine,
                "impostor": result.impostor,
                "figures": {
                    name: {
                        "first": one.first,
                        "second": one.second,
                        "difference": one.value,
                        "low": one.interval.low if one.interval else None,
                        "high": one.interval.high if one.interval else None,
                        "p": one.p,
                    }
                    for name, one in result.differences.items()
                },
            }
            for result in report.results
        ],
    }


def notes(report: PairedReport) -> list[str]:
    """List what the figures mean and which are missing."""
    found = [
        "Both models made the same comparisons; rates differ by percentage points. In brackets "
        f"{100 * CONFIDENCE:.0f} % intervals of the difference over up to {REPLICATES:,} resamplings of "
        "speakers, drawn once for both models.",
        "p: how probable so great a difference, in either direction, would be without any. A model errs less "
        f"where p is below {SIGNIFICANT:g}; of twenty such figures one is so by chance.",
    ]
    missing = [name for name in FIGURES if any(name not in one.differences for one in report.results)]
    if missing:
        names = ", ".join(NAMES[name] for name in missing)
        found.append(f"Too few comparisons, or no calibration, for: {names}.")
    return found


def _value(name: str, value: float) -> str:
    return f"{number(value, rate=True)} %" if name in RATES else number(value, rate=False)


def _difference(name: str, one: Difference) -> str:
    signed = _signed(name, one.value)
    if one.interval is None:
        return signed
    return f"{signed} ({_signed(name, one.interval.low)} to {_signed(name, one.interval.high)})"


def _signed(name: str, value: float) -> str:
    return f"{100 * value:+.2f}" if name in RATES else f"{value:+.3f}"
