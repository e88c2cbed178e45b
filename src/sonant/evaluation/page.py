"""Write the report of an evaluation as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sonant.evaluation import html, plots
from sonant.evaluation.figures import NAMES, NOT_CALIBRATED, THRESHOLDS, Result
from sonant.evaluation.report import (
    COUNTS,
    ORDER,
    Report,
    calibrated,
    condition,
    counts,
    heading,
    notes,
    show,
)


def as_html(report: Report) -> str:
    """Write the whole page. Raises SetupError without matplotlib."""
    plots.need_matplotlib()
    parts = [
        html.page_start("Error rates of Sonant", heading(report)),
        "<h2>Errors of comparisons</h2>",
        _table(report.results, ORDER),
    ]
    if calibrated(report):
        names = [name for limit in THRESHOLDS for name in (f"far_{limit}", f"frr_{limit}")]
        parts += ["<h2>Errors at a threshold on the score</h2>", _table(report.results, names)]
    if any(result.figures["cllr"].unsupported_reason != NOT_CALIBRATED for result in report.results):
        parts += ["<h2>Calibration</h2>", _table(report.results, ("cllr", "min_cllr", "calibration_loss"))]
    whole = [result for result in report.results if result.group == "all"]
    parts += ["<h2>Trade-off</h2>", '<div class="plots">']
    for name in dict.fromkeys(result.outcome.line.name for result in whole):
        own = [result for result in whole if result.outcome.line.name == name]
        parts.append(
            html.figure(
                name,
                "a dot marks the EER; nearer to the lower left is better",
                plots.det_plot(own, [_lengths(result) for result in own]),
            )
        )
    parts += ["</div>", "<h2>Scores</h2>", '<div class="pairs">']
    for result in whole:
        parts.append(
            html.figure(condition(result.outcome), "distribution of the scores", plots.histogram(result))
        )
        caption = (
            "false accepts promised and measured"
            if result.outcome.score is not None
            else "errors at a threshold"
        )
        parts.append(html.figure(condition(result.outcome), caption, plots.calibration_plot(result)))
    parts += [
        "</div>",
        "<h2>Evidence</h2>",
        html.table(COUNTS, ([escape(cell) for cell in counts(result)] for result in report.results)),
        html.bullets(notes(report)),
        html.PAGE_END,
    ]
    return "\n".join(parts)


def _table(results: Sequence[Result], names: Sequence[str]) -> str:
    return html.table(
        ["condition", "group", *(NAMES[name] for name in names)],
        (
            [
                escape(condition(result.outcome)),
                escape(result.group),
                *(_cell(show(name, result.figures[name])) for name in names),
            ]
            for result in results
        ),
    )


def _cell(text: str) -> str:
    value, bracket, interval = escape(text).partition(" (")
    return f"{value} <small>({interval}</small>" if bracket else value


def _lengths(result: Result) -> str:
    return condition(result.outcome).removeprefix(f"{result.outcome.line.name}, ")
