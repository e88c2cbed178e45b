"""The chain of the audit trail detects every change of its lines."""

from __future__ import annotations

import hashlib
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.audit.chain import BEGINNING, file_name, last_hash, records, seal, verify

LINES_A_FILE = 4


def trail(folder: Path, count: int = 10) -> list[str]:
    """A trail over several files; the hashes of its lines."""
    head, hashes = BEGINNING, []
    for start in range(0, count, LINES_A_FILE):
        lines = []
        for number in range(start, min(start + LINES_A_FILE, count)):
            told = {
                "eventTime": f"2026-03-0{1 + number // LINES_A_FILE}T12:00:0{number}Z",
                "eventName": ("DescribeSpeaker", "OptOutSpeaker")[number % 2],
                "userIdentity": {"arn": f"arn:aws:iam::1:user/u{number % 3}", "accessKeyId": f"AKIA{number}"},
            }
            line, head = seal(told, head)
            lines.append(line)
            hashes.append(head)
        number_of_file = start // LINES_A_FILE + 1
        (folder / file_name(number_of_file, f"2026-03-0{number_of_file}")).write_bytes(b"".join(lines))
    return hashes


def lines_of(folder: Path) -> list[tuple[Path, int]]:
    """(file, index) of every line."""
    return [
        (path, index)
        for path in sorted(folder.iterdir())
        for index in range(len(path.read_bytes().splitlines()))
    ]


def rewrite(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(lines))


def test_an_untouched_trail_is_whole(tmp_path: Path) -> None:
    hashes = trail(tmp_path)
    verdict = verify(tmp_path)
    assert (verdict.files, verdict.lines, verdict.broken) == (3, 10, None)
    assert (verdict.first_previous, verdict.head) == (BEGINNING, hashes[-1])


def test_a_lines_hash_is_the_sha256_of_the_line_without_it(tmp_path: Path) -> None:
    """So that anybody can check it with other tools."""
    hashes = trail(tmp_path, 1)
    line = next(tmp_path.iterdir()).read_bytes().rstrip(b"\n")
    without = line[: line.rindex(b',"hash":"')] + b"}"
    assert hashlib.sha256(without).hexdigest() == json.loads(line)["hash"] == hashes[0]


def test_an_empty_trail_is_whole(tmp_path: Path) -> None:
    assert verify(tmp_path).broken is None


@given(st.data())
def test_changing_any_byte_of_any_line_breaks_the_chain_there(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trail(folder)
        path, index = data.draw(st.sampled_from(lines_of(folder)))
        lines = path.read_bytes().splitlines(keepends=True)
        line = bytearray(lines[index])
        at = data.draw(st.integers(0, len(line) - 2))
        line[at] = data.draw(st.integers(0, 255).filter(lambda value: value not in (line[at], 10)))
        lines[index] = bytes(line)
        rewrite(path, lines)
        broken = verify(folder).broken
        assert broken is not None
        assert (broken.file, broken.line) == (path.name, index + 1)


@given(st.data())
def test_removing_any_line_but_the_last_breaks_the_chain(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trail(folder)
        path, index = data.draw(st.sampled_from(lines_of(folder)[1:-1]))
        lines = path.read_bytes().splitlines(keepends=True)
        del lines[index]
        rewrite(path, lines)
        assert verify(folder).broken is not None


@given(st.data())
def test_exchanging_any_two_lines_breaks_the_chain(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trail(folder)
        one, other = data.draw(
            st.lists(st.sampled_from(lines_of(folder)), min_size=2, max_size=2, unique=True)
        )
        contents = {path: path.read_bytes().splitlines(keepends=True) for path, _ in (one, other)}
        (path, index), (other_path, other_index) = one, other
        contents[path][index], contents[other_path][other_index] = (
            contents[other_path][other_index],
            contents[path][index],
        )
        for changed, lines in contents.items():
            rewrite(changed, lines)
        assert verify(folder).broken is not None


def test_inserted_line_with_a_valid_hash_breaks_the_chain(tmp_path: Path) -> None:
    hashes = trail(tmp_path)
    path = sorted(tmp_path.iterdir())[0]
    lines = path.read_bytes().splitlines(keepends=True)
    forged, _ = seal({"eventName": "DescribeSpeaker"}, hashes[0])
    rewrite(path, [lines[0], forged, *lines[1:]])
    broken = verify(tmp_path).broken
    assert broken is not None
    assert (broken.line, "removed, inserted or moved" in broken.reason) == (3, True)


def test_a_file_that_is_missing_in_the_middle_is_reported(tmp_path: Path) -> None:
    trail(tmp_path)
    sorted(tmp_path.iterdir())[1].unlink()
    broken = verify(tmp_path).broken
    assert broken is not None
    assert broken.reason == "file 00000002 is missing before it"


def test_removed_old_files_are_reported_by_their_last_hash(tmp_path: Path) -> None:
    hashes = trail(tmp_path)
    sorted(tmp_path.iterdir())[0].unlink()
    verdict = verify(tmp_path)
    assert verdict.broken is None
    assert verdict.first_previous == hashes[3]


def test_lines_cut_off_at_the_end_show_when_a_hash_was_noted(tmp_path: Path) -> None:
    hashes = trail(tmp_path)
    last = sorted(tmp_path.iterdir())[-1]
    rewrite(last, last.read_bytes().splitlines(keepends=True)[:-1])
    assert verify(tmp_path, hashes[-2]).has_expected
    cut = verify(tmp_path, hashes[-1])
    assert cut.broken is None
    assert not cut.has_expected


@pytest.mark.parametrize(
    "content", [b"{}\n", b"\n", b"not json\n", b'{"hash":"' + b"0" * 64 + b'"}\n', b"x" * 99]
)
def test_what_is_no_record_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / file_name(1, "2026-03-01")).write_bytes(content)
    broken = verify(tmp_path).broken
    assert broken is not None
    assert broken.line == 1


def test_the_last_hash_is_that_of_the_last_whole_line(tmp_path: Path) -> None:
    hashes = trail(tmp_path, 3)
    path = next(tmp_path.iterdir())
    with path.open("ab") as file:
        file.write(b'{"torn')
    assert last_hash(path) == hashes[-1]
    path.write_bytes(b"")
    assert last_hash(path) is None
    path.write_bytes(b"{}\n")
    with pytest.raises(ValueError, match="hash"):
        last_hash(path)


def names(folder: Path, **wanted: object) -> list[str]:
    filters = {"since": None, "operation": None, "principal": None, **wanted}
    found = records(folder, **filters)  # type: ignore[arg-type]
    return [told["userIdentity"]["accessKeyId"] for told, _ in found]


def test_lines_are_found_by_time_operation_and_principal(tmp_path: Path) -> None:
    trail(tmp_path)
    assert len(names(tmp_path)) == 10
    assert names(tmp_path, since=datetime(2026, 3, 2, 12, 0, 6, tzinfo=UTC)) == [
        "AKIA6",
        "AKIA7",
        "AKIA8",
        "AKIA9",
    ]
    assert names(tmp_path, operation="optoutspeaker") == ["AKIA1", "AKIA3", "AKIA5", "AKIA7", "AKIA9"]
    assert names(tmp_path, principal="user/u0") == ["AKIA0", "AKIA3", "AKIA6", "AKIA9"]
    assert names(tmp_path, principal="AKIA5") == ["AKIA5"]
