"""Every script of bench and tools is run by a test."""

from __future__ import annotations

import test_benchmarks
import test_leakage
import test_linkability
import test_tools
from smoke import RUNS, modules, reached, scripts

_NAMING_RUNS = (test_benchmarks, test_leakage, test_linkability, test_tools)


def test_every_script_is_run_by_a_test() -> None:
    assert scripts() - set(RUNS) == set()


def test_every_run_script_exists() -> None:
    assert set(RUNS) - scripts() == set()


def test_every_other_module_is_imported_by_a_script() -> None:
    assert set(modules()) - reached(set(RUNS)) == set()


def test_every_run_of_a_script_is_slow() -> None:
    for script, test in RUNS.items():
        assert "slow" in {mark.name for mark in getattr(test, "pytestmark", [])}, script
