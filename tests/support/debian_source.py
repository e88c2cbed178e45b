"""A small source of Debian packages, made on the spot, and what apt takes for installed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sonant.demo import debian

HAS_APT = all(shutil.which(program) for program in ("apt-get", "dpkg-deb"))
NO_APT = "no apt-get or no dpkg-deb: run the tests on Debian or Ubuntu"
needs_apt = pytest.mark.skipif(not HAS_APT, reason=NO_APT)


@dataclass(frozen=True, slots=True)
class DebianSource:
    folder: Path
    installed: Path

    def carry(
        self,
        name: str,
        version: str,
        files: Mapping[str, str] | None = None,
        *,
        mode: int = 0o755,
        **fields: str,
    ) -> None:
        """A package whose files have this mode; `fields` are more lines of its control file."""
        tree = self.folder / "trees" / name
        for path, text in (files or {}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
            (tree / path).chmod(mode)
        (tree / "DEBIAN").mkdir(parents=True)
        control = _control(name, version, fields)
        (tree / "DEBIAN/control").write_text(control)
        package = self.folder / f"{name}_{version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, package], check=True, capture_output=True
        )
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        with (self.folder / "Packages").open("a") as index:
            index.write(f"{control}Filename: ./{package.name}\nSize: {package.stat().st_size}\n")
            index.write(f"SHA256: {digest}\n\n")

    def install(self, name: str, version: str, **fields: str) -> None:
        """Only said to be so. Other fields than the carried package's make apt want that instead."""
        with self.installed.open("a") as status:
            status.write(_control(name, version, {"Status": "install ok installed", **fields}) + "\n")


def debian_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DebianSource:
    """The only source that apt sees, as yet empty."""
    made = DebianSource(tmp_path / "source", tmp_path / "status")
    made.folder.mkdir()
    made.installed.touch()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] copy:{made.folder} ./\n")
    (tmp_path / "system.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list"; Dir::Etc::sourceparts "/dev/null";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "system.conf"))
    monkeypatch.setattr(debian, "INSTALLED", made.installed)
    return made


def _control(name: str, version: str, fields: Mapping[str, str]) -> str:
    lines = {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "A <a@example.org>"}
    return "".join(f"{field}: {text}\n" for field, text in {**lines, **fields, "Description": "x"}.items())
