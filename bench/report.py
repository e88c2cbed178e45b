"""How much a benchmark measures, what it hands back, and the tables made of that."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "bench"
"""Everything that the benchmarks make lies here."""
SPEECH = Path(os.environ.get("SONANT_SPEECH_CACHE") or ROOT / ".cache" / "speech")


T = TypeVar("T")


class Size(StrEnum):
    """How much is measured."""

    FULL = "full"
    """What the documentation's figures come from."""
    QUICK = "quick"
    """Rougher figures in a minute or two."""
    TINY = "tiny"
    """Only whether it runs: the figures mean nothing and are held against no target."""

    def pick(self, full: T, quick: T, tiny: T) -> T:
        return {Size.FULL: full, Size.QUICK: quick, Size.TINY: tiny}[self]


def add_size(parser: argparse.ArgumentParser) -> None:
    """The option that all benchmarks have."""
    parser.add_argument(
        "--size",
        type=Size,
        choices=list(Size),
        default=Size.FULL,
        help="how much is measured: full, quick (rougher), tiny (only whether it runs) [full]",
    )


def add_peers(parser: argparse.ArgumentParser) -> None:
    """The option of all benchmarks that compare Sonant with programs installed for that."""
    parser.add_argument(
        "--no-peers",
        dest="peers",
        action="store_false",
        help="measure Sonant alone: install no other program and leave out what is compared with one",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One figure: `ours` over `theirs`, both measured in this run, or `theirs` a fixed limit."""

    part: str
    name: str
    """What is divided by what."""
    ours: float
    theirs: float
    unit: str
    """Of `ours` and `theirs`."""
    target: float
    at_least: bool
    """Whether the ratio must be at least the target, else it must lie below it."""
    note: str = ""

    @property
    def value(self) -> float:
        return self.ours / self.theirs

    @property
    def holds(self) -> bool:
        return self.value >= self.target if self.at_least else self.value < self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A part's ratios, and whatever else it measured on the way."""

    ratios: Sequence[Ratio]
    details: dict[str, Any]


def table(ratios: Sequence[Ratio], size: Size) -> str:
    """The ratios as text, one a line."""
    rows = [("part", "ratio", "ours", "against", "value", "target", "verdict")]
    for ratio in ratios:
        rows.append(
            (
                ratio.part,
                ratio.name,
                f"{short(ratio.ours)} {ratio.unit}",
                f"{short(ratio.theirs)} {ratio.unit}",
                f"{ratio.value:.2f}",
                f"{'>=' if ratio.at_least else '<'} {ratio.target:g}",
                verdict(ratio, size),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    notes = [f"  {ratio.name}: {ratio.note}" for ratio in ratios if ratio.note]
    return "\n".join([*(line.rstrip() for line in lines), "", *notes])


def verdict(ratio: Ratio, size: Size) -> str:
    """Whether a ratio holds its target; nothing at a size whose figures mean nothing."""
    return "" if size is Size.TINY or not ratio.target else "holds" if ratio.holds else "MISSED"


def write(
    path: Path, outcomes: Mapping[str, Outcome], size: Size, *, peers: bool, before: Mapping[str, Any]
) -> dict[str, Any]:
    """The same as JSON, with the details; what the file has of other parts stays. What it has then.

    `before` is the machine as it was when the run began.
    """
    try:
        known = json.loads(path.read_text("utf-8"))["parts"]
    except (FileNotFoundError, ValueError, LookupError):  # none, or one of another form
        known = {}
    for part, outcome in outcomes.items():
        known[part] = {
            "machine": before,
            "size": size,
            "peers": peers,
            "ratios": [
                {**asdict(ratio), "value": ratio.value, "holds": ratio.holds} for ratio in outcome.ratios
            ],
            "details": outcome.details,
        }
    document = {"parts": known}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    return document


def machine() -> dict[str, Any]:
    """The machine, as far as it matters to the figures."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
