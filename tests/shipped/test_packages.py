"""Wheel and source archive: content, metadata, and one version everywhere."""

from __future__ import annotations

import csv
import email
import email.message
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import REPOSITORY
from packaging.version import Version
from trove_classifiers import classifiers

from sonant import __version__

sys.path.append(str(REPOSITORY))

import hatch_build

CHANGES = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
HEADINGS = re.findall(r"^## (.+)$", CHANGES, re.MULTILINE)
ADDRESS = "https://host.example/owner/sonant"
#: Those of Keep a Changelog.
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def build(target: str, source: Path, out: Path, address: str = ADDRESS) -> Path:
    """Build a `wheel`, or the source archive (`sdist`), as a release has it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    env = {**os.environ, "REPOSITORY_URL": address}
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", REPOSITORY, tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of the wheel."""
    return content_of(build("wheel", REPOSITORY, tmp_path_factory.mktemp("wheel")))


def content_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(content: dict[str, bytes]) -> email.message.Message:
    (text,) = (text for name, text in content.items() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(text)


# --- one version


def test_version_is_normal_and_that_of_the_chart() -> None:
    version = Version(__version__)
    assert str(version) == __version__
    chart = yaml.safe_load((REPOSITORY / "deploy/helm/sonant/Chart.yaml").read_text("utf-8"))
    semantic = version.base_version + (f"-{version.pre[0]}.{version.pre[1]}" if version.pre else "")
    assert (chart["appVersion"], chart["version"]) == (__version__, semantic)


def test_version_is_written_nowhere_else() -> None:
    folders = ("src", "deploy", "tools", ".ci", ".github")
    named = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in folders
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in {".py", ".toml", ".yaml", ".yml", ".md", ".html", ".service", ""}
        and path.is_file()
        and __version__ in path.read_text("utf-8", errors="ignore")
    }
    assert named == {"src/sonant/__init__.py", "deploy/helm/sonant/Chart.yaml"}


def test_versions_in_examples_are_the_present_one() -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    examples = {
        found
        for page in pages
        for found in re.findall(r"\b(?:version=|sonant[- ])(\d+\.\d+[\w.]*)\b", page.read_text("utf-8"))
    }
    assert examples <= {__version__}


def test_first_section_of_the_changelog_is_the_versions() -> None:
    name, _, date = HEADINGS[0].partition(" - ")
    assert name == __version__
    assert date == "Unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d", date)


def test_sections_of_the_changelog_are_of_known_kinds() -> None:
    for section in re.split(r"^## .+$", CHANGES, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert set(kinds) <= KINDS
        assert len(kinds) == len(set(kinds))


# --- metadata


def test_metadata_is_complete(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "sonant"
    assert metadata["Version"] == __version__
    assert metadata["Author"] == "The Sonant authors"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert len(metadata["Summary"]) <= 512
    assert "\n" not in metadata["Summary"]


def test_classifiers_are_known_and_name_the_state(metadata: email.message.Message) -> None:
    given = metadata.get_all("Classifier", [])
    assert set(given) <= classifiers
    assert len(given) == len(set(given))
    state = "4 - Beta" if Version(__version__).is_prerelease else "5 - Production/Stable"
    assert f"Development Status :: {state}" in given


def test_addresses_are_labelled(metadata: email.message.Message) -> None:
    labels = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL", []))
    assert labels.keys() == {"Homepage", "Documentation", "Changelog", "Issues", "Source"}
    assert all(address.startswith("https://") for address in labels.values())


def test_an_address_that_is_not_https_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPOSITORY_URL", "ftp://host.example/sonant")
    with pytest.raises(ValueError, match="not an https address"):
        hatch_build.PublishedMetadata(str(REPOSITORY), {}).update({"version": __version__})


def test_a_package_of_no_known_repository_names_no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPOSITORY_URL", raising=False)
    made: dict[str, Any] = {"version": __version__}
    hatch_build.PublishedMetadata(str(REPOSITORY), {}).update(made)
    assert made["urls"] == {}
    assert made["readme"]["text"] == (REPOSITORY / "README.md").read_text("utf-8")


def test_every_link_of_the_long_description_is_absolute(metadata: email.message.Message) -> None:
    text = metadata.get_payload()
    assert isinstance(text, str)
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://")] == []
    for link in links:
        if link.startswith(f"{ADDRESS}/blob/v{__version__}/"):
            path = link.removeprefix(f"{ADDRESS}/blob/v{__version__}/").partition("#")[0]
            assert (REPOSITORY / path).is_file(), link


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("[a](docs/a.md#b)", "[a](https://host/x/docs/a.md#b)"),
        ("[a](#part)", "[a](https://host/x/README.md#part)"),
        ("[a](https://other/y) [b](mailto:a@b.c)", "[a](https://other/y) [b](mailto:a@b.c)"),
        ("![picture](docs/a.png)", "![picture](https://host/x/docs/a.png)"),
        ("```\n[a](docs/a.md)\n```", "```\n[a](docs/a.md)\n```"),
    ],
)
def test_relative_links_become_absolute(written: str, made: str) -> None:
    assert hatch_build.absolute_links(written, "https://host/x") == made


# --- content


def test_wheel_holds_the_package_and_nothing_else(content: dict[str, bytes]) -> None:
    tops = {name.split("/")[0] for name in content}
    assert tops == {"sonant", f"sonant-{__version__}.dist-info"}
    strange = [name for name in content if re.search(r"__pycache__|\.pyc$|/tests?/|/\.|~$|\.orig$", name)]
    assert strange == []
    assert "sonant/py.typed" in content


def test_wheel_holds_every_file_of_the_package(content: dict[str, bytes]) -> None:
    sources = REPOSITORY / "src"
    there = {
        path.relative_to(sources).as_posix()
        for path in (sources / "sonant").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert len(there) > 100
    assert there - content.keys() == set()


def test_no_two_files_of_the_wheel_are_the_same(content: dict[str, bytes]) -> None:
    seen: dict[bytes, str] = {}
    twice = [(name, seen[text]) for name, text in content.items() if seen.setdefault(text, name) != name]
    assert [(one, other) for one, other in twice if content[one].strip()] == []


def test_record_lists_every_file_of_the_wheel(content: dict[str, bytes]) -> None:
    (record,) = (text for name, text in content.items() if name.endswith("/RECORD"))
    listed = [row[0] for row in csv.reader(io.StringIO(record.decode()))]
    assert sorted(listed) == sorted(content)


@pytest.mark.slow
def test_archive_builds_the_same_wheel(archive: Path, content: dict[str, bytes], tmp_path: Path) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = content_of(build("wheel", source, tmp_path / "again"))
    assert {name for name in again | content if again.get(name) != content.get(name)} == set()


@pytest.mark.slow
def test_archive_holds_what_tests_and_documents_need(archive: Path) -> None:
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    for needed in ("README.md", "LICENSE", "NOTICE", "hatch_build.py", "tests/conftest.py", "docs/index.md"):
        assert needed in names
    assert [name for name in names if re.search(r"__pycache__|\.pyc$|^\.venv|^\.cache", name)] == []


@pytest.mark.slow
def test_what_the_image_copies_builds_the_same_wheel(content: dict[str, bytes], tmp_path: Path) -> None:
    recipe = (REPOSITORY / "deploy" / "Dockerfile").read_text("utf-8").split("hatchling build")[0]
    sent = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--)(.+) \S+$", recipe, re.M):
        for name in line.split():
            assert f"!{name}" in sent
            copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
            copy(REPOSITORY / name, tmp_path / name)
    again = content_of(build("wheel", tmp_path, tmp_path / "dist"))
    assert {name for name in again | content if again.get(name) != content.get(name)} == set()
