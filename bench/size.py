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
from report import CACHE, ROOT, Outcome, Ratio, Size
from service import data_folder, serving

LIMIT_MB = 250.0
MB = 1_000_000
_INSTALLERS = ("pip", "setuptools", "_distutils_hack", "pkg_resources", "distutils-precedence.pth")


def measure(_size: Size, _peers: bool) -> Outcome:
    """Of any size: there is no smaller one to install."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="size-", dir=CACHE) as folder:
        wheel = _wheel(Path(folder))
        venv = Path(folder) / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip_install(venv / "bin" / "python", "--prefer-binary", str(wheel))
        sizes, bytecode = _sizes(venv)
        answers = _serves(venv / "bin" / "sonant")
        wheel_mb = wheel.stat().st_size / MB
    return Outcome(
        ratios=[
            Ratio(
                part="size",
                name="what the wheel and all it needs unpack to / 250 MB",
                ours=sum(sizes.values()),
                theirs=LIMIT_MB,
                unit="MB",
                target=1.0,
                at_least=False,
                note=f"byte-code that pip makes beside it adds {bytecode:.0f} MB (pip install --no-compile "
                "leaves it out); it serves from an empty environment: GET /health and a signed ListDomains",
            )
        ],
        details={
            "wheel_mb": wheel_mb,
            "bytecode_mb": bytecode,
            "largest_mb": dict(sorted(sizes.items(), key=lambda item: -item[1])[:16]),
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


def _sizes(venv: Path) -> tuple[dict[str, float], float]:
    """(MB that each entry of site-packages was unpacked to, MB of byte-code); no pip, no setuptools."""
    (packages,) = (venv / "lib").glob("python*/site-packages")
    sizes: dict[str, float] = {}
    bytecode = 0.0
    for path in packages.rglob("*"):
        top = path.relative_to(packages).parts[0]
        if not path.is_file() or top in _INSTALLERS or top.startswith(("pip-", "setuptools-")):
            continue
        if path.suffix == ".pyc":
            bytecode += path.stat().st_size / MB
        else:
            sizes[top] = sizes.get(top, 0.0) + path.stat().st_size / MB
    return sizes, bytecode


def _serves(command: Path) -> dict[str, Any]:
    """What the installed service answers. Raises if it does not."""
    with data_folder() as data, serving(data, command=command) as service:
        with urllib.request.urlopen(f"{service.url}/health", timeout=10) as answer:
            health = json.load(answer)
        domains = service.client().list_domains()["DomainSummaries"]
        if health != {"status": "ok"} or domains != []:
            raise RuntimeError(f"unexpected answers: {health}, {domains}")
        return {"health": health, "domains": domains}
