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
    stamp = folder / "ready"
    wanted = hashlib.sha256(repr((sys.version, steps)).encode()).hexdigest()
    python = folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    for step in steps:
        pip_install(python, *step)
    stamp.write_text(wanted)
    return python


def pip_install(python: Path, *arguments: str) -> None:
    subprocess.run(
        [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments], check=True
    )
