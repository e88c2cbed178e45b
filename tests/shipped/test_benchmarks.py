"""Every part of the benchmarks, and every script beside them, runs to its end."""

from __future__ import annotations

import json
import math
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from smoke import REPOSITORY, ran, runs

sys.path.append(str(REPOSITORY / "bench"))

import peer
import run
from environments import ready
from sonant.voice.models.packaged import packaged_encoder_ids

pytestmark = pytest.mark.usefixtures("voices")


def measured(part: str, folder: Path, *options: str) -> dict[str, Any]:
    """What a part writes down: its ratios are numbers."""
    results = folder / "results.json"
    ran("bench/run.py", "--size", "tiny", "--only", part, "--results", results, *options)
    found: dict[str, Any] = json.loads(results.read_text("utf-8"))["parts"][part]
    for ratio in found["ratios"]:
        assert ratio["part"] == part
        assert math.isfinite(ratio["value"])
    return found


@runs("bench/run.py")
@pytest.mark.parametrize("part", run.PARTS)
def test_benchmark_part_measures_sonant(part: str, tmp_path: Path) -> None:
    assert measured(part, tmp_path, "--no-peers")["details"]


@runs("bench/run.py")
@pytest.mark.parametrize("part", ["describe", "search"])
def test_benchmark_part_measures_compared_programs(part: str, tmp_path: Path) -> None:
    assert measured(part, tmp_path)["ratios"]


def with_pytorch() -> None:
    """Skip unless somebody had PyTorch installed to compare with, which takes gigabytes."""
    if not ready("peer-venv", *peer.REQUIREMENTS):
        pytest.skip("no environment with resemblyzer and PyTorch; `python bench/run.py` makes one")


@runs("bench/run.py")
@pytest.mark.parametrize("part", ["enrollment", "speech_cpu"])
def test_benchmark_part_measures_the_reference_implementation(part: str, tmp_path: Path) -> None:
    with_pytorch()
    assert any("resemblyzer" in ratio["name"] for ratio in measured(part, tmp_path)["ratios"])


@runs("bench/encoders.py")
def test_cost_of_each_encoder_is_measured() -> None:
    lines = ran("bench/encoders.py", "--speech-s", 2, "--rounds", 1).splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(packaged_encoder_ids())


@runs("bench/console.py")
def test_pages_of_the_console_are_measured() -> None:
    printed = ran("bench/console.py", "--speakers", 200, "--calls", 500, "--rounds", 1)
    assert "/speakers" in printed


@runs("bench/accuracy.py")
def test_accuracy_script_measures_telephone_voices(tmp_path: Path) -> None:
    results = tmp_path / "accuracy.json"
    assert "EER" in ran("bench/accuracy.py", "--size", "tiny", "--no-peers", "--results", results)
    assert json.loads(results.read_text("utf-8"))


@runs("bench/accuracy.py")
def test_accuracy_script_compares_with_the_reference_implementation(tmp_path: Path) -> None:
    with_pytorch()
    assert peer.REQUIREMENTS
    printed = ran("bench/accuracy.py", "--size", "tiny", "--results", tmp_path / "accuracy.json")
    assert "sonant / resemblyzer" in printed


@runs("bench/engine_ceiling.py")
@pytest.mark.parametrize("kind", ["sqlite-local", "postgresql-local", "postgresql-ray"])
def test_runner_commits_instant_results(kind: str, tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    ran("bench/engine_ceiling.py", "--size", "tiny", "--workers", 1, "--only", kind, "--json", written)
    figures = json.loads(written.read_text("utf-8"))[kind]
    if isinstance(figures, str):
        pytest.skip(figures)
    assert figures["entries_per_s"] > 0


@runs("bench/two_workers.py")
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_two_workers_are_compared_with_one(engine: str, tmp_path: Path) -> None:
    if engine == "ray" and find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install -e .[ray]")
    written = tmp_path / "figures.json"
    ran("bench/two_workers.py", "--size", "tiny", "--only", engine, "--json", written)
    figures = json.loads(written.read_text("utf-8"))[engine]
    if isinstance(figures, str):
        pytest.skip(figures)
    assert set(figures["seconds"]) == {"1", "2"}


@runs("bench/attack.py")
def test_attack_script_measures_honest_calls(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    ran("bench/attack.py", "--size", "tiny", "--json", written)
    figures = json.loads(written.read_text("utf-8"))
    for when in ("without_attack", "under_attack"):
        assert figures[when]["calls"] >= 8
        assert figures[when]["failed"] == 0


@runs("bench/postgres.py")
def test_postgresql_script_measures_many_speakers(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    ran("bench/postgres.py", "--size", "tiny", "--json", written, fault="no PostgreSQL")
    assert json.loads(written.read_text("utf-8"))["large_to_small"]


@runs("bench/live.py", "bench/streams.py")
@pytest.mark.parametrize(
    ("script", "says"), [("live", "hearings equal to batch"), ("streams", "known_result")]
)
def test_live_scripts_measure_calls(script: str, says: str) -> None:
    assert says in ran(f"bench/{script}.py", "--size", "tiny")
