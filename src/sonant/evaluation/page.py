"""The report as one HTML file: no scripts, nothing fetched, light and dark, printable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from sonant.evaluation import plots
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

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5b6675; --grid: #d5dae1;
  --paper: #fff; --card: #f7f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --soft: #9aa6b5; --grid: #3b4552; --paper: #14181d; --card: #1c2229; }
}
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1.25rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { max-width: 56rem; }
.soft, figcaption, th { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--grid);
  vertical-align: top; white-space: nowrap; }
th { vertical-align: bottom; }
th { font-weight: 500; }
th, td:first-child { white-space: normal; }
td:first-child { min-width: 11rem; }
td small { color: var(--soft); display: block; line-height: 1.2; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); gap: 1rem; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .9rem; background: var(--card); border: 1px solid var(--grid);
  border-radius: .5rem; break-inside: avoid; }
figcaption { font-size: .9rem; margin-bottom: .4rem; }
figcaption b { color: var(--ink); font-weight: 600; }
figure svg { width: 100%; height: auto; max-width: 34rem; display: block; margin: auto; }
li { max-width: 60rem; margin: .25rem 0; }
"""


def as_html(report: Report) -> str:
    """The whole page. Raises SetupError without matplotlib."""
    plots.need_matplotlib()
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        '<meta http-equiv="Content-Security-Policy"',
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>How often Sonant errs</title><style>{_STYLE}</style></head><body>",
        f'<h1>How often Sonant errs</h1><p class="soft">{escape(heading(report))}</p>',
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
            _figure(
                name,
                "a dot marks the EER; nearer to the lower left is better",
                plots.det_plot(own, [_lengths(result) for result in own]),
            )
        )
    parts += ["</div>", "<h2>Scores</h2>", '<div class="pairs">']
    for result in whole:
        parts.append(_figure(condition(result), "how the scores are spread", plots.histogram(result)))
        caption = (
            "false accepts promised and measured"
            if result.outcome.score is not None
            else ("what a threshold would cost")
        )
        parts.append(_figure(condition(result), caption, plots.calibration_plot(result)))
    parts += [
        "</div>",
        "<h2>What this rests on</h2>",
        _rows(COUNTS, ([escape(cell) for cell in counts(result)] for result in report.results)),
        "<ul>",
        *(f"<li>{escape(note)}</li>" for note in notes(report)),
        "</ul></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _table(results: Sequence[Result], names: Sequence[str]) -> str:
    return _rows(
        ["condition", "group", *(NAMES[name] for name in names)],
        (
            [
                escape(condition(result)),
                escape(result.group),
                *(_cell(show(name, result.figures[name])) for name in names),
            ]
            for result in results
        ),
    )


def _cell(text: str) -> str:
    value, bracket, interval = escape(text).partition(" (")
    return f"{value} <small>({interval}</small>" if bracket else value


def _rows(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(title: str, caption: str, svg: str) -> str:
    return f"<figure><figcaption><b>{escape(title)}</b>: {escape(caption)}</figcaption>{svg}</figure>"


def _lengths(result: Result) -> str:
    return condition(result).removeprefix(f"{result.outcome.line.name}, ")
