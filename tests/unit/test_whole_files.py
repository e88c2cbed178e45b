"""Tests of a file, or of a folder with servers, run in one process; files are spread over all processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from waiting import PATIENCE_S

SUPPORT = Path(__file__).parents[1] / "support"
FILE = """
import os
import pathlib
import pytest

@pytest.mark.parametrize("number", range(6))
def test_one(number):
    with pathlib.Path("{name}.pids").open("a") as pids:
        print(os.getpid(), file=pids)
"""


def test_tests_of_a_file_or_of_a_folder_with_servers_run_in_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "aws"
    folder.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (tmp_path / f"test_{name}.py").write_text(FILE.replace("{name}", name))
    for name in ("d", "e"):
        (folder / f"test_{name}.py").write_text(FILE.replace("{name}", "aws"))
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "whole_files", "-n", "2", "--dist", "loadgroup"]
    done = subprocess.run(
        [*command, "-q", "-o", f"pythonpath={SUPPORT}", f"--rootdir={tmp_path}"],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": os.pathsep.join([str(SUPPORT), kept.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "30 passed" in done.stdout, done.stdout + done.stderr
    ran = {file.stem: file.read_text().split() for file in tmp_path.glob("*.pids")}
    assert {name: len(pids) for name, pids in ran.items()} == {"a": 6, "b": 6, "c": 6, "aws": 12}
    assert all(len(set(pids)) == 1 for pids in ran.values()), ran
    assert len({pid for pids in ran.values() for pid in pids}) == 2
