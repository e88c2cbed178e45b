"""Write the lock files of `locks/` from pyproject.toml, or check them.

    python tools/lock.py              resolve what pyproject.toml names; locked versions that fit stay
    python tools/lock.py --upgrade    the same, with the newest versions
    python tools/lock.py --check      whether the locks fit pyproject.toml; needs no network
    python tools/lock.py --wheels     whether every package has a wheel for all platforms and Pythons

There is a lock for the dependencies (`base`), for what builds the package (`build`), and for each extra, with
all that it needs; a package has the same version in all of them. A dependency group has a lock for an
environment of its own, with versions of its own. Versions are resolved for all systems and
Pythons at once, and hashes are those of all files of a version, so one lock serves x86-64 and arm64. No lock
names a registry: pip takes packages from the one that it is set up for, and the hashes decide. Needs uv
(`pip install uv`) except for --check.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from locked import BASE, BUILD, LOCKS, ROOT, NotALock, groups, merged, project, read_lock, requirements

#: What the locks must install on, from wheels alone.
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")
PYTHONS = ("3.11", "3.12", "3.13")

_HEADER = (
    "# Written by tools/lock.py from pyproject.toml. For: pip install --require-hashes --no-deps -r FILE\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Write or check the lock files.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    parser.add_argument("--check", action="store_true", help="only check the locks against pyproject.toml")
    parser.add_argument("--wheels", action="store_true", help="only check that there are wheels")
    given = parser.parse_args(arguments)
    if given.check:
        faults = list(find_faults(LOCKS))
        print("\n".join(faults) or "the locks fit pyproject.toml")
        return 1 if faults else 0
    uv = shutil.which("uv")
    if uv is None:
        print("uv is not installed: pip install uv", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        if given.wheels:
            return check_wheels(uv, Path(folder))
        write_locks(uv, Path(folder), upgrade=given.upgrade)
    return 0


# --- checks without a network -------------------------------------------------------------------------


def find_faults(folder: Path) -> Iterator[str]:
    """Say what is wrong with the locks of a folder: missing, too many, unpinned, or not what is required."""
    wanted, apart = requirements(project()), groups(project())
    present = {file.stem: file for file in folder.glob("*.txt")}
    yield from (f"{folder / name}.txt is missing" for name in sorted(wanted.keys() - present.keys()))
    yield from (f"{file} is of no extra" for name, file in sorted(present.items()) if name not in wanted)
    versions: dict[str, set[tuple[str, str]]] = {}
    for name in sorted(wanted.keys() & present.keys()):
        try:
            packages = read_lock(present[name].read_text("utf-8"))
        except NotALock as fault:
            yield f"{present[name]}: {fault}"
            continue
        for package in packages if name not in apart else ():
            versions.setdefault(package.name, set()).add((package.version, package.marker))
        for requirement in wanted[name]:
            pinned = [one for one in packages if one.name == requirement.name.lower().replace("_", "-")]
            if not pinned:
                yield f"{present[name]} lacks {requirement.name}"
            for one in pinned:
                if not requirement.specifier.contains(one.version, prereleases=True):
                    yield f"{present[name]} has {one.name} {one.version}, not {requirement.specifier}"
    for name, found in sorted(versions.items()):
        of_marker = {marker: version for version, marker in found}
        if len({version for version, _ in found}) > len(of_marker):
            yield f"{name} has several versions: {', '.join(sorted(version for version, _ in found))}"


# --- resolution ---------------------------------------------------------------------------------------


def write_locks(uv: str, scratch: Path, *, upgrade: bool) -> None:
    """Resolve all extras together, then write each lock with the versions found."""
    apart = groups(project())
    extras = [name for name in requirements(project()) if name not in (BASE, BUILD, *apart)]
    build = _build_requirements(scratch)
    everything = scratch / "all.txt"
    if not upgrade:
        # uv keeps the versions of an output that exists.
        files = [file for file in sorted(LOCKS.glob("*.txt")) if file.stem not in apart]
        known = merged([read_lock(file.read_text("utf-8")) for file in files])
        everything.write_text(
            "".join(
                f"{one.name}=={one.version}" + (f" ; {one.marker}" if one.marker else "") + "\n"
                for one in known
            )
        )
    chosen = [option for name in extras for option in ("--extra", name)]
    _compile(uv, everything, "pyproject.toml", str(build), *chosen)
    LOCKS.mkdir(exist_ok=True)
    for name in (BASE, BUILD, *extras):
        sources = [str(build)] if name == BUILD else ["pyproject.toml"]
        if name == "dev":
            sources.append(str(build))  # the editable package is built in this environment
        options = ["--extra", name] if name in extras else []
        made = scratch / f"{name}.txt"
        _compile(uv, made, *sources, "--constraint", str(everything), *options, hashes=True)
        _store(made, scratch)
    for name in apart:
        made = scratch / f"{name}.txt"
        if not upgrade and (LOCKS / made.name).exists():
            shutil.copy(LOCKS / made.name, made)
        _compile(uv, made, "--group", name, hashes=True)
        _store(made, scratch)


def _store(made: Path, scratch: Path) -> None:
    text = _tidied(made.read_text("utf-8"), scratch)
    (LOCKS / made.name).write_text(_HEADER + text.removeprefix(_HEADER), "utf-8")
    print(f"{LOCKS / made.name}: {len(read_lock(text))} packages")


def check_wheels(uv: str, scratch: Path) -> int:
    """Resolve every lock for every platform and Python from wheels alone; return 1 where that fails."""
    failed = 0
    for lock in sorted(LOCKS.glob("*.txt")):
        for platform in PLATFORMS:
            for python in PYTHONS:
                target = ("--python-platform", platform, "--python-version", python)
                command = [uv, "pip", "compile", "--quiet", "--no-config", "--no-deps", str(lock), *target]
                done = subprocess.run(
                    [*command, "--only-binary", ":all:", "--output-file", str(scratch / "wheels.txt")],
                    capture_output=True,
                    text=True,
                )
                if done.returncode:
                    failed = 1
                    print(f"{lock.name}, {platform}, Python {python}: {done.stderr.strip()}")
    print("not every package has wheels" if failed else "every package has wheels everywhere")
    return failed


def _build_requirements(scratch: Path) -> Path:
    file = scratch / "build.in"
    file.write_text("".join(f"{one}\n" for one in requirements(project())[BUILD]))
    return file


def _compile(uv: str, out: Path, *arguments: str, hashes: bool = False) -> None:
    command = [uv, "pip", "compile", "--quiet", "--no-config", "--universal", "--python-version", PYTHONS[0]]
    command += ["--no-header", "--no-emit-index-url", "--no-emit-find-links", "--output-file", str(out)]
    command += ["--generate-hashes"] if hashes else []
    subprocess.run([*command, *arguments], check=True, cwd=ROOT, env={**os.environ, "UV_NO_PROGRESS": "1"})


def _tidied(text: str, scratch: Path) -> str:
    """Leave out the names of temporary files, which comments on the origin of a pin contain."""
    kept = [line for line in text.splitlines() if str(scratch) not in line]
    return "".join(f"{line}\n" for line in kept)


if __name__ == "__main__":
    sys.exit(main())
