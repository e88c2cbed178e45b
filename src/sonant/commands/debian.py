"""Debian packages fetched and unpacked into a folder: no root, nothing of the system changed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sonant.errors import SetupError

UPDATE_LIMIT_S, DOWNLOAD_LIMIT_S, LOCAL_LIMIT_S = 300.0, 900.0, 120.0
_INSTALLED = Path("/var/lib/dpkg/status")

# Own state and cache, so that neither root nor an earlier `apt-get update` is needed and the system's stay as
# they are; package lists only; no hooks of the system. apt's sandbox user could not write into a user's own
# cache folder, so downloads run as the caller. Signatures and hashes are always verified.
_APT_CONF = """\
Dir::State "{work}/state"; Dir::State::lists "{work}/state/lists"; Dir::State::status "{work}/state/status";
Dir::Cache "{work}/cache"; Dir::Cache::archives "{work}/cache/archives";
Dir::Cache::pkgcache "pkgcache.bin"; Dir::Cache::srcpkgcache "";
#clear APT::Update; #clear DPkg;
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false"; APT::Get::Assume-Yes "true"; APT::Update::Error-Mode "";
Acquire::AllowInsecureRepositories "false"; Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none"; Acquire::GzipIndexes "true"; Acquire::Retries "2";
Acquire::http::Timeout "20"; Acquire::https::Timeout "20";
#clear Acquire::IndexTargets;
Acquire::IndexTargets::deb::Packages {{
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages"; flatMetaKey "Packages";
  ShortDescription "Packages"; Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
  flatDescription "$(RELEASE) Packages"; Optional "0"; }};
"""


@contextmanager
def locked(path: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """One process at a time; says so to `progress` when it has to wait."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that fetches packages")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def download(
    work: Path,
    wanted: set[str],
    progress: Callable[[str], None],
    *,
    otherwise: str = "",
    with_needed: bool = False,
) -> dict[str, Path]:
    """Verified package files by package name; those the sources do not carry are absent.

    `work` is an empty folder. With `with_needed`, what the packages depend on comes too, newer versions of
    what this system has among it, and nothing comes that it has already: all may be absent. Raises SetupError
    without apt-get or dpkg-deb, without network, when a download cannot be verified, or when the packages and
    what is installed exclude each other; `otherwise` says what to do in that case.
    """
    absent = [tool for tool in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(tool) is None]
    if absent:
        raise SetupError(
            f"Debian packages are needed, but this system has no {' and no '.join(absent)}. "
            f"Use Debian or Ubuntu. {otherwise}".rstrip()
        )
    for folder in ("state/lists/partial", "cache/archives/partial", "packages"):
        (work / folder).mkdir(parents=True)
    (work / "state/status").touch()  # what is installed here matters to _lacking only
    if set(str(work)) & set('"\n'):
        raise SetupError("the path of the cache folder must not hold quotes or line ends")
    conf = work / "apt.conf"
    conf.write_text(_APT_CONF.format(work=work), "utf-8")
    progress("reading this system's package lists")
    update = run(["apt-get", "-c", conf, "-q", "update"], work, UPDATE_LIMIT_S)
    listed = run(["apt-cache", "-c", conf, "pkgnames"], work, LOCAL_LIMIT_S).stdout.split()
    names = sorted(wanted & set(listed))
    if not names:  # one broken source does not matter, as long as the others carry what is wanted
        raise SetupError(
            "this system's package sources give none of the packages "
            f"({complaint(update, 'apt reports no fault')}). {otherwise}".rstrip()
        )
    if with_needed:
        names = _lacking(work, conf, names, otherwise)
        if not names:
            return {}
    get: list[str | Path] = ["apt-get", "-c", conf, "-q", "download"]
    addresses = run([*get, "--print-uris", *names], work, LOCAL_LIMIT_S).stdout
    size = sum(int(line.rsplit(None, 2)[1]) for line in addresses.splitlines() if line.startswith("'"))
    progress(f"downloading {len(names)} packages, {size / 1e6:.0f} MB")
    done = run([*get, *names], work / "packages", DOWNLOAD_LIMIT_S)
    files = {name: sorted((work / "packages").glob(f"{name}_*.deb")) for name in names}
    if done.returncode != 0 or not all(files.values()):
        raise SetupError(f"the packages cannot be downloaded ({complaint(done)}). {otherwise}".rstrip())
    return {name: found[0] for name, found in files.items()}


def _lacking(work: Path, conf: Path, names: list[str], otherwise: str) -> list[str]:
    """What apt would install or bring up to date for these packages on this system."""
    status = _INSTALLED if _INSTALLED.is_file() else work / "state/status"
    command: list[str | Path] = ["apt-get", "-c", conf, "-o", f"Dir::State::status={status}", "-q"]
    command += ["--simulate", "install", "--no-install-recommends", "--no-remove", *names]
    planned = run(command, work, LOCAL_LIMIT_S)
    if planned.returncode != 0:
        raise SetupError(f"the packages do not fit this system ({complaint(planned)}). {otherwise}".rstrip())
    # "Inst name (version ...)", for an upgrade "Inst name [installed version] (version ...)"
    return sorted({line.split()[1] for line in planned.stdout.splitlines() if line.startswith("Inst ")})


def unpack(package: Path, tree: Path) -> None:
    """Put a package's files below `tree`. Raises SetupError."""
    done = run(["dpkg-deb", "-x", package, tree], package.parent, LOCAL_LIMIT_S)
    if done.returncode != 0:
        raise SetupError(f"{package.name} cannot be unpacked ({complaint(done)})")


def run(
    command: Sequence[str | Path], folder: Path, limit_s: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, without input. Raises SetupError when it takes longer than `limit_s`."""
    try:
        return subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit_s,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"{command[0]} did not end within {limit_s:.0f} s") from None


def complaint(done: subprocess.CompletedProcess[str], otherwise: str = "no reason given") -> str:
    """The tool's own first complaint, for an error message; without passwords, which sources may hold."""
    complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:", "dpkg"))]
    return re.sub(r"//[^/@\s]*@", "//", (complaints or [otherwise])[0])[:300]
