"""Programs of Debian packages for tests: the installed ones, else fetched into the cache, without root."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sonant.demo import debian
from sonant.errors import SetupError

CACHE = Path(__file__).parents[2] / ".cache" / "programs"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def root_of(packages: set[str], suite: str = "") -> Path:
    """The folder below which the packages' files lie. Raises SetupError that says why they cannot be had.

    Programs there run with this system's libraries, and with what the packages need beyond those. A `suite`
    is a Debian release to take the packages from, whatever this system is.
    """
    if suite in ("", _this_release()) and _installed(packages):
        return Path("/")
    CACHE.mkdir(parents=True, exist_ok=True)
    tree = CACHE / "-".join([*sorted(packages), *filter(None, [suite])])
    with debian.locked(CACHE / "lock", print):
        if not tree.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder, _sources(Path(folder), suite):
                files = debian.download(Path(folder, "apt"), packages, print, with_needed=True)
                if installed := packages - files.keys():  # those are installed, or nobody has them
                    files |= debian.download(Path(folder, "installed"), installed, print)
                if not packages <= files.keys():
                    absent = ", ".join(sorted(packages - files.keys()))
                    raise SetupError(f"{suite or 'this system'}'s package sources do not carry {absent}")
                for file in files.values():
                    done = debian.run(
                        ["dpkg-deb", "-x", file, Path(folder, "tree")], CACHE, debian.LOCAL_LIMIT_S
                    )
                    if done.returncode != 0:
                        raise SetupError(f"{file.name} cannot be unpacked ({debian.failure_reason(done)})")
                Path(folder, "tree").rename(tree)
    return tree


def libraries(root: Path) -> str:
    """LD_LIBRARY_PATH for programs below a root of our own; empty for the system's."""
    return "" if root == Path("/") else ":".join(map(str, sorted((root / "usr/lib").glob("*-linux-gnu*"))))


@contextmanager
def _sources(folder: Path, suite: str) -> Iterator[None]:
    """While this lasts, apt takes packages from the suite alone."""
    if not suite:
        yield
        return
    if not KEYRING.is_file():
        raise SetupError(f"without {KEYRING} packages of Debian {suite} cannot be verified")
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
    (folder / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{folder}/sources.list"; Dir::Etc::sourceparts "/dev/null";\n'
    )
    before = os.environ.get("APT_CONFIG")
    os.environ["APT_CONFIG"] = str(folder / "apt.conf")
    try:
        yield
    finally:
        if before is None:
            del os.environ["APT_CONFIG"]
        else:
            os.environ["APT_CONFIG"] = before


def _mirror() -> str:
    """Return the address of Debian's packages in this system's sources. Raises SetupError without one."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    for address in done.stdout.split():
        if address.rstrip("/").endswith("/debian"):
            return address
    raise SetupError("this system's package sources name no mirror of Debian")


def _this_release() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        return ""


def _installed(packages: set[str]) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    asked = ["dpkg-query", "-W", "-f", "${db:Status-Status}\n", *packages]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.returncode == 0 and set(done.stdout.split()) == {"installed"}
