"""Figures of the documents: a command stands beside each table, and what writes them finds its places."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from documents import DOCUMENTS, REPOSITORY

sys.path.append(str(REPOSITORY / "bench"))

import doc_tables
import report
import run
import streams
from report import Outcome, Ratio, Size

MEASURED = re.compile(r"\d\s?(%|ms|s|MB|MiB|kB)\b|\d+ of \d+|\d requests?/s")
COMMAND = re.compile(
    r"(sonant evaluate|bench/\w+|tools/\w+|validate|measure|train)(\.py)?\b|make bench|part `\w+`"
)
#: Sections whose figures are set or reckoned.
RECKONED = {
    "terms and definitions", "lines", "a million enrollments",
    "100 million speakers and 10,000 calls at once",
}  # fmt: skip
#: Sections whose figures were measured once, and no script is there to repeat them.
ONCE = {"the detectors", "replays"}
PAGES = ("README.md", "accuracy.md", "benchmarks.md", "calibration.md", "sizing.md", "spoofing.md")


def tables(document: Path) -> Iterator[tuple[int, str]]:
    """Line of each table of measured figures, and its section from the heading to the table's end."""
    section: list[str] = []
    lines = [*document.read_text("utf-8").splitlines(), ""]
    for number, line in enumerate(lines):
        section = [line] if re.match(r"#{1,3} ", line) else [*section, line]
        if line.startswith("|") and not lines[number + 1].startswith("|"):
            begin = max(place for place, one in enumerate(section) if not one.startswith("|"))
            if MEASURED.search("\n".join(section[begin:])):
                yield number + 1, "\n".join(section)


TABLES = [
    pytest.param(section, id=f"{document.relative_to(REPOSITORY)}:{line}")
    for document in DOCUMENTS
    if document.name in PAGES
    for line, section in tables(document)
]


@pytest.mark.parametrize("section", TABLES)
def test_table_of_figures_names_its_command(section: str) -> None:
    heading = section.splitlines()[0].lstrip("# ").lower()
    assert COMMAND.search(section) or heading in RECKONED | ONCE


# --- what the benchmarks write


def results(folder: Path) -> dict[str, Any]:
    """Made ones of all parts."""
    figures = streams.Figures(
        calls=50, authentication=[95.0, 150.0, 224.0, 300.0], fraud=[118.0, 191.0, 234.0, 300.0],
        known_result=[5.2, 9.0, 13.0, 20.0], write=[8.0, 20.0, 40.0, 60.0],
        loop_lag=[0.9, 2.9, 5.1, 8.0], failed=0, failures=[], missing=0,
        right=50, low_risk=50, net_speech_s=(29.0, 31.0), service_cores=0.26,
    )  # fmt: skip
    outcomes = {
        part: Outcome(
            ratios=[
                Ratio(
                    part=part, name="this / that", ours=2.0, theirs=1.0, unit="MB", target=1.0, at_least=True,
                    note=f"of {part}",
                )
            ],
            details={"50": asdict(figures)} if part == "streams" else {},
        )
        for part in run.PARTS
    }  # fmt: skip
    before = {**report.machine(), "load_average": [0.1, 0.1, 0.1]}
    return report.write(folder / "results.json", outcomes, Size.FULL, peers=True, before=before)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/benchmarks.md"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    return tmp_path


def test_benchmark_run_changes_only_its_tables(copied: Path) -> None:
    found = results(copied)
    doc_tables.write(found, root=copied)
    page, readme = ((copied / name).read_text("utf-8") for name in ("docs/benchmarks.md", "README.md"))
    for part in run.PARTS:
        assert f"| {part}: this / that | 2 MB | 1 MB | 2.00 | >= 1 | holds |" in page
        assert f"- {part}, this / that: of {part}." in page
    assert "| 50 | 95 / 150 / 224 | 118 / 191 / 234 | 5.2 / 9 / 13 | 0.9 / 2.9 / 5.1 | 50 |" in page
    assert "| 50 | 150 ms | 191 ms | 9 ms | 5.1 ms | 50 |" in readme
    for name, text in (("docs/benchmarks.md", page), ("README.md", readme)):
        assert outside(text) == outside((REPOSITORY / name).read_text("utf-8"))
    doc_tables.write(found, root=copied)
    assert (copied / "docs/benchmarks.md").read_text("utf-8") == page


def outside(text: str) -> str:
    return re.sub(r"(<!-- figures: \w+ -->).*?(<!-- end of figures -->)", r"\1\2", text, flags=re.DOTALL)


def test_document_without_a_place_for_figures_is_refused(copied: Path) -> None:
    (copied / "README.md").write_text("nothing\n", "utf-8")
    with pytest.raises(LookupError, match=r"README\.md has no one place for the figures streams"):
        doc_tables.put("README.md", "streams", "a table", root=copied)


def test_repeated_part_keeps_results_of_the_others(tmp_path: Path) -> None:
    first = results(tmp_path)
    again = {"vad": Outcome(ratios=[], details={"new": True})}
    found = report.write(
        tmp_path / "results.json", again, Size.TINY, peers=False, before=first["parts"]["vad"]["machine"]
    )
    assert found["parts"]["vad"]["details"] == {"new": True}
    assert found["parts"]["wire"] == first["parts"]["wire"]
    assert [part for part in run.PARTS if not run.is_full(found["parts"][part])] == ["vad"]
