"""Places that heads of the audit trail are sent to, and read from again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from audit_testbed import Installation, installation

from sonant.audit.destinations import Destination, FileDestination, HeadMessage, ObjectDestination
from sonant.errors import SonantError
from sonant.storage.objects.store import ObjectUri

HEAD = HeadMessage(
    installation="0123456789abcdef",
    chain_id="11111111-2222-4333-8444-555555555555",
    name="audit",
    host="host-1",
    sequence=7,
    head="a" * 64,
    mac="b" * 64,
    time="2026-03-01T12:00:00Z",
)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "data") as made:
        yield made


@pytest.fixture(params=["file", "objects", "objects below a prefix"])
def destination(request: pytest.FixtureRequest, tmp_path: Path, opened: Installation) -> Destination:
    if request.param == "file":
        return FileDestination(tmp_path / "mount" / "heads.jsonl")
    (opened.store.settings.data / "buckets" / "worm").mkdir(parents=True)
    uri = ObjectUri("worm", "trail/heads/" if "prefix" in request.param else "")
    return ObjectDestination(uri, opened.store.objects)


def test_sent_heads_are_read_again(destination: Destination) -> None:
    later = replace(HEAD, sequence=19, head="c" * 64)
    destination.send([HEAD])
    destination.send([later, replace(later, name="jobs")])
    found = [(one.name, one.chain_id, one.sequence, one.head) for one in destination.read(HEAD.installation)]
    assert sorted(found) == [
        ("audit", HEAD.chain_id, 7, "a" * 64),
        ("audit", HEAD.chain_id, 19, "c" * 64),
        ("jobs", HEAD.chain_id, 19, "c" * 64),
    ]


def test_heads_of_other_installations_are_left_out(destination: Destination) -> None:
    destination.send([HEAD, replace(HEAD, installation="f" * 16)])
    assert len(list(destination.read(HEAD.installation))) == 1


def test_line_that_a_crash_tore_hides_no_other_head(tmp_path: Path) -> None:
    path = tmp_path / "heads.jsonl"
    destination = FileDestination(path)
    destination.send([HEAD])
    with path.open("ab") as file:
        file.write(b'{"type":"sonant.audit.head","inst')
    assert [one.sequence for one in destination.read(HEAD.installation)] == [7]


def test_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(SonantError, match="is missing"):
        list(FileDestination(tmp_path / "heads.jsonl").read(HEAD.installation))
