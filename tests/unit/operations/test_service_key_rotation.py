"""Rotation of the service key: what hangs on it outlives it, and the former key is worth nothing."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from audit_testbed import call
from click.testing import CliRunner
from operations_testbed import Operations, operations_on
from sqlalchemy import select, update
from voices_testbed import enroll, strangers

import sonant
from sonant.assembly import audit_trail, service
from sonant.assembly.installation import (
    ledger_key,
    open_store,
    rotation_lock,
    service_key_rotation,
    user_arn,
)
from sonant.assembly.installation.service_key_files import FORMER_FILE, NEXT_FILE, ServiceKeyFiles
from sonant.assembly.installation.service_key_rotation import RENEWED, rotate
from sonant.audit.chain_keys import RootKey
from sonant.audit.names import FIRST
from sonant.cli.checks.database import check_integrity
from sonant.cli.checks.keys import check_key_files
from sonant.cli.main import main
from sonant.errors import Conflict, IntegrityFault, SealBroken, SetupError, Validation
from sonant.operations.idempotency import note_use, require_first_use
from sonant.operations.service import Caller
from sonant.retention import ledger, receipts
from sonant.retention.ledger import FILE, DeletionLedger, LedgerEntry, LedgerKey
from sonant.storage.crypto.service_secret import PurposeKeys, ServiceSecret
from sonant.storage.database.row_macs import RowMacs, bound_of
from sonant.storage.database.schema import access_keys, principals
from sonant.storage.database.schema.binding import ROW_MAC
from sonant.storage.private_folder import PrivateFolder
from sonant.storage.repositories import access

SOURCE = Path(sonant.__file__).parent
#: Modules that may use a service key itself; all others use what is derived from it for one purpose.
USES_THE_KEY = {
    "assembly/installation/folders.py",  # names the file
    "assembly/installation/service_key.py",
    "assembly/installation/service_key_files.py",
    "assembly/installation/service_key_rotation.py",
    "assembly/figures.py",  # says how old it is
    "cli/checks/keys.py",  # says when it was rotated
    "storage/crypto/service_secret.py",
}


@pytest.fixture
def testbed(tmp_path, request):
    """On SQLite; on each kind of database for tests with the mark BOTH."""
    chosen = getattr(request, "param", "sqlite")
    with contextlib.ExitStack() as stack:
        server = request.getfixturevalue("postgres_server") if chosen == "postgresql" else None
        database = "" if server is None else stack.enter_context(server.migrated())
        made = operations_on(tmp_path / "data", database)
        stack.callback(made.close)
        yield made


BOTH = pytest.mark.parametrize("testbed", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def domain_id(testbed):
    made = testbed.new_domain()
    enroll(testbed, made, strangers(3))
    return made


@pytest.fixture
def other(testbed, domain_id):
    """Another process on the same data folder, which was started before the rotation."""
    made = Operations(testbed.settings, testbed.clock)
    yield made
    made.close()


def key_files(testbed):
    return ServiceKeyFiles(PrivateFolder(testbed.settings.data / "keys"))


def own_key(testbed):
    found = key_files(testbed).read()
    assert found is not None
    return found.present


def rotated(testbed, **how):
    """Rotate as the command does, in a process of its own; return the former key."""
    former = own_key(testbed)
    store = open_store(testbed.settings, clock=testbed.clock)
    try:
        rotate(store, leaked=how.pop("leaked", False), **how)
    finally:
        store.database.close()
    return former


def signed_caller(testbed):
    with testbed.store.database.read() as connection:
        principal = access.find_principal(connection, user_arn(testbed.settings))
    assert principal is not None
    return Caller(principal=principal, region="us-east-1", signature="5f" * 32)


# --- every use of the key


def test_every_use_of_the_service_key_says_how_it_is_renewed():
    assert set(RENEWED) == set(PurposeKeys.__slots__)
    source = (SOURCE / "storage/crypto/service_secret.py").read_text()
    derived = re.findall(r"self\.(\w+) = derive\(key, ", source)
    assert sorted(derived) == sorted(RENEWED)


def test_no_other_module_uses_the_key_itself():
    uses = re.compile(r"service_key_id|ServiceKeys\b|SERVICE_KEY_FILE|secret\.keys\b|service\.key\"")
    found = {
        path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if uses.search(path.read_text())
    }
    assert found <= USES_THE_KEY, found - USES_THE_KEY


# --- what outlives a rotation, in processes that were started before


@BOTH
def test_calls_go_on_in_processes_that_were_there_before(testbed, other, domain_id):
    rotated(testbed)
    assert len(other.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"]) == 3
    other.call("OptOutSpeaker", DomainId=domain_id, SpeakerId="caller-1")
    assert check_integrity(testbed.settings).endswith("rows are as they were written")


def test_access_keys_are_found_before_and_after_a_restart(testbed, other, domain_id):
    with testbed.store.database.read() as connection:
        key_id = access.list_access_keys(connection)[0].access_key_id
    before = service.credential_finder(testbed.store)(key_id)
    rotated(testbed)
    assert service.credential_finder(other.store)(key_id) == before
    testbed.restart()
    assert service.credential_finder(testbed.store)(key_id) == before


def test_repeated_request_is_known_under_the_former_key(testbed, other, domain_id):
    first = testbed.call("CreateWatchlist", DomainId=domain_id, Name="mine", ClientToken="t")["Watchlist"]
    rotated(testbed)
    again = other.call("CreateWatchlist", DomainId=domain_id, Name="mine", ClientToken="t")["Watchlist"]
    assert again["WatchlistId"] == first["WatchlistId"]
    with pytest.raises(Validation, match="other parameters"):
        other.call("CreateWatchlist", DomainId=domain_id, Name="else", ClientToken="t")


def test_signed_call_is_good_for_one_use_across_a_rotation(testbed, other, domain_id):
    caller = signed_caller(testbed)
    with testbed.store.database.write() as connection:
        note_use(testbed.service, connection, caller)
    rotated(testbed)
    with other.store.database.write() as connection, pytest.raises(Conflict):
        require_first_use(other.service, connection, caller)


def test_page_token_of_the_former_key_goes_on(testbed, other, domain_id):
    page = testbed.call("ListSpeakers", DomainId=domain_id, MaxResults=2)
    rotated(testbed)
    rest = other.call("ListSpeakers", DomainId=domain_id, MaxResults=2, NextToken=page["NextToken"])
    assert len(rest["SpeakerSummaries"]) == 1


def test_login_outlives_a_rotation_and_a_sign_out_too(testbed, other, domain_id):
    with testbed.store.database.write() as connection:
        key_id, secret = access.create_access_key(
            connection, testbed.store.secret, user_arn(testbed.settings), testbed.clock()
        )
    cookies = service.build_cookies(testbed.store)
    stays, ended = (cookies.sign_in(key_id, secret, "") for _ in range(2))
    assert stays is not None
    assert ended is not None
    kept, gone = cookies.seal(stays.ticket), cookies.seal(ended.ticket)
    cookies.end(ended.ticket.login_id)
    rotated(testbed)
    after = service.build_cookies(other.store)
    assert after.login_of(kept) is not None
    assert after.login_of(gone) is None


def test_tokens_of_the_former_key_end_after_a_day(testbed, domain_id):
    page = testbed.call("ListSpeakers", DomainId=domain_id, MaxResults=2)
    cookie = testbed.store.secret.seal_cookie(b"anything")
    rotated(testbed)
    testbed.clock.advance(hours=24)
    with pytest.raises(Validation):
        testbed.call("ListSpeakers", DomainId=domain_id, MaxResults=2, NextToken=page["NextToken"])
    with pytest.raises(SealBroken):
        testbed.store.secret.open_cookie(cookie)


def test_audit_trail_is_proven_over_two_rotations(testbed, domain_id):
    trail, close = audit_trail.open_trail(testbed.store)
    assert trail is not None
    try:
        for number in range(3):
            trail.add(call(number))
            rotated(testbed)
        trail.add(call(3))
    finally:
        close()
    report = audit_trail.verify(testbed.settings, (), testbed.store)
    assert [(one.lines, len(set(one.roots)), list(one.faults)) for one in report.reports] == [(4, 4, [])]


def test_deletions_before_and_after_are_in_one_ledger(testbed, other, domain_id):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId="caller-0")
    rotated(testbed)
    other.call("DeleteSpeaker", DomainId=domain_id, SpeakerId="caller-1")
    key = ledger_key(testbed.store.secret)
    found = ledger.read(testbed.settings.ledger_folder, key)
    assert (found.damaged, found.breaks, found.later) == ((), (), ())
    assert [one.what for one in found.entries] == ["DELETE_SPEAKER"] * 2
    assert len({one.domain for one in found.entries}) == 2  # hashed under two keys, and both are found
    assert all(one.domain in key.domains(domain_id) for one in found.entries)


def test_receipt_of_the_former_key_holds_if_the_ledger_records_it(testbed, domain_id):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId="caller-0")
    secret = testbed.store.secret
    entries = ledger.read(testbed.settings.ledger_folder, ledger_key(secret)).entries
    receipt = receipts.issue(entries, secret.receipt_seed, testbed.clock())
    former = receipts.public_key(secret.receipt_seed)
    rotated(testbed)
    assert [receipts.public_key(seed) for seed in secret.former_receipt_seeds] == [former]
    assert receipts.recorded(receipt, entries)
    forged = LedgerEntry(what="DELETE_SPEAKER", at=testbed.clock(), domain=entries[0].domain, id="f" * 64)
    assert not receipts.recorded(receipts.issue([forged], secret.receipt_seed, testbed.clock()), entries)


# --- what the former key is worth


def forged_row(testbed, former):
    """Make the denied user an administrator by a row with the MAC of the former key."""
    macs = RowMacs(ServiceSecret(former).row_mac_key)
    table = bound_of(principals)
    with testbed.store.database.write() as connection:
        wanted = principals.c.arn == user_arn(testbed.settings)
        row = connection.execute(select(principals).where(wanted)).mappings().first()
        assert row is not None
        values = {name: row[name] for name in table.names} | {"tags": '{"team":"attackers"}'}
        statement = update(principals).where(principals.c.arn == values["arn"])
        connection.execute(statement.values({"tags": values["tags"], ROW_MAC: macs.make(table, values)}))


def test_row_with_a_mac_of_the_former_key_is_refused(testbed, domain_id):
    former = rotated(testbed)
    forged_row(testbed, former)
    with pytest.raises(IntegrityFault), testbed.store.database.read() as connection:
        access.find_principal(connection, user_arn(testbed.settings))


def test_secrets_of_access_keys_do_not_open_with_the_former_key(testbed, domain_id):
    former = ServiceSecret(rotated(testbed))
    with testbed.store.database.read() as connection:
        row = connection.execute(select(access_keys)).first()
    assert row is not None
    with pytest.raises(SealBroken):
        former.open_access_secret(row.access_key_id, row.secret_sealed)


def test_cookie_forged_with_a_leaked_key_is_refused(testbed, other, domain_id):
    forged = ServiceSecret(own_key(testbed)).seal_cookie(b"{}")
    assert other.store.secret.open_cookie(forged) == b"{}"
    rotated(testbed, leaked=True)
    with pytest.raises(SealBroken):
        other.store.secret.open_cookie(forged)


def test_ledger_line_of_the_former_key_behind_the_new_one_is_damaged(testbed, domain_id):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId="caller-0")
    former = LedgerKey(ServiceSecret(rotated(testbed)).ledger_key)
    folder = testbed.settings.ledger_folder
    forged = LedgerEntry(what="DELETE_SPEAKER", at=testbed.clock(), domain="0" * 64, id="1" * 64)
    DeletionLedger(folder, former).append([forged])
    found = ledger.read(folder, ledger_key(testbed.store.secret))
    assert (len(found.entries), found.damaged) == (1, (4,))


def test_ledger_lines_rewritten_with_the_former_key_show(testbed, domain_id):
    for number in range(2):
        testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=f"caller-{number}")
    former = LedgerKey(ServiceSecret(rotated(testbed)).ledger_key)
    file = testbed.settings.ledger_folder / FILE
    kept = file.read_bytes().splitlines(keepends=True)
    file.unlink()
    only_one = LedgerEntry.from_json(json.loads(kept[0]))
    DeletionLedger(file.parent, former).append([only_one])
    with file.open("ab") as rewritten:
        rewritten.writelines(kept[2:])  # the marks of the rotation
    found = ledger.read(file.parent, ledger_key(testbed.store.secret))
    assert found.breaks


def test_chain_goes_on_under_the_new_root_in_a_running_service(testbed, domain_id):
    trail, close = audit_trail.open_trail(testbed.store)
    assert trail is not None
    trail.add(call(0))
    former = ServiceSecret(own_key(testbed)).audit_root
    rotated(testbed)
    trail.add(call(1))
    close()
    keys = audit_trail.audit_keys(testbed.settings, testbed.store.secret)
    state = keys.read(FIRST)
    assert state is not None
    assert keys.is_replaced(RootKey(kept=False, key=former).key_id)
    assert not keys.is_replaced(state.root)


# --- interruptions, other writers, other hosts


class Killed(Exception):
    """The end of the process that rotates."""


@pytest.mark.parametrize("step", ["prepare", "switch", "renew", "access keys", "rows", "ledger", "finish"])
def test_interrupted_rotation_serves_on_and_is_finished_by_the_next(testbed, other, domain_id, step):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId="caller-0")

    def kill(at):
        if at == step:
            raise Killed

    before = own_key(testbed)
    with pytest.raises(Killed):
        rotated(testbed, between=kill)
    other.call("OptOutSpeaker", DomainId=domain_id, SpeakerId="caller-1")
    other.restart()
    assert len(other.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"]) == 2
    rotated(testbed)
    assert own_key(testbed) != before
    keys = key_files(testbed).read()
    assert keys is not None
    assert keys.unfinished is None
    assert len(keys.former) == 1
    assert check_integrity(testbed.settings)
    found = ledger.read(testbed.settings.ledger_folder, ledger_key(testbed.store.secret))
    assert (len(found.entries), found.damaged, found.breaks) == (2, (), ())


def test_switch_in_the_database_alone_is_taken_over_at_the_next_start(testbed, domain_id, monkeypatch):
    def cut(_files):
        raise Killed

    monkeypatch.setattr(ServiceKeyFiles, "promote", cut)
    with pytest.raises(Killed):
        rotated(testbed)
    monkeypatch.undo()
    testbed.restart()
    assert len(testbed.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"]) == 3
    rotated(testbed)
    assert check_integrity(testbed.settings)


@BOTH
def test_rows_written_while_others_are_bound_have_the_new_key(testbed, other, domain_id):
    made = []

    def write(step):
        made.append(
            other.call("CreateWatchlist", DomainId=domain_id, Name=f"at-{step}".replace(" ", "-"))[
                "Watchlist"
            ]
        )

    rotated(testbed, between=write)
    assert len(made) == 7
    assert check_integrity(testbed.settings)
    assert len(testbed.call("ListWatchlists", DomainId=domain_id)["WatchlistSummaries"]) == 8


@contextlib.contextmanager
def host(testbed, data):
    """Another host of the same database: a copy of the folder `keys`, and a store opened with it."""
    (data / "keys").mkdir(mode=0o700, parents=True)
    for file in (testbed.settings.data / "keys").iterdir():
        if file.is_file() and not file.name.startswith("."):
            (data / "keys" / file.name).write_bytes(file.read_bytes())
            (data / "keys" / file.name).chmod(0o600)
    database = testbed.settings.database or f"sqlite:///{testbed.settings.data / 'sonant.db'}"
    settings = replace(testbed.settings, data=data, database=database)
    made = Operations(settings, testbed.clock)
    try:
        yield made
    finally:
        made.close()


@BOTH
def test_host_with_the_prepared_key_follows_without_a_restart(testbed, domain_id, tmp_path):
    with host(testbed, tmp_path / "other") as follower:
        service_key_rotation.prepare(testbed.settings)
        copied = tmp_path / "other" / "keys" / NEXT_FILE
        copied.write_bytes((testbed.settings.data / "keys" / NEXT_FILE).read_bytes())
        copied.chmod(0o600)
        rotated(testbed)
        assert len(follower.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"]) == 3
        follower.call("CreateWatchlist", DomainId=domain_id, Name="of-the-other-host")
        assert own_key(follower) == own_key(testbed)
        follower.restart()
        keys = key_files(follower).read()
        assert keys is not None
        assert keys.unfinished is None  # the database says that the rotation was finished
    assert check_integrity(testbed.settings)


def test_host_without_the_new_key_is_refused_until_it_is_copied(testbed, domain_id, tmp_path):
    with host(testbed, tmp_path / "other") as stranger:
        rotated(testbed)
        with pytest.raises(IntegrityFault):
            stranger.call("ListSpeakers", DomainId=domain_id)
        for name in (FORMER_FILE, "service.key"):
            copied = tmp_path / "other" / "keys" / name
            copied.write_bytes((testbed.settings.data / "keys" / name).read_bytes())
            copied.chmod(0o600)
        assert len(stranger.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"]) == 3


def test_rotation_and_backup_exclude_each_other(testbed, domain_id):
    with rotation_lock(testbed.settings, exclusive=False), pytest.raises(SetupError, match="a backup made"):
        rotated(testbed)


def test_former_keys_are_kept_in_order(testbed, domain_id):
    first = rotated(testbed)
    testbed.clock.advance(days=1)
    second = rotated(testbed)
    keys = key_files(testbed).read()
    assert keys is not None
    assert [one.key for one in keys.former] == [second, first]
    assert keys.former[0].replaced_at is not None
    assert keys.former[0].replaced_at - keys.former[1].replaced_at == timedelta(days=1)


def test_command_prepares_rotates_and_says_what_to_do(testbed, domain_id):
    data = ["--data", str(testbed.settings.data), "--output", "json", "key", "rotate-service"]
    prepared = CliRunner().invoke(main, [*data, "--prepare"])
    assert prepared.exit_code == 0, prepared.output
    assert (testbed.settings.data / "keys" / NEXT_FILE).exists()
    done = CliRunner().invoke(main, data)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["KeyId"] == json.loads(prepared.stdout)["KeyId"]
    assert told["AccessKeysSealed"] == 2
    assert told["RowsBound"] > 10


def test_doctor_names_a_rotation_that_is_not_finished(testbed, domain_id):
    def kill(at):
        if at == "rows":
            raise Killed

    assert check_key_files(testbed.settings).endswith("service key never rotated")
    with pytest.raises(Killed):
        rotated(testbed, between=kill)
    with pytest.raises(SetupError, match="run `sonant key rotate-service`"):
        check_key_files(testbed.settings)
    rotated(testbed)
    assert check_key_files(testbed.settings).endswith("service key rotated last on 2026-03-01")


def test_changed_rows_stay_refused_and_stop_no_rotation(testbed, domain_id):
    with testbed.store.database.write() as connection:
        made, _ = access.create_access_key(
            connection, testbed.store.secret, user_arn(testbed.settings), testbed.clock()
        )
        connection.exec_driver_sql(f"UPDATE access_keys SET expires_at = 1 WHERE access_key_id = '{made}'")
    rotated(testbed)
    with pytest.raises(SetupError, match=f"access_keys {made}: does not match its MAC"):
        check_integrity(testbed.settings)
