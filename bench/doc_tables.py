"""Writes the tables of figures that stand in the documents, between two comments that name the table.

<!-- figures: NAME -->
...
<!-- end of figures -->
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from report import ROOT, short

_PLACE = r"(<!-- figures: {} -->\n\n).*?(\n\n<!-- end of figures -->)"


def put(document: str, name: str, text: str, *, root: Path = ROOT) -> None:
    """Replace the table `name` of a document. Raises LookupError if it has no such place."""
    path = root / document
    before = path.read_text("utf-8")
    place = re.compile(_PLACE.format(re.escape(name)), re.DOTALL)
    if len(place.findall(before)) != 1:
        raise LookupError(f"{document} has no one place for the figures {name}")
    after = place.sub(lambda found: f"{found[1]}{text.strip()}{found[2]}", before)
    path.write_text(after, "utf-8")


def markdown(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |".replace("|  |", "| |") for line in lines)


def conditions(machine: Mapping[str, Any]) -> str:
    """The machine, for the line above a table."""
    load = machine["load_average"][0]
    return f"{machine['cores']} cores, Python {machine['python']}, load average {load} before"


def write(results: Mapping[str, Any], *, root: Path = ROOT) -> None:
    """The tables that come from all parts of `bench/run.py`, as `report.write` has them."""
    parts = results["parts"]
    ratios = [ratio for part in parts.values() for ratio in part["ratios"]]
    rows = [
        (
            f"{ratio['part']}: {ratio['name']}",
            f"{short(ratio['ours'])} {ratio['unit']}".strip(),
            f"{short(ratio['theirs'])} {ratio['unit']}".strip(),
            f"{ratio['value']:.2f}",
            f"{'>=' if ratio['at_least'] else '<'} {ratio['target']:g}" if ratio["target"] else "",
            ("holds" if ratio["holds"] else "missed") if ratio["target"] else "",
        )
        for ratio in ratios
    ]
    notes = [f"- {ratio['part']}, {ratio['name']}: {ratio['note']}." for ratio in ratios if ratio["note"]]
    table = markdown(["ratio", "Sonant", "against", "value", "target", ""], rows)
    (machine, *others) = {conditions(part["machine"]): None for part in parts.values()}
    told = machine if not others else "; ".join((machine, *others))
    put("docs/benchmarks.md", "ratios", "\n\n".join([f"{told}:", table, "\n".join(notes)]), root=root)

    runs = list(parts["streams"]["details"].values())
    told = conditions(parts["streams"]["machine"])
    put("docs/benchmarks.md", "streams", f"{told}:\n\n{_streams(runs)}", root=root)
    put("README.md", "streams", _streams_short(runs), root=root)


def _streams(runs: Sequence[Mapping[str, Any]]) -> str:
    """Milliseconds as p50 / p95 / p99."""
    heads = ["calls", "authentication", "fraud detection", "known result", "loop's lag at most", "right"]
    rows = [
        (
            run["calls"],
            *(
                " / ".join(f"{value:g}" for value in run[what][:3])
                for what in ("authentication", "fraud", "known_result", "loop_lag")
            ),
            run["right"],
            run["low_risk"],
            run["failed"],
            f"{100 * run['service_cores']:.0f} % of a core",
        )
        for run in runs
    ]
    return markdown([*heads, "low risk", "not carried", "service's process"], rows)


def _streams_short(runs: Sequence[Mapping[str, Any]]) -> str:
    heads = [
        "calls at once",
        "speech complete to authentication, p95",
        "to fraud detection, p95",
        "known EvaluateSession, p95",
        "event loop's lag, p99",
        "right results",
    ]
    rows = [
        (
            run["calls"],
            *(f"{run[what][1]:g} ms" for what in ("authentication", "fraud", "known_result")),
            f"{run['loop_lag'][2]:g} ms",
            run["right"],
        )
        for run in runs
    ]
    return markdown(heads, rows)
