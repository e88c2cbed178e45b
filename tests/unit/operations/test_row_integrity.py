"""What somebody who can write to the database, and has no keys, cannot bring about."""

from __future__ import annotations

import numpy as np
import pytest
from made_samples import made_result
from sqlalchemy import select, text, update
from voices_testbed import enroll, strangers

from sonant.cli.checks.database import check_integrity
from sonant.errors import IntegrityFault, ResourceNotFound, SealBroken, SetupError
from sonant.jobs.calibration_cache import domain_calibration
from sonant.jobs.voiceprints import store_voiceprint
from sonant.storage import row_binding
from sonant.storage.crypto.vault import open_vault
from sonant.storage.database import bound_connection, row_macs, schema
from sonant.storage.database.schema.binding import BOUND
from sonant.storage.integrity_walk import walk
from sonant.storage.repositories import access, domains, speakers, templates
from sonant.storage.row_binding import RECORD_FILE, bind_again
from sonant.voice.calibration.file import calibration_of
from sonant.voice.models import shipped_encoder_id

ADMIN = "arn:aws:iam::000000000000:user/sonant"
DENIED = "arn:aws:iam::000000000000:user/denied"


@pytest.fixture
def domain_id(testbed):
    return testbed.new_domain()


def attack(testbed, statement, **values):
    """Write to the database as one may who has no keys."""
    with testbed.store.database.write() as connection:
        connection.execute(text(statement), values)


def opened(testbed, connection, domain_id):
    domain = domains.find_by_id(connection, domain_id)
    assert domain is not None
    return open_vault(testbed.store.keys, domain_id, domain.arn, domain.data_key_wrapped)


def enroll_again(testbed, domain_id, customer_id, vector):
    """Store a new voiceprint of a speaker, as jobs and live calls do."""
    with testbed.store.database.write() as connection:
        vault = opened(testbed, connection, domain_id)
        speaker = speakers.find(connection, vault, domain_id, customer_id)
        assert speaker is not None
        result = made_result(vector, model_id=shipped_encoder_id(), snr_db=25.0)
        store_voiceprint(connection, vault, domain_id, speaker, result, testbed.clock())


def voice_of(testbed, domain_id, customer_id):
    with testbed.store.database.read() as connection:
        vault = opened(testbed, connection, domain_id)
        speaker = speakers.find(connection, vault, domain_id, customer_id)
        assert speaker is not None
        sample = speakers.load_sample(connection, vault, speaker)
        assert sample is not None
        return templates.open_spaces(connection, vault.templates).original(sample)


def rows(testbed, table, key):
    """A table's row as a database writer keeps it to put it back later."""
    with testbed.store.database.read() as connection:
        found = connection.execute(text(f"SELECT * FROM {table} WHERE speaker_id = :key"), {"key": key})
        return dict(found.mappings().one())


def put_back(testbed, table, row):
    attack(testbed, f"DELETE FROM {table} WHERE speaker_id = :key", key=row["speaker_id"])
    places = ", ".join(f":{name}" for name in row)
    attack(testbed, f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", **row)


def faults(testbed):
    return {(fault.table, fault.key) for fault in walk(testbed.store.database, testbed.store.backends.keys)}


# --- each sentence of the finding


def test_stranger_does_not_become_somebody_else_by_an_exchange_of_hashes(testbed, domain_id):
    one, two = enroll(testbed, domain_id, strangers(2))
    hashes = [bytes(rows(testbed, "speakers", key)["customer_id_hash"]) for key in (one, two)]
    set_hash = "UPDATE speakers SET customer_id_hash = :hash WHERE speaker_id = :key"
    for key, value in ((one, b"-"), (two, hashes[0]), (one, hashes[1])):
        attack(testbed, set_hash, key=key, hash=value)
    with pytest.raises(IntegrityFault, match="speakers"):
        voice_of(testbed, domain_id, "caller-0")
    assert faults(testbed) == {("speakers", one), ("speakers", two)}


def test_customers_id_of_another_is_an_integrity_fault_whatever_the_mac(testbed, domain_id):
    """Even whoever could make MACs would meet the id that is sealed in the row."""
    one, two = enroll(testbed, domain_id, strangers(2))
    with testbed.store.database.write() as connection:
        hashes = schema.speakers.c.customer_id_hash
        of_one = connection.execute(select(hashes).where(schema.speakers.c.speaker_id == one)).scalar()
        for key, value in ((one, b"-"), (two, of_one)):
            changed = update(schema.speakers).where(schema.speakers.c.speaker_id == key)
            connection.execute(changed.values(customer_id_hash=value))
    with pytest.raises(IntegrityFault, match="customer's id"):
        testbed.call("DescribeSpeaker", DomainId=domain_id, SpeakerId="caller-0")
    assert ("speakers", two) in faults(testbed)


@pytest.mark.parametrize("status", ["OPTED_OUT", "ENROLLED", "PENDING"])
def test_status_of_a_speaker_cannot_be_changed(testbed, domain_id, status):
    enroll(testbed, domain_id, strangers(1))
    if status == "ENROLLED":
        testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId="caller-0")
    attack(testbed, "UPDATE speakers SET status = :status", status=status)
    with pytest.raises(IntegrityFault, match="speakers"):
        testbed.call("DescribeSpeaker", DomainId=domain_id, SpeakerId="caller-0")
    with pytest.raises(IntegrityFault, match="speakers"):
        testbed.call("ListSpeakers", DomainId=domain_id)


@pytest.mark.parametrize("owner", ["domain", "installation"])
def test_inserted_calibration_does_not_lift_scores(testbed, domain_id, owner):
    model_id = shipped_encoder_id()
    attack(
        testbed,
        "INSERT INTO calibrations (domain_id, model_id, shift, scale, supported_log10_far, evidence,"
        " created_at) VALUES (:domain_id, :model_id, 9.0, 1.0, 5.0, '{}', 1)",
        domain_id=domain_id if owner == "domain" else None,
        model_id=model_id,
    )
    with pytest.raises(IntegrityFault, match="calibrations"), testbed.store.database.read() as connection:
        domain_calibration(connection, domain_id, model_id, calibration_of)


def test_access_key_cannot_be_given_to_the_administrator(testbed, domain_id):
    database, secret = testbed.store.database, testbed.store.secret
    with database.write() as connection:
        access.put_principal(connection, DENIED, "0" * 12, [], testbed.clock())
        key_id, _ = access.create_access_key(connection, secret, DENIED, testbed.clock())
    attack(
        testbed,
        "UPDATE access_keys SET principal_arn = :arn WHERE access_key_id = :key",
        arn=ADMIN,
        key=key_id,
    )
    with pytest.raises(IntegrityFault, match=key_id), database.read() as connection:
        access.find_secret(connection, secret, key_id)


def test_policies_of_a_principal_cannot_be_changed(testbed, domain_id):
    with testbed.store.database.write() as connection:
        access.put_principal(connection, DENIED, "0" * 12, [], testbed.clock())
    attack(
        testbed,
        "UPDATE principals SET policies = (SELECT policies FROM principals WHERE arn = :admin),"
        " row_mac = (SELECT row_mac FROM principals WHERE arn = :admin) WHERE arn = :denied",
        admin=ADMIN,
        denied=DENIED,
    )
    with pytest.raises(IntegrityFault, match="principals"), testbed.store.database.read() as connection:
        access.find_principal(connection, DENIED)


@pytest.mark.parametrize("tables", [["voiceprints"], ["speaker_keys"], ["voiceprints", "speaker_keys"]])
def test_voiceprint_from_before_the_latest_enrollment_is_not_accepted(testbed, domain_id, tables):
    old, new = strangers(2)
    (speaker_id,) = enroll(testbed, domain_id, [old])
    kept = {table: rows(testbed, table, speaker_id) for table in tables}
    enroll_again(testbed, domain_id, "caller-0", new)
    assert np.allclose(voice_of(testbed, domain_id, "caller-0").vector, new, atol=1e-6)
    for table, row in kept.items():
        put_back(testbed, table, row)
    with pytest.raises((IntegrityFault, SealBroken)):
        voice_of(testbed, domain_id, "caller-0")
    assert {key for _, key in faults(testbed)} == {speaker_id}


def test_every_enrollment_renews_the_speakers_data_key(testbed, domain_id):
    one, two = strangers(2)
    (speaker_id,) = enroll(testbed, domain_id, [one])
    before = rows(testbed, "speaker_keys", speaker_id)["wrapped"]
    enroll_again(testbed, domain_id, "caller-0", two)
    assert rows(testbed, "speaker_keys", speaker_id)["wrapped"] != before
    described = testbed.call("DescribeSpeaker", DomainId=domain_id, SpeakerId=speaker_id)["Speaker"]
    assert described["CustomerSpeakerId"] == "caller-0"
    assert faults(testbed) == set()


# --- their kind


@pytest.mark.parametrize(
    ("change", "operation"),
    [
        ("UPDATE domains SET status = 'SUSPENDED'", "DescribeDomain"),
        ("UPDATE domains SET account_id = '111111111111'", "ListSpeakers"),
        ("UPDATE domains SET kms_key_arn = 'arn:aws:kms:us-east-1:000000000000:key/other'", "DescribeDomain"),
        ("UPDATE domains SET default_watchlist_id = 'wwwwwwwwwwwwwwwwwwwwww'", "DescribeDomain"),
        ("UPDATE domains SET model_id = 'other'", "DescribeDomain"),
    ],
)
def test_domain_cannot_be_changed(testbed, domain_id, change, operation):
    attack(testbed, change)
    with pytest.raises((IntegrityFault, ResourceNotFound)):
        testbed.call(operation, DomainId=domain_id)
    assert faults(testbed) == {("domains", domain_id)}


def test_fraudster_cannot_be_put_on_a_watchlist(testbed, domain_id):
    """What a list does not name is not on it: a row that was inserted stops the search instead."""
    attack(
        testbed,
        "INSERT INTO fraudsters (fraudster_id, domain_id, wrapped, created_at)"
        " VALUES ('id#f', :domain_id, :key, 1)",
        domain_id=domain_id,
        key=b"",
    )
    with pytest.raises(IntegrityFault, match="fraudsters"):
        testbed.call("ListFraudsters", DomainId=domain_id)


def test_wrong_count_of_speakers_is_found_by_the_walk(testbed, domain_id):
    enroll(testbed, domain_id, strangers(1))
    attack(testbed, "UPDATE speaker_counts SET present = 0")
    assert faults(testbed) == {("speaker_counts", domain_id)}


def test_doctor_names_changed_rows_by_table_and_key(testbed, domain_id):
    one, two = enroll(testbed, domain_id, strangers(2))
    assert check_integrity(testbed.settings).endswith("rows are as they were written")
    attack(testbed, "UPDATE speakers SET status = 'OPTED_OUT'")
    with pytest.raises(SetupError) as told:
        check_integrity(testbed.settings)
    assert "2 rows" in str(told.value)
    assert {f"speakers {key}: does not match its MAC" for key in (one, two)} <= {
        line.strip() for line in str(told.value).splitlines()
    }


# --- existing installations


def unbind(testbed):
    """Make the rows as an earlier release left them."""
    for table in BOUND:
        attack(testbed, f"UPDATE {table} SET row_mac = NULL")


def forget(testbed):
    attack(testbed, "DELETE FROM key_checks WHERE name = 'bound rows'")


@pytest.mark.parametrize("batch", [2, 3, 1000])
def test_rows_of_an_earlier_release_are_bound_at_the_first_start(testbed, domain_id, monkeypatch, batch):
    monkeypatch.setattr(row_binding, "BATCH", batch)
    enroll(testbed, domain_id, strangers(3))
    unbind(testbed)
    forget(testbed)
    (testbed.settings.data / "keys" / RECORD_FILE).unlink()
    testbed.restart()
    assert faults(testbed) == set()
    assert len(testbed.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"]) == 3


def test_rows_are_not_bound_again_for_somebody_who_empties_the_record(testbed, domain_id):
    unbind(testbed)
    forget(testbed)
    with pytest.raises(SetupError, match="integrity fault"):
        testbed.restart()


def test_rows_that_lose_their_macs_later_stay_integrity_faults(testbed, domain_id):
    unbind(testbed)
    testbed.restart()
    with pytest.raises(IntegrityFault, match="no MAC"):
        testbed.call("DescribeDomain", DomainId=domain_id)


def test_release_that_covers_further_columns_checks_the_earlier_macs(testbed, domain_id, monkeypatch):
    _, two = enroll(testbed, domain_id, strangers(2))
    unbind(testbed)
    forget(testbed)
    (testbed.settings.data / "keys" / RECORD_FILE).unlink()
    with monkeypatch.context() as earlier:
        earlier.setitem(BOUND, "speakers", {"last_accessed_at": "not covered by an earlier release"})
        row_macs.bound_of.cache_clear()
        bound_connection.read_plans.clear()
        testbed.restart()
    row_macs.bound_of.cache_clear()
    bound_connection.read_plans.clear()
    attack(testbed, "UPDATE speakers SET status = 'OPTED_OUT' WHERE speaker_id = :key", key=two)
    testbed.restart()
    assert faults(testbed) == {("speakers", two)}


def test_rows_are_bound_again_under_another_key(testbed, domain_id):
    enroll(testbed, domain_id, strangers(2))
    database = testbed.store.database
    old, new = database.macs, row_macs.RowMacs(bytes(32))
    assert bind_again(database, old, new) > 5
    assert bind_again(database, old, new) == 0, "it may be interrupted and run again"
    assert faults(testbed), "the old key's MACs are gone"
    database.check_rows_by(new)
    assert faults(testbed) == set()
