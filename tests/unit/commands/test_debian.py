"""Packages with what they need, from a small source and for a system that are made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from debian_source import DebianSource, debian_source, needs_apt
from sonant.commands import debian
from sonant.errors import SetupError

pytestmark = needs_apt

NEEDS = "library (>= 2.0), other"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DebianSource:
    """The server needs two libraries."""
    made = debian_source(tmp_path, monkeypatch)
    made.carry("server", "1.0", Depends=NEEDS)
    made.carry("library", "2.0")
    made.carry("other", "1.0")
    made.carry("stranger", "1.0")
    return made


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def needed(work: Path) -> dict[str, str]:
    """Names and versions of what is fetched for the server."""
    found = debian.download(work, {"server"}, lambda _: None, otherwise="Do without.", with_needed=True)
    return {name: file.name.split("_")[1] for name, file in found.items()}


def test_what_a_package_needs_comes_too(source: DebianSource, work: Path) -> None:
    assert needed(work) == {"server": "1.0", "library": "2.0", "other": "1.0"}


def test_without_asking_only_the_package_itself_comes(source: DebianSource, work: Path) -> None:
    assert list(debian.download(work, {"server"}, lambda _: None)) == ["server"]


def test_what_is_installed_does_not_come_again(source: DebianSource, work: Path) -> None:
    source.install("other", "1.0")
    assert needed(work) == {"server": "1.0", "library": "2.0"}


def test_what_is_installed_in_too_old_a_version_comes_in_the_newer_one(
    source: DebianSource, work: Path
) -> None:
    source.install("library", "1.0")
    assert needed(work) == {"server": "1.0", "library": "2.0", "other": "1.0"}


def test_when_all_is_installed_nothing_is_fetched(source: DebianSource, work: Path) -> None:
    source.install("server", "1.0", Depends=NEEDS)
    source.install("library", "2.0")
    source.install("other", "1.0")
    said: list[str] = []
    assert debian.download(work, {"server"}, said.append, with_needed=True) == {}
    assert not any("downloading" in line for line in said)


def test_packages_that_exclude_what_is_installed_are_refused(source: DebianSource, work: Path) -> None:
    source.carry("rival", "1.0", Depends="other", Conflicts="stranger")
    source.install("stranger", "1.0")
    with pytest.raises(SetupError, match=r"do not fit this system \(E: .*remove.*\)\. Do without\."):
        debian.download(work, {"rival"}, lambda _: None, otherwise="Do without.", with_needed=True)


def test_a_need_that_no_source_meets_is_told(source: DebianSource, work: Path) -> None:
    source.carry("lonely", "1.0", Depends="nowhere")
    with pytest.raises(SetupError, match=r"do not fit this system .*Do without\."):
        debian.download(work, {"lonely"}, lambda _: None, otherwise="Do without.", with_needed=True)
