"""Packages with what they need, from a small source and for a system that are made here."""

from __future__ import annotations

from pathlib import Path

import pytest
from debian_source import DebianSource, debian_source, needs_apt

from sonant.demo import debian
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


def test_dependencies_are_downloaded(source: DebianSource, work: Path) -> None:
    assert needed(work) == {"server": "1.0", "library": "2.0", "other": "1.0"}


def test_only_the_package_is_downloaded_by_default(source: DebianSource, work: Path) -> None:
    assert list(debian.download(work, {"server"}, lambda _: None)) == ["server"]


def test_installed_dependency_is_not_downloaded(source: DebianSource, work: Path) -> None:
    source.install("other", "1.0")
    assert needed(work) == {"server": "1.0", "library": "2.0"}


def test_outdated_dependency_is_downloaded(source: DebianSource, work: Path) -> None:
    source.install("library", "1.0")
    assert needed(work) == {"server": "1.0", "library": "2.0", "other": "1.0"}


def test_when_all_is_installed_nothing_is_fetched(source: DebianSource, work: Path) -> None:
    source.install("server", "1.0", Depends=NEEDS)
    source.install("library", "2.0")
    source.install("other", "1.0")
    said: list[str] = []
    assert debian.download(work, {"server"}, said.append, with_needed=True) == {}
    assert not any("downloading" in line for line in said)


def test_conflict_with_an_installed_package_is_refused(source: DebianSource, work: Path) -> None:
    source.carry("rival", "1.0", Depends="other", Conflicts="stranger")
    source.install("stranger", "1.0")
    with pytest.raises(SetupError, match=r"do not fit this system \(E: .*remove.*\)\. Do without\."):
        debian.download(work, {"rival"}, lambda _: None, otherwise="Do without.", with_needed=True)


def test_missing_dependency_is_reported(source: DebianSource, work: Path) -> None:
    source.carry("lonely", "1.0", Depends="nowhere")
    with pytest.raises(SetupError, match=r"do not fit this system .*Do without\."):
        debian.download(work, {"lonely"}, lambda _: None, otherwise="Do without.", with_needed=True)


# --- everything down to the C library -----------------------------------------------------------------


def closures(work: Path, **groups: tuple[str, ...]) -> debian.Closures:
    return debian.download_closures(work, groups, lambda _: None, otherwise="Do without.")


def test_closure_ignores_installed_packages(source: DebianSource, work: Path) -> None:
    source.carry("deeper", "1.0")
    source.carry("client", "1.0", Depends="other, deeper")
    for name in ("server", "other", "deeper"):
        source.install(name, "1.0")
    found = closures(work, ours=("server",), theirs=("client",))
    names = {group: {file.name.split("_")[0] for file in files} for group, files in found.files.items()}
    assert names == {"ours": {"server", "library", "other"}, "theirs": {"client", "other", "deeper"}}
    assert not found.missing


def test_unavailable_groups_have_a_reason(source: DebianSource, work: Path) -> None:
    source.carry("lonely", "1.0", Depends="nowhere")
    found = closures(work, whole=("stranger",), absent=("stranger", "ghost"), lacking=("lonely",))
    assert found.files.keys() == {"whole"}
    assert found.missing["absent"] == "this system's package sources have no ghost"
    assert "do not give all it needs" in found.missing["lacking"]


def test_unpacked_files_are_not_setuid(source: DebianSource, work: Path, tmp_path: Path) -> None:
    source.carry("tool", "1.0", {"usr/bin/tool": "#!/bin/sh"}, mode=0o6755)
    (package,) = closures(work, tool=("tool",)).files["tool"]
    debian.unpack([package], tmp_path / "tree")
    assert (tmp_path / "tree/usr/bin/tool").stat().st_mode & 0o7777 == 0o755


# --- programs of a tree -------------------------------------------------------------------------------


def tree_with(tmp_path: Path, loader: str) -> Path:
    """A tree whose loader is a script, so that what it is given can be seen."""
    tree = tmp_path / "tree"
    (tree / "usr/lib/a-linux-gnu/deeper").mkdir(parents=True)
    (tree / "usr/lib/a-linux-gnu/ld-linux.so.2").write_text(f"#!/bin/sh\n{loader}\n")
    (tree / "usr/lib/a-linux-gnu/ld-linux.so.2").chmod(0o755)
    (tree / "usr/lib/a-linux-gnu/deeper/libown-1.so").touch()
    return tree


def test_a_program_of_a_tree_gets_every_folder_with_libraries(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, 'printf "%s\\n" "$@"')
    done = debian.run([*debian.command(tree, "usr/bin/tool"), "-v"], tmp_path, 10)
    libraries = str(tree / "usr/lib/a-linux-gnu/deeper")
    expected = ["--inhibit-cache", "--library-path", libraries, str(tree / "usr/bin/tool"), "-v"]
    assert done.stdout.splitlines() == expected


def test_a_tree_without_a_loader_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"lacks the programs' loader; remove the folder"):
        debian.command(tmp_path, "usr/bin/tool")


def test_tree_path_with_a_separator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="must not hold colons"):
        debian.command(tmp_path / "a:b", "usr/bin/tool")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo one >&2; echo two >&2; exit 3", "one; two"),
        ("echo 'Err: no'; echo 'E: not found at http://ann:secret@h/' >&2; echo more >&2; exit 1",
         "E: not found at http://h/"),
        ("exit 3", "ended with 3, without a message"),
        ("kill -KILL $$", "killed by SIGKILL, without a message"),
    ],
)  # fmt: skip
def test_failure_quotes_the_program(tmp_path: Path, script: str, reason: str) -> None:
    assert debian.failure_reason(debian.run(["sh", "-c", script], tmp_path, 10)) == reason


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"nowhere/tool cannot be started: No such file"):
        debian.run([tmp_path / "nowhere/tool"], tmp_path, 10)
