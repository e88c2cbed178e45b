"""Programs of Debian packages for tests: the installed ones, else fetched into the cache, without root."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from sonant.commands import debian
from sonant.errors import SetupError

CACHE = Path(__file__).parents[1] / ".cache" / "programs"


def root_of(packages: set[str]) -> Path:
    """The folder below which the packages' files lie. Raises SetupError that says why they cannot be had.

    Programs there run with this system's libraries, and with what the packages need beyond those.
    """
    if _installed(packages):
        return Path("/")
    CACHE.mkdir(parents=True, exist_ok=True)
    tree = CACHE / "-".join(sorted(packages))
    with debian.locked(CACHE / "lock", print):
        if not tree.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                files = debian.download(Path(folder, "apt"), packages, print, with_needed=True)
                if not packages <= files.keys():
                    absent = ", ".join(sorted(packages - files.keys()))
                    raise SetupError(f"this system's package sources do not carry {absent}")
                for file in files.values():
                    done = debian.run(
                        ["dpkg-deb", "-x", file, Path(folder, "tree")], CACHE, debian.LOCAL_LIMIT_S
                    )
                    if done.returncode != 0:
                        raise SetupError(f"{file.name} cannot be unpacked ({debian.complaint(done)})")
                Path(folder, "tree").rename(tree)
    return tree


def libraries(root: Path) -> str:
    """LD_LIBRARY_PATH for programs below a root of our own; empty for the system's."""
    return "" if root == Path("/") else ":".join(map(str, sorted((root / "usr/lib").glob("*-linux-gnu*"))))


def _installed(packages: set[str]) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    asked = ["dpkg-query", "-W", "-f", "${db:Status-Status}\n", *packages]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.returncode == 0 and set(done.stdout.split()) == {"installed"}
