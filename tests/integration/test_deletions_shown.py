"""Deletions outlive a restore by the ledger, and are shown by receipts and by a search for remains."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from kept_testbed import add_fraudster
from operations_testbed import operations_on
from sessions_testbed import store_speech, written
from voices_testbed import enroll, strangers

from sonant.assembly.installation import open_store
from sonant.assembly.installation.service_key_rotation import rotate
from sonant.backup import sealed_file
from sonant.backup.create import create
from sonant.backup.restore import restore
from sonant.cli.checks.database import check_integrity
from sonant.cli.main import main
from sonant.errors import SetupError
from sonant.retention import ledger, receipts
from sonant.retention.ledger import LedgerKey
from sonant.storage.database.schema import erased_speakers, speaker_keys
from sonant.storage.repositories import fraud_voices, speakers
from sonant.storage.times import now

SECRET = "correct horse battery"
VOICES = strangers(4)
STAYS, DELETED, OPTED_OUT, BOTH = (f"caller-{number}" for number in range(4))


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Scrypt costs half a second, on purpose."""
    before, sealed_file.COST = sealed_file.COST, 2**4
    yield
    sealed_file.COST = before


@pytest.fixture
def testbed(tmp_path):
    made = operations_on(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture
def domain_id(testbed):
    """A domain with four enrolled speakers, each with a call."""
    domain_id = testbed.new_domain()
    enroll(testbed, domain_id, VOICES)
    for number in range(len(VOICES)):
        testbed.call(
            "StartSession", DomainId=domain_id, SessionName=f"call-{number}", SpeakerId=f"caller-{number}"
        )
        store_speech(testbed, domain_id, f"call-{number}", VOICES[number])
    return domain_id


@pytest.fixture
def backup(testbed, domain_id, tmp_path):
    """A backup of before the deletions."""
    create(testbed.settings, tmp_path / "sonant.backup", SECRET.encode(), now)
    return tmp_path / "sonant.backup"


def statuses(testbed, domain_id):
    found = testbed.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"]
    return {one["CustomerSpeakerId"]: one["Status"] for one in found}


def restored_from(testbed, backup, folder, *ledgers):
    """Restore beside the installation; return the new one and what was deleted again."""
    settings = replace(testbed.settings, data=folder)
    repeated = restore(settings, backup, SECRET.encode(), ledgers, testbed.clock).repeated
    return operations_of(settings), repeated


def operations_of(settings):
    from operations_testbed import MovedClock, Operations

    return Operations(settings, MovedClock())


def erase_all(testbed, domain_id):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=DELETED)
    testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId=OPTED_OUT)
    testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId=BOTH)
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=BOTH)
    testbed.call("ImportOptOuts", DomainId=domain_id, SpeakerIds=["never-seen", OPTED_OUT])


# --- restore


def test_restore_deletes_again_on_its_own(testbed, domain_id, backup, tmp_path):
    erase_all(testbed, domain_id)
    after, repeated = restored_from(testbed, backup, tmp_path / "new")
    assert statuses(after, domain_id) == {STAYS: "ENROLLED", OPTED_OUT: "OPTED_OUT"}
    assert (repeated.speakers_deleted, repeated.speakers_opted_out, repeated.opt_outs_remembered) == (2, 1, 1)
    assert repeated.ledgers == [str(testbed.settings.ledger_folder)]
    with after.store.database.read() as connection:
        assert speakers.count(connection, domain_id) == 2
    after.close()


def test_restore_leaves_what_was_deleted_before_the_backup(testbed, domain_id, tmp_path):
    erase_all(testbed, domain_id)
    file = tmp_path / "late.backup"
    create(testbed.settings, file, SECRET.encode(), now)
    after, repeated = restored_from(testbed, file, tmp_path / "new")
    assert repeated.total == 0
    assert statuses(after, domain_id) == statuses(testbed, domain_id)
    after.close()


def test_opt_out_of_one_who_is_not_in_the_backup_holds_after_a_restore(testbed, domain_id, backup, tmp_path):
    erase_all(testbed, domain_id)
    after, _ = restored_from(testbed, backup, tmp_path / "new")
    with written(after, domain_id) as (connection, _domain, vault):
        found = speakers.find_status(connection, domain_id, vault.lookup("never-seen"))
        assert found == speakers.SpeakerStatus("OPTED_OUT", None)
    after.call("StartSession", DomainId=domain_id, SessionName="new", SpeakerId="never-seen")
    assert statuses(after, domain_id)["never-seen"] == "OPTED_OUT"
    after.close()


def test_repeated_opt_out_without_an_entry_can_be_deleted(testbed, domain_id, backup, tmp_path):
    erase_all(testbed, domain_id)
    after, _ = restored_from(testbed, backup, tmp_path / "new")
    after.call("DeleteSpeaker", DomainId=domain_id, SpeakerId="never-seen")
    after.call("StartSession", DomainId=domain_id, SessionName="new", SpeakerId="never-seen")
    assert statuses(after, domain_id)["never-seen"] == "PENDING"
    after.close()


def test_restore_destroys_the_key_of_one_who_opted_out(testbed, domain_id, backup, tmp_path):
    erase_all(testbed, domain_id)
    key = LedgerKey(testbed.store.secret.ledger_key)
    destroyed = {
        one.wrapped
        for entry in ledger.read(testbed.settings.ledger_folder, key).entries
        for one in entry.keys
    }
    after, repeated = restored_from(testbed, backup, tmp_path / "new")
    with after.store.database.read() as connection:
        wrapped = connection.execute(speaker_keys.select()).all()
    assert repeated.keys_not_renewed == 0
    assert not destroyed & {key.destroyed(row.wrapped) for row in wrapped}
    after.close()


def test_second_restore_needs_only_the_new_ledger(testbed, domain_id, backup, tmp_path):
    erase_all(testbed, domain_id)
    second, _ = restored_from(testbed, backup, tmp_path / "second")
    second.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=STAYS)
    (testbed.settings.ledger_folder / ledger.FILE).unlink()
    third, repeated = restored_from(testbed, backup, tmp_path / "third", second.settings.ledger_folder)
    assert (repeated.speakers_deleted, repeated.speakers_opted_out) == (3, 1)
    assert statuses(third, domain_id) == {OPTED_OUT: "OPTED_OUT"}
    second.close()
    third.close()


def test_restore_into_a_folder_with_nothing_but_the_ledger_reads_it(testbed, domain_id, backup, tmp_path):
    erase_all(testbed, domain_id)
    data = tmp_path / "new"
    data.mkdir(mode=0o700)
    testbed.settings.ledger_folder.rename(data / "deletions")
    after, repeated = restored_from(testbed, backup, data)
    assert repeated.speakers_deleted == 2
    key = LedgerKey(after.store.secret.ledger_key)
    assert len(ledger.read(data / "deletions", key).entries) == 5
    after.close()


def test_ledger_is_in_no_backup(testbed, domain_id, tmp_path):
    erase_all(testbed, domain_id)
    file = tmp_path / "late.backup"
    create(testbed.settings, file, SECRET.encode(), now)
    names = [
        line.get("file", "") for line in sealed_file.read(file, SECRET.encode()) if isinstance(line, dict)
    ]
    assert not any("deletions" in name for name in names)


def test_restore_deletes_fraudsters_watchlists_and_domains_again(testbed, domain_id, tmp_path):
    watchlist_id = testbed.call("CreateWatchlist", DomainId=domain_id, Name="x")["Watchlist"]["WatchlistId"]
    fraudster_id, _ = add_fraudster(testbed, domain_id)
    suspended, erased = testbed.new_domain(), testbed.new_domain()
    file = tmp_path / "sonant.backup"
    create(testbed.settings, file, SECRET.encode(), now)
    testbed.call("DeleteFraudster", DomainId=domain_id, FraudsterId=fraudster_id)
    testbed.call("DeleteWatchlist", DomainId=domain_id, WatchlistId=watchlist_id)
    from sonant.assembly import jobs as app_jobs

    testbed.call("DeleteDomain", DomainId=erased)
    testbed.clock.advance(days=31)
    app_jobs.build_housekeeper(testbed.store).erase_domains()
    testbed.call("DeleteDomain", DomainId=suspended)
    after, repeated = restored_from(testbed, file, tmp_path / "new")
    assert (repeated.fraudsters_deleted, repeated.watchlists_deleted) == (1, 1)
    assert (repeated.domains_deleted, repeated.domains_erased) == (1, 1)
    with after.store.database.read() as connection:
        assert fraud_voices.ids(connection, domain_id, None) == []
    found = after.call("ListDomains")["DomainSummaries"]
    assert {one["DomainId"]: one["DomainStatus"] for one in found} == {
        domain_id: "ACTIVE",
        suspended: "SUSPENDED",
    }
    after.close()


def test_domain_that_was_restored_since_is_left_active(testbed, domain_id, backup, tmp_path):
    testbed.call("DeleteDomain", DomainId=domain_id)
    testbed.clock.advance(hours=1)
    testbed.call("RestoreDomain", DomainId=domain_id)
    after, repeated = restored_from(testbed, backup, tmp_path / "new")
    assert repeated.domains_deleted == 0
    assert len(statuses(after, domain_id)) == 4
    after.close()


def test_restored_job_does_not_enroll_the_deleted_again(testbed, domain_id, backup, tmp_path):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=DELETED)
    after, _ = restored_from(testbed, backup, tmp_path / "new")
    with after.store.database.read() as connection:
        assert [row.status for row in connection.execute(erased_speakers.select())] == ["DELETED"]
    after.close()


# --- commands


@pytest.fixture
def sonant(testbed, monkeypatch):
    """Run a command on the testbed's folder, and return its JSON document."""
    monkeypatch.setenv("SONANT_BACKUP_PASSPHRASE", SECRET)

    def run(*arguments, exits=0, data=testbed.settings.data):
        flags = ("--data", str(data), "--output", "json")
        outcome = CliRunner().invoke(main, [*map(str, arguments), *flags])
        if isinstance(outcome.exception, Exception):
            raise outcome.exception
        assert outcome.exit_code == exits, outcome.output
        return json.loads(outcome.stdout)

    return run


def test_restore_command_reports_what_it_deleted_again(testbed, domain_id, backup, sonant, tmp_path):
    erase_all(testbed, domain_id)
    found = sonant("restore", backup, data=tmp_path / "new")["RepeatedDeletions"]
    assert (found["SpeakersDeleted"], found["SpeakersOptedOut"], found["OptOutsRemembered"]) == (2, 1, 1)


def test_receipt_states_what_was_deleted_and_which_keys(testbed, domain_id, sonant):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=DELETED)
    found = sonant("speaker", "receipt", domain_id, DELETED)
    (deletion,) = found["deletions"]
    assert (deletion["action"], deletion["at"]) == ("DELETE_SPEAKER", testbed.clock().isoformat())
    assert [key["kind"] for key in deletion["destroyedKeys"]] == ["speaker", "session"]
    assert DELETED not in json.dumps(found)
    assert domain_id not in json.dumps(found)


def test_receipt_holds_and_is_bound_to_its_person(testbed, domain_id, sonant, tmp_path):
    speaker_id = generated_id(testbed, domain_id, DELETED)
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=DELETED)
    file = tmp_path / "receipt.json"
    sonant("speaker", "receipt", domain_id, speaker_id, "--out", file)
    assert sonant("speaker", "verify-receipt", file)["Valid"] is True
    of = ("--domain-id", domain_id, "--speaker-id")
    sonant("speaker", "verify-receipt", file, *of, speaker_id)
    with pytest.raises(SetupError, match="another person"):
        sonant("speaker", "verify-receipt", file, *of, "id#" + "0" * 22)


def test_receipt_is_verified_by_the_public_key_alone(testbed, domain_id, sonant, tmp_path):
    testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId="new")
    file = tmp_path / "receipt.json"
    sonant("speaker", "receipt", domain_id, "new", "--out", file)
    key = sonant("speaker", "receipt-key")["PublicKey"]
    elsewhere = tmp_path / "nowhere"
    assert sonant("speaker", "verify-receipt", file, "--public-key", key, data=elsewhere)["Valid"] is True
    other = receipts.public_key(bytes(32))
    with pytest.raises(SetupError, match="another public key"):
        sonant("speaker", "verify-receipt", file, "--public-key", other, data=elsewhere)


@pytest.mark.parametrize("member", ["person", "domain", "issuedAt", "signature", "deletions"])
def test_changed_receipt_does_not_hold(testbed, domain_id, sonant, tmp_path, member):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=DELETED)
    document = sonant("speaker", "receipt", domain_id, DELETED)
    if member == "deletions":
        document[member][0]["at"] = "2020-01-01T00:00:00+00:00"
    else:
        document[member] = "0" * len(document[member])
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(document))
    with pytest.raises(SetupError, match="was changed"):
        sonant("speaker", "verify-receipt", file)


def test_no_receipt_without_a_deletion(testbed, domain_id, sonant):
    with pytest.raises(SetupError, match="records no deletion"):
        sonant("speaker", "receipt", domain_id, STAYS)


def generated_id(testbed, domain_id, customer_id):
    found = testbed.call("DescribeSpeaker", DomainId=domain_id, SpeakerId=customer_id)
    return found["Speaker"]["GeneratedSpeakerId"]


@pytest.mark.parametrize("operation", ["DeleteSpeaker", "OptOutSpeaker"])
@pytest.mark.parametrize("by", ["customer", "generated"])
def test_nothing_is_left_after_an_erasure(testbed, domain_id, sonant, operation, by):
    speaker_id = generated_id(testbed, domain_id, DELETED)
    testbed.call(operation, DomainId=domain_id, SpeakerId=DELETED)
    named = DELETED if by == "customer" else speaker_id
    found = sonant("speaker", "prove-deleted", domain_id, named)
    assert (found["Deleted"], found["Remains"]) == (True, [])
    assert {"deletion ledger", "database", "database files", "objects"} <= set(found["Checked"])


def what_is_left(sonant, *arguments):
    found = sonant("speaker", "prove-deleted", *arguments, exits=1)
    assert found["Deleted"] is False
    return {(one["Place"], one["What"]) for one in found["Remains"]}


def test_one_who_is_still_there_is_found_everywhere(testbed, domain_id, sonant):
    speaker_id = generated_id(testbed, domain_id, DELETED)
    database = testbed.settings.data / "sonant.db"
    assert what_is_left(sonant, domain_id, speaker_id) == {
        ("deletion ledger", "no record of a deletion"),
        ("database, table speakers", "entry with the customer's id"),
        ("database, table speaker_keys", "data key"),
        ("database, table voiceprints", "voice data"),
        ("database, table session_hearings", "voice of a call"),
        (f"file {database}", f"data key of {speaker_id}"),
    }
    assert (f"file {database}", "keyed hash of the customer's id") in what_is_left(sonant, domain_id, DELETED)


def test_backup_of_before_is_found(testbed, domain_id, backup, sonant):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=DELETED)
    found = what_is_left(sonant, domain_id, DELETED, "--backup", backup)
    assert found == {
        (f"backup {backup}, table speakers", "entry with the customer's id"),
        (f"backup {backup}, table speaker_keys", "destroyed key"),
        (f"backup {backup}, table voiceprints", "voice data"),
        (f"backup {backup}, table sessions", "destroyed key"),
    }


def test_backup_of_before_an_opt_out_holds_the_voice(testbed, domain_id, backup, sonant):
    testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId=DELETED)
    found = what_is_left(sonant, domain_id, DELETED, "--backup", backup)
    assert (f"backup {backup}, table voiceprints", "voice data") in found
    assert (f"backup {backup}, table speakers", "entry with the customer's id") not in found


def test_manifest_that_names_the_deleted_is_found(testbed, domain_id, sonant):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=DELETED)
    manifest = testbed.settings.data / "buckets" / "jobs" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(b" " * (1 << 20) + json.dumps({"SpeakerId": DELETED}).encode())
    assert what_is_left(sonant, domain_id, DELETED) == {(f"object {manifest}", "customer's id")}


# --- rotations of the service key


def rotated(testbed):
    store = open_store(testbed.settings, clock=testbed.clock)
    rotate(store, leaked=False)
    store.database.close()


def test_restore_refuses_deletions_under_a_later_key(testbed, domain_id, backup, tmp_path):
    rotated(testbed)
    erase_all(testbed, domain_id)
    with pytest.raises(SetupError, match=r"\d deletions were recorded after a rotation.*--later-keys"):
        restored_from(testbed, backup, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_restore_with_the_later_keys_repeats_deletions_of_both(testbed, domain_id, backup, tmp_path):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=DELETED)
    rotated(testbed)
    testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId=OPTED_OUT)
    settings = replace(testbed.settings, data=tmp_path / "new")
    later = testbed.settings.data / "keys"
    done = restore(settings, backup, SECRET.encode(), (), testbed.clock, later_keys=later).repeated
    assert (done.speakers_deleted, done.speakers_opted_out, done.damaged_lines) == (1, 1, 0)
    after = operations_of(settings)
    try:
        assert statuses(after, domain_id) == {STAYS: "ENROLLED", OPTED_OUT: "OPTED_OUT", BOTH: "ENROLLED"}
        assert after.store.secret.keys.present == testbed.store.secret.keys.present
        rotated(after)  # finishes the rotation that the backup did not have
        assert after.store.secret.keys.unfinished is None
        assert statuses(after, domain_id)[STAYS] == "ENROLLED"
        assert check_integrity(settings)
    finally:
        after.close()


def test_restore_goes_on_without_lost_keys_if_told_to(testbed, domain_id, backup, tmp_path):
    rotated(testbed)
    erase_all(testbed, domain_id)
    settings = replace(testbed.settings, data=tmp_path / "new")
    done = restore(settings, backup, SECRET.encode(), (), testbed.clock, ignore_later=True).repeated
    assert (done.total, done.later_lines) == (0, 6)


def test_keys_of_another_installation_are_no_later_keys(testbed, domain_id, backup, tmp_path):
    stranger = operations_on(tmp_path / "stranger")
    stranger.close()
    settings = replace(testbed.settings, data=tmp_path / "new")
    with pytest.raises(SetupError, match="did not follow that of the backup"):
        restore(settings, backup, SECRET.encode(), later_keys=tmp_path / "stranger" / "keys")


def test_receipt_of_before_a_rotation_is_verified_by_the_command(testbed, domain_id, tmp_path):
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=DELETED)
    data, file = ("--data", str(testbed.settings.data)), str(tmp_path / "receipt.json")
    issued = CliRunner().invoke(main, [*data, "speaker", "receipt", domain_id, DELETED, "--out", file])
    assert issued.exit_code == 0, issued.output
    rotated(testbed)
    done = CliRunner().invoke(main, [*data, "speaker", "verify-receipt", file, "--domain-id", domain_id])
    assert (done.exit_code, "DELETE_SPEAKER at" in done.output) == (0, True), done.output
    (testbed.settings.ledger_folder / ledger.FILE).unlink()
    refused = CliRunner().invoke(main, [*data, "speaker", "verify-receipt", file])
    assert isinstance(refused.exception, SetupError)
    assert "the deletion ledger does not record what it says" in str(refused.exception)
