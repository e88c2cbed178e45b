"""The deletion ledger's file: entries, codes, damage, and several writers."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sonant.errors import InternalServer, SetupError
from sonant.retention import ledger
from sonant.retention.ledger import (
    FILE,
    DeletionLedger,
    DestroyedKey,
    LedgerEntry,
    LedgerKey,
    LedgerTransaction,
)

KEY = LedgerKey(bytes(32))
NOON = datetime(2028, 2, 29, 12, tzinfo=UTC)
ENTRY = LedgerEntry(
    what="DELETE_SPEAKER",
    at=NOON,
    domain=KEY.domain("d"),
    id=KEY.member("d", "id#1"),
    customer="ab" * 32,
    keys=(DestroyedKey(kind="speaker", wrapped=KEY.destroyed(b"w")),),
)


def another(number):
    return replace(ENTRY, id=KEY.member("d", f"id#{number}"), entry=f"entry-{number}")


@pytest.fixture
def written(tmp_path):
    """A ledger with three entries."""
    made = DeletionLedger(tmp_path / "deletions", KEY)
    made.append([another(1)])
    made.append([another(2), another(3)])
    return made


def lines(of):
    return (of.folder / FILE).read_bytes().splitlines(keepends=True)


def test_entries_are_read_as_they_were_written(written):
    assert ledger.read(written.folder, KEY).entries == (another(1), another(2), another(3))


def test_absent_ledger_is_empty(tmp_path):
    assert ledger.read(tmp_path / "nowhere", KEY) == ledger.LedgerFile()


def test_hashes_of_different_things_differ():
    hashes = [
        KEY.domain("a"),
        KEY.member("a", "b"),
        KEY.member("ab", ""),
        KEY.member("", "ab"),
        KEY.destroyed(b"a"),
        LedgerKey(b"k" * 32).domain("a"),
    ]
    assert len(set(hashes)) == len(hashes)


def test_changed_line_is_damaged_and_shows_as_a_break(written):
    whole = lines(written)
    whole[1] = whole[1].replace(b"DELETE_SPEAKER", b"DELETE_DOMAIN_")
    (written.folder / FILE).write_bytes(b"".join(whole))
    found = ledger.read(written.folder, KEY)
    assert (found.damaged, found.breaks) == ((2,), (3,))
    assert found.entries == (another(1), another(3))


def test_removed_line_shows_as_a_break(written):
    first, _, last = lines(written)
    (written.folder / FILE).write_bytes(first + last)
    found = ledger.read(written.folder, KEY)
    assert (found.damaged, found.breaks, found.entries) == ((), (2,), (another(1), another(3)))


def test_line_of_another_installation_counts_as_damaged(written):
    assert ledger.read(written.folder, LedgerKey(b"k" * 32)).damaged == (1, 2, 3)


def test_line_that_a_crash_cut_off_costs_that_line_only(written):
    *before, last = lines(written)
    (written.folder / FILE).write_bytes(b"".join(before) + last[:50])
    written.append([another(4)])
    found = ledger.read(written.folder, KEY)
    assert (found.damaged, found.breaks) == ((3,), ())
    assert found.entries == (another(1), another(2), another(4))


def test_voided_entries_are_left_out(written):
    written.append([LedgerEntry(what="VOID", at=NOON, voids=("entry-1", "entry-3"))])
    assert ledger.read(written.folder, KEY).entries == (another(2),)


def test_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(SetupError, match="cannot be read"):
        ledger.read(tmp_path, KEY)


def append_some(folder, number):
    for one in range(20):
        DeletionLedger(folder, KEY).append([another(100 * number + one)])


def test_several_processes_write_one_unbroken_chain(tmp_path):
    folder, context = tmp_path / "deletions", multiprocessing.get_context("fork")
    writers = [context.Process(target=append_some, args=(folder, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = ledger.read(folder, KEY)
    assert (len(found.entries), found.damaged, found.breaks) == (60, (), ())


# --- with a transaction


def test_entries_of_a_transaction_are_written_before_it_commits(tmp_path):
    made, seen = DeletionLedger(tmp_path, KEY), []
    with LedgerTransaction(made) as entries:
        with entries.before_commit():
            entries.add(ENTRY)
            seen.append(ledger.read(tmp_path, KEY).entries)
        seen.append(ledger.read(tmp_path, KEY).entries)
    assert seen == [(), (ENTRY,)]


def test_entries_of_a_failed_transaction_are_not_written(tmp_path):
    with (
        pytest.raises(ValueError, match="refused"),
        LedgerTransaction(DeletionLedger(tmp_path, KEY)) as entries,
        entries.before_commit(),
    ):
        entries.add(ENTRY)
        raise ValueError("refused")
    assert not (tmp_path / FILE).exists()


def test_entries_of_a_failed_commit_are_voided(tmp_path):
    with (
        pytest.raises(ValueError, match="no commit"),
        LedgerTransaction(DeletionLedger(tmp_path, KEY)) as entries,
    ):
        with entries.before_commit():
            entries.add(ENTRY)
        raise ValueError("no commit")
    assert ledger.read(tmp_path, KEY).entries == ()
    assert len((tmp_path / FILE).read_bytes().splitlines()) == 2


def test_ledger_that_cannot_be_written_stops_the_transaction(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with (
        pytest.raises(InternalServer),
        LedgerTransaction(DeletionLedger(blocked, KEY)) as entries,
        entries.before_commit(),
    ):
        entries.add(ENTRY)


def test_switched_off_ledger_records_nothing():
    with LedgerTransaction(None) as entries, entries.before_commit():
        assert entries.key is None
