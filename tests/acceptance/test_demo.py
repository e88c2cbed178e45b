"""The demo on a system whose package sources lack the synthesizer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from debian_source import debian_source, needs_apt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), needs_apt]
REASON = "this system's package sources give none of the packages"


@pytest.mark.parametrize(("options", "code"), [((), 1), (("--allow-missing",), 0)])
def test_a_demo_without_its_synthesizer_shows_the_rest_and_says_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    voices: dict[str, list[Path]],
    options: tuple[str, ...],
    code: int,
) -> None:
    debian_source(tmp_path, monkeypatch).carry("stranger", "1.0")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "speech").symlink_to(next(iter(voices.values()))[0].parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "sonant", "demo", "--quiet", "--cache", cache / "speech", *options],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Every call was decided as it should be." in done.stdout
    assert f"Not shown:\na synthesised voice that enrolls and calls, because {REASON}" in done.stdout
    assert ("--allow-missing" in done.stderr) == (code != 0)
