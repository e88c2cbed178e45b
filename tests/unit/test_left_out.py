"""The end of a test run tells what was left out, with and without several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

TESTS = Path(__file__).parents[1]
SUITE = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_skipped(number):
    pytest.skip("no browser:\\n  apt install chromium")

@pytest.mark.slow
def test_slow():
    pass

def test_named_otherwise():
    pass

def test_run():
    pass
"""
#: Loading every plugin that is installed takes longer than these tests.
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
MODULE = "import pytest\npytest.skip('a whole module', allow_module_level=True)\n"


def run(folder: Path, processes: int, must_run: str = "", **files: str) -> tuple[int, list[str]]:
    """(exit code, lines of the section `left out`) of a run of these test files."""
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow: takes long\n")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "left_out", "-n", str(processes),
         "-m", "not slow", "-k", "not otherwise", folder],
        env={**kept, "PYTHONPATH": str(TESTS / "support"), "SONANT_TESTS_MUST_RUN": must_run, **ALONE},
        capture_output=True, text=True, timeout=PATIENCE_S, cwd=folder, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    begin = next(place for place, line in enumerate(lines) if line.strip("= ") == "left out")
    return done.returncode, [line.strip() for line in lines[begin + 1 : -1] if line]


@pytest.mark.parametrize("processes", [0, 2])
def test_skips_are_grouped_by_reason_and_unselected_tests_counted(tmp_path: Path, processes: int) -> None:
    code, told = run(tmp_path, processes, suite=SUITE, module=MODULE)
    assert code == 0
    assert told == [
        "3  no browser: apt install chromium",
        "1  a whole module",
        "1  not selected on the command line",
        "1  slow: run them with `make test-all`",
    ]


@pytest.mark.parametrize("processes", [0, 2])
def test_a_skip_fails_a_run_that_must_leave_nothing_out(tmp_path: Path, processes: int) -> None:
    code, told = run(tmp_path, processes, must_run="1", suite=SUITE)
    assert code == 1
    assert told[-1] == "Skipped tests fail this run, because SONANT_TESTS_MUST_RUN is set."


@pytest.mark.parametrize("processes", [0, 2])
def test_a_run_that_left_nothing_out_says_so(tmp_path: Path, processes: int) -> None:
    code, told = run(tmp_path, processes, must_run="1", suite="def test_run(): pass\n")
    assert code == 0
    assert told == ["Nothing was left out: every selected test could run here."]
