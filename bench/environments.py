"""Virtual environments for what Sonant is compared with; made once, kept in the cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from report import CACHE


def environment(name: str, *steps: Sequence[str]) -> Path:
    """The Python of the environment `name`, in which each step was run as `pip install <step>`.

    Made anew when a step changes or an earlier attempt was cut short. Raises CalledProcessError.
    """
    folder = CACHE / name
    python = folder / "bin" / "python"
    if ready(name, *steps):
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    for step in steps:
        pip_install(python, *step)
    (folder / "ready").write_text(_stamp(steps))
    return python


def ready(name: str, *steps: Sequence[str]) -> bool:
    """Whether the environment `name` is there, made by these steps."""
    stamp = CACHE / name / "ready"
    return stamp.is_file() and stamp.read_text() == _stamp(steps)


def _stamp(steps: Sequence[Sequence[str]]) -> str:
    return hashlib.sha256(repr((sys.version, tuple(steps))).encode()).hexdigest()


def pip_install(python: Path, *arguments: str) -> None:
    subprocess.run(
        [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments], check=True
    )
