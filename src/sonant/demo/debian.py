"""Download of Debian packages into a folder: without root, and without changes to the system."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sonant.errors import SetupError

UPDATE_LIMIT_S, DOWNLOAD_LIMIT_S, LOCAL_LIMIT_S = 300.0, 900.0, 120.0
INSTALLED = Path("/var/lib/dpkg/status")
_SET_IDS = stat.S_ISUID | stat.S_ISGID
_LAST_LINES, _COMPLAINT_CHARACTERS = 3, 300

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
    """Hold a lock file; `progress` gets a line when another process has it."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that fetches packages")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Closures:
    """Packages with everything that they depend on, by the names of the wanted groups."""

    files: Mapping[str, Sequence[Path]]
    """Package files of each group that is available."""
    missing: Mapping[str, str]
    """The reason why each of the others is not available."""


def download(
    work: Path,
    wanted: set[str],
    progress: Callable[[str], None],
    *,
    otherwise: str = "",
    with_needed: bool = False,
) -> dict[str, Path]:
    """Download verified packages: files by package name; those the sources do not carry are absent.

    `work` is an empty folder. With `with_needed`, their dependencies are downloaded as well, unless this
    system has them in a sufficient version, and so may be none at all. Raises SetupError
    without apt-get or dpkg-deb, without network, when a download cannot be verified, or when the packages and
    what is installed exclude each other; `otherwise` says what to do in that case.
    """
    conf, listed = _read_lists(work, wanted, progress, otherwise)
    names = sorted(wanted & listed)
    if with_needed:
        status = INSTALLED if INSTALLED.is_file() else work / "state/status"
        planned = _plan(work, conf, names, status)
        if planned.returncode != 0:
            raise SetupError(
                f"the packages do not fit this system ({failure_reason(planned)}). {otherwise}".rstrip()
            )
        names = _planned(planned.stdout)
    return _download(work, conf, names, progress, otherwise)


def download_closures(
    work: Path, groups: Mapping[str, Sequence[str]], progress: Callable[[str], None], *, otherwise: str = ""
) -> Closures:
    """Download verified packages and all they depend on, down to the C library.

    Installed packages do not matter, so that a tree of these files runs wherever the kernel can (see
    `command`). `work` is an empty folder. Raises SetupError without apt-get or dpkg-deb, without network, or
    when a download cannot be verified; `otherwise` says what to do in that case.
    """
    wanted = {package for packages in groups.values() for package in packages}
    conf, listed = _read_lists(work, wanted, progress, otherwise)
    closures: dict[str, list[str]] = {}
    missing: dict[str, str] = {}
    for group, packages in groups.items():
        absent = sorted(set(packages) - listed)
        if absent:
            missing[group] = f"this system's package sources have no {' and no '.join(absent)}"
            continue
        planned = _plan(work, conf, packages, work / "state/status")
        if planned.returncode == 0:
            closures[group] = _planned(planned.stdout)
        else:
            missing[group] = (
                f"this system's package sources do not give all it needs ({failure_reason(planned)})"
            )
    names = sorted({name for closure in closures.values() for name in closure})
    files = _download(work, conf, names, progress, otherwise)
    return Closures(
        files={group: [files[name] for name in closure] for group, closure in closures.items()},
        missing=missing,
    )


def _read_lists(
    work: Path, wanted: set[str], progress: Callable[[str], None], otherwise: str
) -> tuple[Path, set[str]]:
    """Fetch the package lists into `work`: (apt's configuration, names of all packages).

    Raises SetupError when the sources carry nothing that is wanted.
    """
    absent = [tool for tool in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(tool) is None]
    if absent:
        raise SetupError(
            f"Debian packages are needed, but this system has no {' and no '.join(absent)}. "
            f"Use Debian or Ubuntu. {otherwise}".rstrip()
        )
    for folder in ("state/lists/partial", "cache/archives/partial", "packages"):
        (work / folder).mkdir(parents=True)
    (work / "state/status").touch()  # for apt, nothing is installed
    if set(str(work)) & set('"\n'):
        raise SetupError("the path of the cache folder must not hold quotes or line ends")
    conf = work / "apt.conf"
    conf.write_text(_APT_CONF.format(work=work), "utf-8")
    progress("reading this system's package lists")
    update = run(["apt-get", "-c", conf, "-q", "update"], work, UPDATE_LIMIT_S)
    listed = set(run(["apt-cache", "-c", conf, "pkgnames"], work, LOCAL_LIMIT_S).stdout.split())
    if not wanted & listed:  # one broken source does not matter if others carry the packages
        raise SetupError(
            "this system's package sources give none of the packages "
            f"({failure_reason(update, 'apt reports no fault')}). {otherwise}".rstrip()
        )
    return conf, listed


def _plan(work: Path, conf: Path, names: Sequence[str], status: Path) -> subprocess.CompletedProcess[str]:
    """Have apt plan the installation of packages, given the installed ones of `status`."""
    command: list[str | Path] = ["apt-get", "-c", conf, "-o", f"Dir::State::status={status}", "-q"]
    command += ["--print-uris", "install", "--no-install-recommends", "--no-remove", *names]
    return run(command, work, LOCAL_LIMIT_S)


def _planned(uris: str) -> list[str]:
    """Read package names from the output of apt-get --print-uris."""
    return sorted(file.partition("_")[0] for file, _ in _files(uris))


def _files(uris: str) -> list[tuple[str, int]]:
    """Read (file name, bytes) of each package from the output of apt-get --print-uris.

    A line is: 'address' name_version_architecture.deb bytes hash.
    """
    return [(file, int(size_bytes)) for file, size_bytes in re.findall(r"^'.*' (\S+) (\d+)", uris, re.M)]


def _download(
    work: Path, conf: Path, names: Sequence[str], progress: Callable[[str], None], otherwise: str
) -> dict[str, Path]:
    """Fetch packages into `work`; returns their files by name. Raises SetupError."""
    if not names:
        return {}
    get: list[str | Path] = ["apt-get", "-c", conf, "-q", "download"]
    files = _files(run([*get, "--print-uris", *names], work, LOCAL_LIMIT_S).stdout)
    progress(f"downloading {len(names)} packages, {sum(size for _, size in files) / 1e6:.0f} MB")
    done = run([*get, *names], work / "packages", DOWNLOAD_LIMIT_S)
    found = {name: sorted((work / "packages").glob(f"{name}_*.deb")) for name in names}
    if done.returncode != 0 or not all(found.values()):
        raise SetupError(f"the packages cannot be downloaded ({failure_reason(done)}). {otherwise}".rstrip())
    return {name: files[0] for name, files in found.items()}


def unpack(packages: Iterable[Path], tree: Path) -> None:
    """Unpack packages below `tree`, no file setuid or setgid. Raises SetupError."""
    for package in packages:
        done = run(["dpkg-deb", "-x", package, tree], package.parent, LOCAL_LIMIT_S)
        if done.returncode != 0:
            raise SetupError(f"{package.name} cannot be unpacked ({failure_reason(done)})")
    for folder, _, names in os.walk(tree):
        for file in (Path(folder, name) for name in names):
            mode = file.lstat().st_mode
            if stat.S_ISREG(mode) and mode & _SET_IDS:
                file.chmod(stat.S_IMODE(mode) & ~_SET_IDS)


def command(tree: Path, program: str) -> list[str | Path]:
    """Give the command that starts a program with the loader and libraries of its tree; arguments follow.

    The tree holds the unpacked packages of a closure; `program` is the path below it. This system's own
    loader works with its own C library only. Raises SetupError when the tree has no loader, or when its
    path cannot be part of a list of folders.
    """
    if set(str(tree)) & set(":;"):
        raise SetupError(f"the path of the cache folder must not hold colons or semicolons: {tree}")
    folders = [tree / name for name in ("lib", "usr/lib") if (tree / name).is_dir()]
    loaders = [file for folder in folders for file in sorted(folder.glob("*/ld*.so.*")) if file.is_file()]
    if not loaders:
        raise SetupError(f"{tree} lacks the programs' loader; remove the folder to fetch it anew")
    libraries = sorted({str(file.parent) for folder in folders for file in folder.rglob("lib*.so*")})
    return [loaders[0], "--inhibit-cache", "--library-path", ":".join(libraries), tree / program]


def run(
    command: Sequence[str | Path], folder: Path, limit_s: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, without input.

    Raises SetupError when it cannot be started or takes longer than `limit_s`.
    """
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
    except OSError as fault:
        raise SetupError(f"{command[0]} cannot be started: {fault.strerror}") from None


def failure_reason(done: subprocess.CompletedProcess[str], otherwise: str = "") -> str:
    """Give the reason why a program failed, from its own output.

    That is apt's and dpkg's first complaint, or the last lines that another program wrote to standard error;
    when it wrote nothing, `otherwise` or how it ended. Passwords of package sources are removed.
    """
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    apt = [line for line in lines if line.startswith(("E:", "W:", "dpkg"))]
    code = done.returncode
    ending = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    text = apt[0] if apt else "; ".join(lines[-_LAST_LINES:]) or otherwise or f"{ending}, without a message"
    return re.sub(r"//[^/@\s]*@", "//", text)[:_COMPLAINT_CHARACTERS]
