"""Part `size`: the wheel installed into an empty environment without extras: how large, and does it serve."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from environments import pip_install
from report import CACHE, ROOT, Outcome, Ratio
from service import data_folder, serving

LIMIT_MIB = 250.0
MIB = 1024 * 1024
_INSTALLERS = ("pip", "setuptools", "_distutils_hack", "pkg_resources", "distutils-precedence.pth")


def measure(*, quick: bool) -> Outcome:
    del quick  # there is no smaller size to install
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="size-", dir=CACHE) as folder:
        wheel = _wheel(Path(folder))
        venv = Path(folder) / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip_install(venv / "bin" / "python", "--prefer-binary", str(wheel))
        sizes = _sizes(venv)
        answers = _serves(venv / "bin" / "sonant")
        wheel_mib = wheel.stat().st_size / MIB
    return Outcome(
        ratios=[
            Ratio(
                part="size",
                name="installed size of the wheel with all it needs / 250 MiB",
                ours=sum(sizes.values()),
                theirs=LIMIT_MIB,
                unit="MiB",
                target=1.0,
                at_least=False,
                note="serves from an empty environment: GET /health and a signed ListDomains answered",
            )
        ],
        details={
            "wheel_mib": wheel_mib,
            "largest_mib": dict(sorted(sizes.items(), key=lambda item: -item[1])[:16]),
            "answers": answers,
        },
    )


def _wheel(folder: Path) -> Path:
    """The wheel of this source tree."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "-qq", "--disable-pip-version-check", "--no-deps"),
            *("--wheel-dir", str(folder), str(source)),
        ],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def _sizes(venv: Path) -> dict[str, float]:
    """MiB on disk of everything in site-packages, compiled as pip leaves it; pip and setuptools left out."""
    (packages,) = (venv / "lib").glob("python*/site-packages")
    sizes = {}
    for entry in packages.iterdir():
        if entry.name in _INSTALLERS or entry.name.startswith(("pip-", "setuptools-")):
            continue
        files = [path for path in entry.rglob("*") if path.is_file()] if entry.is_dir() else [entry]
        sizes[entry.name] = sum(path.stat().st_blocks * 512 for path in files) / MIB
    return sizes


def _serves(command: Path) -> dict[str, Any]:
    """What the installed service answers. Raises if it does not."""
    with data_folder() as data, serving(data, command=command) as service:
        with urllib.request.urlopen(f"{service.url}/health", timeout=10) as answer:
            health = json.load(answer)
        domains = service.client().list_domains()["DomainSummaries"]
        if health != {"status": "ok"} or domains != []:
            raise RuntimeError(f"unexpected answers: {health}, {domains}")
        return {"health": health, "domains": domains}
