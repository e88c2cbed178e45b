"""Write the robustness table as text, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from sonant.evaluation import html
from sonant.evaluation.robustness import ACCEPTED, SUSPICIOUS, Row, Sizes

FORMAT = 1
NAMES = {"call": "call", "both": "both sides"}
HEADINGS = (
    "condition",
    "on",
    "genuine",
    "lowest",
    "median",
    f"below {ACCEPTED}",
    "strangers",
    f">= {SUSPICIOUS}",
    f">= {ACCEPTED}",
    "highest",
    "not scored",
)
_LEFT = (0, 1, len(HEADINGS) - 1)
_NONE = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessReport:
    """The rows with their data, model and version."""

    data: str
    """A short description of the recordings."""
    model_id: str
    version: str
    sizes: Sizes
    unreadable: int
    """Recordings that could not be decoded."""
    rows: Sequence[Row]


def text_lines(report: RobustnessReport) -> Iterator[str]:
    """Write the table with a line for each row."""
    yield _introduction(report)
    yield ""
    cells = [HEADINGS, *map(_cells, report.rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(HEADINGS))]
    for row in cells:
        aligned = [
            cell.ljust(width) if place in _LEFT else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(aligned).rstrip()
    yield ""
    for note in _notes(report):
        yield f"* {note}"


def as_json(report: RobustnessReport) -> dict[str, Any]:
    """Build the JSON document, with every score."""
    return {
        "format": FORMAT,
        "data": report.data,
        "model": report.model_id,
        "sonant": report.version,
        "seed": report.sizes.seed,
        "enroll_s": report.sizes.enroll_s,
        "call_s": report.sizes.call_s,
        "unreadable": report.unreadable,
        "rows": [
            {
                "condition": row.condition.name,
                "channel": row.condition.line,
                "side": row.side,
                "genuine": {
                    "count": len(row.genuine),
                    "lowest": row.lowest,
                    "median": row.median,
                    f"below_{ACCEPTED}": row.rejected,
                    "scores": list(row.genuine),
                },
                "strangers": {
                    "count": len(row.strangers),
                    f"at_{SUSPICIOUS}": row.strangers_at(SUSPICIOUS),
                    f"at_{ACCEPTED}": row.strangers_at(ACCEPTED),
                    "highest": row.strangers[-1] if row.strangers else None,
                    "scores": list(row.strangers),
                },
                "not_scored": dict(row.refusals),
            }
            for row in report.rows
        ],
    }


def as_html(report: RobustnessReport) -> str:
    """Write the page."""
    return "\n".join(
        [
            html.page_start("Robustness of Sonant", _introduction(report)),
            html.table(HEADINGS, ([escape(cell) for cell in _cells(row)] for row in report.rows)),
            html.bullets(_notes(report)),
            html.PAGE_END,
        ]
    )


def _introduction(report: RobustnessReport) -> str:
    sizes = report.sizes
    return (
        f"{report.data}; {sizes.enroll_s:g} s enrolled, calls of {sizes.call_s:g} s; "
        f"model {report.model_id}, Sonant {report.version}, seed {sizes.seed}"
    )


def _cells(row: Row) -> tuple[str, ...]:
    middle = _NONE if row.median is None else f"{row.median:g}"
    return (
        row.condition.name,
        NAMES[row.side],
        str(len(row.genuine)),
        _NONE if row.lowest is None else str(row.lowest),
        middle,
        str(row.rejected),
        str(len(row.strangers)),
        str(row.strangers_at(SUSPICIOUS)),
        str(row.strangers_at(ACCEPTED)),
        str(row.strangers[-1]) if row.strangers else _NONE,
        ", ".join(f"{count} {reason}" for reason, count in row.refusals.items()) or _NONE,
    )


def _notes(report: RobustnessReport) -> Iterator[str]:
    yield "on: the fault is on the call only, or on both sides; levels count from active speech"
    yield (
        "genuine, strangers: comparisons of one person and of two; lowest, median, highest: their scores, "
        "0 to 100"
    )
    yield "not scored: enrollments and calls that were refused, with the reason"
    total = sum(len(row.strangers) for row in report.rows)
    reached = sum(row.strangers_at(ACCEPTED) for row in report.rows)
    share = f" ({reached / total:.2%})" if total else ""
    yield f"{reached} of {total:,} comparisons of strangers reach {ACCEPTED}{share}"
    if report.unreadable:
        yield f"{report.unreadable} recordings could not be read"
