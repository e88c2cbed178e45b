"""Read the lock files of `locks/`: pinned, hashed requirements as pip takes them with --require-hashes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
#: Locks beside those of the extras: the dependencies alone, and what builds the package.
BASE, BUILD = "base", "build"

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_VIA = re.compile(r"#(?:\s+via)?\s*(\S+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """One pinned package of a lock."""

    name: str
    """Normalized, as in a package URL."""
    version: str
    marker: str
    """Where it is needed (PEP 508); empty for everywhere."""
    sha256: tuple[str, ...]
    """Hashes of all its files: wheels of every platform, and the source."""
    required_by: tuple[str, ...]
    """Normalized names of the packages that need it; `sonant` for those that the project names."""


class NotALock(Exception):
    """A line of a lock is not a pinned, hashed requirement."""


def project(root: Path = ROOT) -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))


def requirements(document: dict[str, Any]) -> dict[str, list[Requirement]]:
    """List the requirements of each lock by the lock's name."""
    named = document["project"]
    wanted = {BASE: named["dependencies"], BUILD: document["build-system"]["requires"]}
    wanted |= named["optional-dependencies"]
    wanted |= document.get("dependency-groups", {})
    return {lock: [Requirement(text) for text in texts] for lock, texts in wanted.items()}


def groups(document: dict[str, Any]) -> list[str]:
    """List the locks of environments apart, whose versions may differ from those of the other locks."""
    return sorted(document.get("dependency-groups", {}))


def read_lock(text: str) -> list[LockedPackage]:
    """Read a lock. Raises NotALock for a line that is no pinned requirement with hashes, or an option."""
    return [_package(lines) for lines in _entries(text)]


def merged(locks: Sequence[Sequence[LockedPackage]]) -> list[LockedPackage]:
    """Merge the packages of several locks, each once, in the order of their names."""
    found: dict[tuple[str, str, str], LockedPackage] = {}
    for package in (package for lock in locks for package in lock):
        key = package.name, package.version, package.marker
        earlier = found.get(key)
        by = (*earlier.required_by, *package.required_by) if earlier is not None else package.required_by
        found[key] = LockedPackage(
            name=package.name,
            version=package.version,
            marker=package.marker,
            sha256=package.sha256,
            required_by=tuple(sorted(set(by))),
        )
    return [found[key] for key in sorted(found)]


def applies(package: LockedPackage, environment: dict[str, str]) -> bool:
    """Return whether a package is needed in an environment, by the names of PEP 508."""
    return not package.marker or Marker(package.marker).evaluate(environment)


def _entries(text: str) -> Iterator[list[str]]:
    """Split a lock into its requirements, each with the lines that belong to it."""
    entry: list[str] = []
    for line in text.splitlines():
        if not line.strip() or (line.startswith("#") and not entry):
            continue
        if not line[0].isspace() and not line.startswith("#"):
            if entry:
                yield entry
            entry = []
        entry.append(line)
    if entry:
        yield entry


def _package(lines: Sequence[str]) -> LockedPackage:
    first = lines[0].rstrip("\\ ")
    if first.startswith("-"):
        raise NotALock(f"an option stands in a lock: {first.split()[0]}")
    try:
        requirement = Requirement(first)
    except ValueError:
        raise NotALock(f"not a requirement: {first}") from None
    pins = [one for one in requirement.specifier if one.operator == "=="]
    hashes = tuple(_HASH.findall("\n".join(lines)))
    if len(requirement.specifier) != 1 or len(pins) != 1 or requirement.url or not hashes:
        raise NotALock(f"not pinned by version and hash: {first}")
    return LockedPackage(
        name=canonicalize_name(requirement.name),
        version=pins[0].version,
        marker=str(requirement.marker or ""),
        sha256=hashes,
        required_by=tuple(sorted(set(_required_by(lines[1:])))),
    )


def _required_by(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        comment = line.strip()
        if not comment.startswith("#"):
            continue
        name = (_VIA.fullmatch(comment.split("(")[0].strip()) or [None, None])[1]
        if name and name != "via" and not name.startswith("-"):
            yield canonicalize_name(name)
