"""What the audit trail proves against somebody who can write its files, and with no key of it."""

from __future__ import annotations

import hmac
import json
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from audit_testbed import Installation, call, installation, rechain
from event_peers import NOON, Peer
from sqlalchemy import update

from sonant.assembly import audit_trail
from sonant.audit import chain
from sonant.audit.chain_keys import RootKey
from sonant.audit.file import ChainFile
from sonant.audit.key_files import ChainState, new_kept_key, read_kept_key
from sonant.errors import SetupError
from sonant.events.sinks.webhook import SIGNATURE_HEADER, TIMESTAMP_HEADER, signature
from sonant.storage.database.schema import audit_chains

CALLS = 12


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Installation]:
    """An installation whose service has recorded calls in several files, and has ended."""
    with installation(tmp_path / "data") as made:
        made.run(CALLS)
        assert len(made.files()) > 2
        yield made


def rewrite(path: Path, keep: int) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:keep]))


# --- an untouched trail


def test_untouched_trail_is_whole_and_every_line_is_sealed(one: Installation) -> None:
    report = audit_trail.verify(one.store.settings, [], one.store)
    assert [(found.name, found.lines, found.sealed, found.faults) for found in report.reports] == [
        ("audit", CALLS, CALLS, ())
    ]


def test_next_service_goes_on_with_the_seal(one: Installation) -> None:
    one.run(3, first=CALLS)
    assert one.reasons() == []


def test_key_file_behind_the_lines_after_a_crash_is_followed(one: Installation) -> None:
    (file,) = one.keys.glob("audit.key")
    before = file.read_bytes()
    one.run(3, first=CALLS)
    file.write_bytes(before)
    one.run(1, first=CALLS + 3)
    assert one.reasons() == []


def test_lines_without_the_service_are_not_followed_after_a_crash(one: Installation) -> None:
    last = one.files()[-1]
    line, _ = chain.seal({"eventName": "Forged"}, chain.last_hash(last) or "")
    with last.open("ab") as file:
        file.write(line[:-3] + b'","mac":"' + b"0" * 64 + b'"}\n')
    with pytest.raises(SetupError, match="damaged at its end"):
        one.run(1)


# --- what an attacker with access to files may do


def test_cut_tail_is_a_missing_tail(one: Installation) -> None:
    *_, last = one.files()
    last.unlink()
    assert one.reasons() == ["missing-tail"]


def test_cut_last_line_is_a_missing_tail(one: Installation) -> None:
    rewrite(one.files()[-1], keep=len(one.files()[-1].read_bytes().splitlines()) - 1)
    assert one.reasons() == ["missing-tail"]


def test_cut_half_is_a_missing_tail_without_the_key_file_too(one: Installation) -> None:
    for path in one.files()[1:]:
        path.unlink()
    shutil.rmtree(one.keys)
    assert one.reasons() == ["missing-tail", "missing-key-file"]


def test_cut_tail_stays_a_fault_when_the_service_goes_on(one: Installation) -> None:
    rewrite(one.files()[-1], keep=1)
    one.run(3, first=CALLS)
    assert one.reasons() == ["missing-lines"]


def test_removed_middle_file_is_missing(one: Installation) -> None:
    one.files()[1].unlink()
    assert one.reasons() == ["missing-file"]


def test_removed_oldest_file_is_missing(one: Installation) -> None:
    one.files()[0].unlink()
    assert one.reasons() == ["missing-file"]


def test_removed_and_rechained_records_have_a_wrong_seal(one: Installation) -> None:
    rechain(one.folder, lambda records: [*records[:3], *records[5:]])
    assert one.reasons() in (["missing-lines", "wrong-seal"], ["wrong-order"])


def test_removed_renumbered_and_rechained_records_have_a_wrong_seal(one: Installation) -> None:
    def without_two(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        left = [*records[:3], *records[5:]]
        return [{**record, "sequence": number} for number, record in enumerate(left, 1)]

    rechain(one.folder, without_two)
    assert one.reasons() == ["wrong-seal"]


def test_renamed_caller_has_a_wrong_seal(one: Installation) -> None:
    def renamed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        records[4]["userIdentity"] |= {"arn": "arn:aws:iam::123456789012:user/bob", "userName": "bob"}
        return records

    rechain(one.folder, renamed)
    assert one.reasons() == ["wrong-seal"]


def test_trail_stripped_of_its_seal_is_missing_it(one: Installation) -> None:
    def stripped(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        names = ("mac", "sequence", chain.SECTION)
        return [{k: v for k, v in record.items() if k not in names} for record in records]

    rechain(one.folder, stripped)
    shutil.rmtree(one.keys)
    assert set(one.reasons()) == {"missing-chain", "missing-seal"}


def test_last_lines_stripped_of_their_seal_are_missing_it(one: Installation) -> None:
    def stripped(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for record in records[-2:]:
            del record["mac"]
        return records

    rechain(one.folder, stripped)
    assert one.reasons() == ["missing-seal"]


def test_deleted_trail_is_missing(one: Installation) -> None:
    shutil.rmtree(one.folder)
    assert one.reasons() == ["missing-chain"]


def test_deleted_trail_and_keys_are_missed_by_the_database(one: Installation) -> None:
    shutil.rmtree(one.folder)
    shutil.rmtree(one.keys)
    assert one.reasons() == ["missing-chain"]
    one.run(2)
    assert one.reasons() == ["missing-chain"], "and after another trail was begun"


def test_deleted_key_file_leaves_a_section_that_is_not_linked(one: Installation) -> None:
    shutil.rmtree(one.keys)
    assert one.reasons() == ["missing-key-file"]
    one.run(2, first=CALLS)
    assert one.reasons() == ["unlinked-section"]


def test_deleted_record_in_the_database_is_missed(one: Installation) -> None:
    with installation(one.store.settings.data.with_name("other")) as other:
        other.run(1)
        other.forget_in_database()
        assert other.reasons() == ["not-recorded"]


def test_changed_record_in_the_database_is_a_fault(one: Installation) -> None:
    with one.store.database.write() as connection:
        connection.execute(update(audit_chains).values(sequence=3))
    assert "changed-record" in one.reasons()


def test_damaged_key_file_is_a_fault_and_stops_no_service(one: Installation) -> None:
    file = one.keys / "audit.key"
    file.write_bytes(file.read_bytes().replace(b"1", b"2"))
    assert one.reasons() == ["wrong-key-file"]
    one.run(1, first=CALLS)
    assert one.reasons() == ["unlinked-section"]


def test_trail_of_another_installation_is_not_taken_for_ones_own(one: Installation, tmp_path: Path) -> None:
    with installation(tmp_path / "other") as other:
        other.run(CALLS)
        shutil.rmtree(one.folder)
        shutil.copytree(other.folder, one.folder)
    assert "unknown-key" in one.reasons()


# --- forward security


def test_codes_are_hmac_sha256_that_other_tools_compute(one: Installation) -> None:
    root = audit_trail.service_root(one.store.secret)
    first = json.loads(one.files()[0].read_bytes().splitlines()[0])

    def code(key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, "sha256")

    key = code(root.key, b"section " + first[chain.SECTION]["start"].encode())
    for line in one.files()[0].read_bytes().splitlines():
        record = json.loads(line)
        assert record["mac"] == code(key, b"line " + record["hash"].encode()).hex()
        key = code(key, b"next")


def test_taken_key_seals_no_line_before_it(one: Installation) -> None:
    """Given somebody who has read everything but the kept key, when lines are forged, then it shows."""
    root = RootKey(kept=True, key=secrets.token_bytes(32))
    keys = audit_trail.audit_keys(one.store.settings, one.store.secret)
    keys.use_kept_key(root)
    one.run(3, first=CALLS)
    assert one.reasons(root) == []
    state = keys.read("audit")
    assert state is not None
    at = chain.Position(
        chain_id=state.chain_id,
        root=state.root,
        head=state.head,
        sequence=state.sequence,
        key=state.key,
        mac=state.mac,
    )
    path = one.files()[-1]
    lines = path.read_bytes().splitlines(keepends=True)
    record = json.loads(lines[-1])
    number, previous = record["sequence"], record["previousHash"]
    for name in ("hash", "mac", "sequence", "previousHash"):
        record.pop(name)
    record["eventName"] = "ForgedCall"
    forged, _ = chain.seal_next(record, replace(at, head=previous, sequence=number))
    path.write_bytes(b"".join([*lines[:-1], forged]))
    assert one.reasons(root) == ["wrong-seal"]


def test_every_line_has_its_own_key_and_the_old_one_is_overwritten(tmp_path: Path) -> None:
    with installation(tmp_path / "data") as made:
        seen: list[ChainState] = []
        keys = audit_trail.audit_keys(made.store.settings, made.store.secret)
        with made.trail() as trail:
            for number in range(3):
                trail.add(call(number))
                state = keys.read("audit")
                assert state is not None
                seen.append(state)
        assert [state.sequence for state in seen] == [2, 3, 4]
        stored = b"".join(path.read_bytes() for path in made.keys.iterdir())
        assert [state.key.hex().encode() in stored for state in seen] == [False, False, True]


def test_kept_key_is_not_on_the_machine_and_is_needed(one: Installation, tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    root = new_kept_key(path, one.store.settings.data, secrets.token_bytes(32))
    keys = audit_trail.audit_keys(one.store.settings, one.store.secret)
    keys.use_kept_key(root)
    one.run(3, first=CALLS)
    secret = path.read_text().strip()
    for found in one.store.settings.data.rglob("*"):
        assert not found.is_file() or secret.encode() not in found.read_bytes(), found
    assert one.reasons() == ["unknown-key"]
    assert one.reasons(read_kept_key(path)) == []
    assert one.reasons(RootKey(kept=True, key=bytes(32))) == ["unknown-key", "other-key"]


def test_kept_key_shows_a_trail_rebuilt_with_the_service_key(one: Installation, tmp_path: Path) -> None:
    root = RootKey(kept=True, key=secrets.token_bytes(32))
    audit_trail.audit_keys(one.store.settings, one.store.secret).use_kept_key(root)
    one.run(3, first=CALLS)
    shutil.rmtree(one.folder)
    shutil.rmtree(one.keys)
    one.forget_in_database()
    one.run(CALLS)
    assert one.reasons(root) == ["other-key"]


def test_kept_key_in_the_data_folder_is_refused(one: Installation) -> None:
    with pytest.raises(SetupError, match="kept elsewhere"):
        new_kept_key(one.store.settings.data / "k", one.store.settings.data, bytes(32))


# --- heads outside


def test_heads_in_a_file_elsewhere_show_a_trail_that_was_rolled_back(tmp_path: Path) -> None:
    """Given a copy of everything on the machine, when it is put back later, then the heads show it."""
    heads, saved = tmp_path / "mount" / "heads.jsonl", tmp_path / "saved"
    with installation(tmp_path / "data", heads_to=heads.as_uri()) as made:
        made.run(5)
    shutil.copytree(tmp_path / "data", saved)
    with installation(tmp_path / "data", heads_to=heads.as_uri()) as made:
        made.run(5, first=5)
        assert made.reasons() == []
    shutil.rmtree(tmp_path / "data")
    saved.rename(tmp_path / "data")
    with installation(tmp_path / "data", heads_to=heads.as_uri()) as made:
        assert made.reasons() == ["missing-tail"]
        made.run(5, first=5)
        assert made.reasons() == ["other-head"], "with other lines of the same numbers too"
    with installation(tmp_path / "data") as made:
        assert made.reasons() == [], "which nothing on the machine shows"


def test_heads_file_that_is_gone_is_a_fault(tmp_path: Path) -> None:
    heads = tmp_path / "mount" / "heads.jsonl"
    with installation(tmp_path / "data", heads_to=heads.as_uri()) as made:
        made.run(5)
        heads.unlink()
        assert made.reasons() == ["unreadable-heads"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file://{data}/heads.jsonl", "in the data folder"),
        ("ftp://host/path", "must be file:///path"),
        ("http://192.0.2.1/heads", "use https"),
        ("https://169.254.169.254/heads", "link-local"),
    ],
)
def test_place_that_proves_nothing_is_refused(tmp_path: Path, url: str, message: str) -> None:
    url = url.replace("{data}", str(tmp_path / "data"))
    with (
        installation(tmp_path / "data", heads_to=url, heads_secret="x" * 16) as made,
        pytest.raises(SetupError, match=message),
    ):
        made.run(1)


def test_heads_are_posted_with_a_signature(tmp_path: Path) -> None:
    peer = Peer()
    with installation(tmp_path / "data", heads_to=peer.url, heads_secret="a-secret-of-heads") as made:
        made.run(2)
    peer.close()
    ((headers, body),) = peer.received
    assert headers[SIGNATURE_HEADER] == signature("a-secret-of-heads", headers[TIMESTAMP_HEADER], body)
    (head,) = json.loads(body)
    assert (head["type"], head["name"], head["sequence"]) == ("sonant.audit.head", "audit", 2)


# --- removal


def test_removed_files_leave_a_statement_and_a_whole_trail(tmp_path: Path) -> None:
    days = _Days()
    with installation(tmp_path / "data", days) as made:
        for number in range(4):
            made.run(3, first=3 * number)
            days.now += timedelta(days=1)
        day = f"{NOON + timedelta(days=2):%Y-%m-%d}"
        found = audit_trail.remove_before(made.store, day, [], by="ann", reason="90 days", dry_run=False)
        assert [one.lines for one in found] == [6]
        assert len(made.files()) == 2
        assert made.reasons() == []
        made.run(3, first=12)
        day = f"{NOON + timedelta(days=3):%Y-%m-%d}"
        audit_trail.remove_before(made.store, day, [], by="ann", reason="90 days", dry_run=False)
        assert made.reasons() == [], "after a second removal too"


def test_removal_of_more_than_was_stated_is_a_missing_file(tmp_path: Path) -> None:
    days = _Days()
    with installation(tmp_path / "data", days) as made:
        for number in range(4):
            made.run(3, first=3 * number)
            days.now += timedelta(days=1)
        day = f"{NOON + timedelta(days=1):%Y-%m-%d}"
        audit_trail.remove_before(made.store, day, [], by="ann", reason="90 days", dry_run=False)
        made.files()[0].unlink()
        assert made.reasons() == ["missing-file"]


def test_deleted_or_forged_statement_is_a_fault(tmp_path: Path) -> None:
    days = _Days()
    with installation(tmp_path / "data", days) as made:
        for number in range(3):
            made.run(3, first=3 * number)
            days.now += timedelta(days=1)
        day = f"{NOON + timedelta(days=1):%Y-%m-%d}"
        audit_trail.remove_before(made.store, day, [], by="ann", reason="90 days", dry_run=False)
        (statement,) = chain.files(made.folder / "removals")
        content = statement.read_bytes()
        statement.unlink()
        assert set(made.reasons()) == {"missing-file", "missing-chain"}
        statement.write_bytes(content.replace(b'"userName":"ann"', b'"userName":"bob"'))
        assert "changed-line" in made.reasons()


def test_trail_with_faults_is_not_shortened(tmp_path: Path) -> None:
    days = _Days()
    with installation(tmp_path / "data", days) as made:
        for number in range(3):
            made.run(3, first=3 * number)
            days.now += timedelta(days=1)
        made.files()[1].unlink()
        with pytest.raises(SetupError, match="missing-file"):
            audit_trail.remove_before(made.store, "2999-01-01", [], by="ann", reason="-", dry_run=False)
        assert len(made.files()) == 2


# --- earlier releases


def test_chain_of_an_earlier_release_is_whole_as_what_it_is(tmp_path: Path) -> None:
    with installation(tmp_path / "data") as made:
        _write_unsealed(made.folder, 5)
        report = audit_trail.verify(made.store.settings, [], made.store)
        assert [(one.lines, one.sealed, one.faults) for one in report.reports] == [(5, 0, ())]
        assert chain.verify(made.folder).broken is None


def test_upgraded_trail_is_sealed_from_then_on_and_binds_what_was_before(tmp_path: Path) -> None:
    with installation(tmp_path / "data") as made:
        _write_unsealed(made.folder, 5)
        made.run(3)
        report = audit_trail.verify(made.store.settings, [], made.store)
        assert [(one.lines, one.sealed, one.faults) for one in report.reports] == [(8, 3, ())]
        first = made.files()[0]
        lines = first.read_bytes().splitlines(keepends=True)
        first.write_bytes(b"".join(lines[1:]))
        assert made.reasons() == ["missing-file"]


def _write_unsealed(folder: Path, count: int) -> None:
    """Write lines as releases before the seal did."""
    file = ChainFile(folder, 1 << 20)
    file.write([{"eventName": "DescribeSpeaker", "number": number} for number in range(count)], NOON)
    file.sync()
    file.close()


class _Days:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


# --- restored installations


def test_rebuilt_key_files_let_a_restored_trail_go_on(one: Installation) -> None:
    before = {path.name: path.read_bytes() for path in one.keys.glob("*.key")}
    shutil.rmtree(one.keys)
    audit_trail.rebuild_key_files(one.store.settings, one.store.secret)
    assert {path.name: path.read_bytes() for path in one.keys.glob("*.key")} == before
    one.run(1, first=CALLS)
    assert one.reasons() == []


def test_every_reason_has_a_name_in_the_documents() -> None:
    from sonant.audit.verification import Reason

    page = Path(__file__).parents[3].joinpath("docs", "audit.md").read_text("utf-8")
    assert {str(reason) for reason in Reason} <= set(re.findall(r"`([a-z-]+)`", page))
