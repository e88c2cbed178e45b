"""Nothing in bench and tools is left without a test that runs it."""

from __future__ import annotations

import test_benchmarks
import test_tools
from smoke import RUNS, modules, reached, scripts

assert test_benchmarks and test_tools, "imported for the runs that they name"


def test_every_script_has_a_test_that_runs_it() -> None:
    assert scripts() - set(RUNS) == set()


def test_every_run_is_of_a_script_that_is_there() -> None:
    assert set(RUNS) - scripts() == set()


def test_every_other_module_is_used_by_a_script() -> None:
    assert set(modules()) - reached(set(RUNS)) == set()


def test_every_run_is_a_slow_test() -> None:
    for script, test in RUNS.items():
        assert "slow" in {mark.name for mark in getattr(test, "pytestmark", [])}, script
