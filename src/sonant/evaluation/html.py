"""Write reports as one HTML page: no scripts, nothing fetched, light and dark, printable.

The style of every report of Sonant lies here. Text from outside must be escaped by the caller where a
parameter is said to be HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5b6675; --grid: #d5dae1;
  --paper: #fff; --card: #f7f8fa; --bad: #c0392b; --good: #2e7d4f; --warn: #8a5600; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --soft: #9aa6b5; --grid: #3b4552; --paper: #14181d; --card: #1c2229;
    --bad: #ff8a7a; --good: #7ed6a0; --warn: #f0b95a; }
}
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 78rem; padding: 0 1.25rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { max-width: 56rem; }
.soft, figcaption, th, small { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; vertical-align: top; }
th { vertical-align: bottom; font-weight: 500; border-bottom: 1px solid var(--grid); }
tr.row td, tbody.group { border-bottom: 1px solid var(--grid); }
tr.row td { white-space: nowrap; }
tr.row td:first-child { white-space: normal; min-width: 11rem; }
tr.row td small { display: block; line-height: 1.2; }
tr.head td { background: var(--card); }
tr.note td { padding-top: 0; }
tr.note ul { margin: .2rem 0; padding-left: 1.2rem; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.name { overflow-wrap: anywhere; min-width: 12rem; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.warn { color: var(--warn); }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; padding: 0; list-style: none; }
.figures li { background: var(--card); border: 1px solid var(--grid); border-radius: .5rem;
  padding: .5rem .9rem; margin: 0; min-width: 7rem; }
.figures b { display: block; font-size: 1.5rem; font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); gap: 1rem; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .9rem; background: var(--card); border: 1px solid var(--grid);
  border-radius: .5rem; break-inside: avoid; }
figcaption { font-size: .9rem; margin-bottom: .4rem; }
figcaption b { color: var(--ink); font-weight: 600; }
figure svg { width: 100%; height: auto; max-width: 34rem; display: block; margin: auto; }
li { max-width: 60rem; margin: .25rem 0; }
fieldset { border: 0; margin: 1rem 0; padding: 0; }
legend { float: left; margin-right: .75rem; color: var(--soft); }
label { margin-right: .9rem; }
body:has(#show-fail:checked) tbody.group:not(.fail),
body:has(#show-warned:checked) tbody.group:not(.warned),
body:has(#show-pass:checked) tbody.group:not(.pass) { display: none; }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --grid: #bbb; --paper: #fff; --card: #fff;
    --bad: #a02a1f; --good: #1f6039; --warn: #7a4d00; }
  body { margin: 0; max-width: none; padding: 0; font-size: 10pt; }
  .wide { overflow: visible; }
  fieldset { display: none; }
  thead { display: table-header-group; }
  tbody.group, tr, figure { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""

PAGE_END = "</main></body></html>\n"
"""The end of every page."""


def page_start(title: str, introduction: str) -> str:
    """Write the start of a page up to its introduction, a sentence below the title."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="soft">{escape(introduction)}</p>\n'
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; headings are text, cells HTML."""
    body = "".join(f'<tr class="row">{"".join(f"<td>{cell}</td>" for cell in row)}</tr>' for row in rows)
    return f"{table_start([('', name) for name in headings])}<tbody>{body}</tbody>{TABLE_END}"


def table_start(headings: Sequence[tuple[str, str]]) -> str:
    """Write the start of a table whose bodies follow; headings are (CSS class, text)."""
    head = "".join(f'<th scope="col" class="{kind}">{escape(name)}</th>' for kind, name in headings)
    # What scrolls must be reached by the keyboard.
    region = '<div class="wide" role="group" aria-label="Table" tabindex="0">'
    return f"{region}<table><thead><tr>{head}</tr></thead>"


TABLE_END = "</table></div>"
"""The end of a table that `table_start` began."""


def key_figures(figures: Iterable[tuple[str, str, str]]) -> str:
    """Write large numbers in boxes: (CSS class, number, label), all text."""
    items = "".join(
        f'<li><b class="{kind}">{escape(number)}</b>{escape(label)}</li>' for kind, number, label in figures
    )
    return f'<ul class="figures">{items}</ul>'


def figure(title: str, caption: str, svg: str) -> str:
    """Write a drawing with its caption, which is also its name for screen readers; `svg` is markup."""
    named = f'<svg role="img" aria-label="{escape(f"{title}: {caption}")}"'
    svg = svg.replace("<svg", named, 1)
    return f"<figure><figcaption><b>{escape(title)}</b>: {escape(caption)}</figcaption>{svg}</figure>"


def choice(legend: str, options: Iterable[tuple[str, str]]) -> str:
    """Write a choice of what a table shows, which the style carries out: (id of the style, label)."""
    buttons = "".join(
        f'<label><input type="radio" name="show" id="{escape(name)}"{"" if number else " checked"}> '
        f"{escape(label)}</label>"
        for number, (name, label) in enumerate(options)
    )
    return f"<form><fieldset><legend>{escape(legend)}</legend>{buttons}</fieldset></form>"


def bullets(items: Iterable[str]) -> str:
    """Write a list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
