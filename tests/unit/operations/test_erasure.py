"""What a deletion or an opt-out reaches at once: sessions, dry runs, memory, calls that are sent again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from made_samples import made_sample
from sessions_testbed import CALLER, store_speech, written
from sqlalchemy import select
from voices_testbed import enroll, strangers

from sonant.errors import Conflict, InternalServer, ResourceNotFound
from sonant.ids import new_id
from sonant.jobs.replay import ReplayDetector
from sonant.operations import OPERATIONS
from sonant.retention import ledger as ledgers
from sonant.retention.ledger import LedgerKey
from sonant.sessions import records
from sonant.sessions.context import StreamContext
from sonant.sessions.listener import StreamKey
from sonant.storage.database.schema import (
    erased_speakers,
    job_entries,
    session_hearings,
    session_results,
    sessions,
)
from sonant.storage.database.schema import jobs as job_rows
from sonant.storage.repositories import erasure, fraud_voices, jobs, voiceprints
from sonant.storage.repositories import speakers as speaker_rows
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD, SessionSample
from sonant.voice.models import shipped_encoder_id
from sonant.voice.replay.fingerprint import fingerprint

MODEL = shipped_encoder_id()
VOICE = strangers(3)
#: The customer's id of the speaker that is erased.
ADA = "ada-0"
DELETING = ["DeleteSpeaker", "OptOutSpeaker", "ImportOptOuts"]


def erase(testbed, operation, domain_id, speaker_id=ADA):
    named = {"SpeakerIds": [speaker_id]} if operation == "ImportOptOuts" else {"SpeakerId": speaker_id}
    return testbed.call(operation, DomainId=domain_id, **named)


@pytest.fixture
def domain_id(testbed):
    return testbed.new_domain()


@pytest.fixture
def ada(testbed, domain_id):
    """An enrolled speaker; returns the generated id."""
    (speaker_id,) = enroll(testbed, domain_id, VOICE[:1], prefix="ada")
    return speaker_id


@pytest.fixture
def called(testbed, domain_id, ada):
    """A call of the speaker whose voice was analyzed for both purposes, and evaluated."""
    testbed.call("StartSession", DomainId=domain_id, SessionName="call", SpeakerId=ADA)
    store_speech(testbed, domain_id, "call", VOICE[0], fingerprint=b"f" * 8)
    answer = testbed.call("EvaluateSession", DomainId=domain_id, SessionNameOrId="call")
    assert answer["AuthenticationResult"]["Decision"] == "ACCEPT"
    return answer


def rows(testbed, table, *conditions):
    with testbed.store.database.read() as connection:
        return connection.execute(select(table).where(*conditions)).mappings().all()


# --- sessions


@pytest.mark.parametrize("operation", DELETING)
def test_erasure_deletes_the_voice_in_the_speakers_sessions(testbed, domain_id, called, operation):
    (before,) = rows(testbed, sessions)
    erase(testbed, operation, domain_id)
    (after,) = rows(testbed, sessions)
    assert rows(testbed, session_hearings) == []
    assert [row["purpose"] for row in rows(testbed, session_results)] == [FRAUD]
    assert after["wrapped"] != before["wrapped"]
    assert (before["erasures"], after["erasures"]) == (0, 1)


def test_erasure_leaves_other_speakers_sessions_as_they_are(testbed, domain_id, called):
    testbed.call("StartSession", DomainId=domain_id, SessionName="other", SpeakerId="bob")
    store_speech(testbed, domain_id, "other", VOICE[1])
    erase(testbed, "DeleteSpeaker", domain_id)
    (other,) = rows(testbed, sessions, sessions.c.name == "other")
    assert {row["session_id"] for row in rows(testbed, session_hearings)} == {other["session_id"]}


def test_erased_voice_is_in_no_database_file(testbed, domain_id, called):
    if not testbed.settings.embedded:
        return  # PostgreSQL overwrites rows when it vacuums
    sealed = [row["vector_sealed"] for row in rows(testbed, session_hearings)]
    sealed += [row["wrapped"] for row in rows(testbed, sessions)]
    testbed.store.database.truncate_wal()
    held = b"".join(path.read_bytes() for path in testbed.settings.data.glob("sonant.db*"))
    assert all(one in held for one in sealed)
    erase(testbed, "DeleteSpeaker", domain_id)
    held = b"".join(path.read_bytes() for path in testbed.settings.data.glob("sonant.db*"))
    assert not any(one in held for one in sealed)


@pytest.fixture
def context(testbed):
    return StreamContext(
        owner="test",
        settings=testbed.settings,
        database=testbed.store.database,
        keys_of=testbed.store.accounts.keys,
        clock=testbed.clock,
        fraud_indexes=testbed.service.fraud_indexes,
    )


def save(context, testbed, domain_id, purpose, erasures):
    with testbed.store.database.read() as connection:
        session_id = connection.execute(select(sessions.c.session_id)).scalar_one()
    now = testbed.clock()
    speech = SessionSample(
        purpose=purpose,
        stream=1,
        started_at=now,
        ended_at=now + timedelta(seconds=10),
        sample=made_sample(VOICE[0], model_id=MODEL, snr_db=20.0, highpass_300hz=False),
    )
    key = StreamKey(domain_id=domain_id, session_id=session_id, number=1)
    assert records.save(context, key, speech, erasures=erasures)
    return {row["purpose"] for row in rows(testbed, session_hearings)}


@pytest.mark.parametrize("operation", DELETING)
def test_speech_from_before_an_erasure_is_not_stored_after_it(testbed, domain_id, called, context, operation):
    erase(testbed, operation, domain_id)
    assert save(context, testbed, domain_id, FRAUD, erasures=0) == set()
    assert save(context, testbed, domain_id, FRAUD, erasures=1) == {FRAUD}


@pytest.mark.parametrize("operation", DELETING)
def test_erased_speaker_is_not_analyzed_for_authentication(testbed, domain_id, called, context, operation):
    erase(testbed, operation, domain_id)
    assert save(context, testbed, domain_id, AUTHENTICATION, erasures=1) == set()


def test_session_that_gets_another_speaker_is_heard_anew(testbed, domain_id, called, context):
    erase(testbed, "OptOutSpeaker", domain_id)
    enroll(testbed, domain_id, VOICE[1:2], prefix="b")
    testbed.call("UpdateSession", DomainId=domain_id, SessionNameOrId="call", SpeakerId="b-0")
    (session,) = rows(testbed, sessions)
    assert session["erasures"] == 2
    assert save(context, testbed, domain_id, AUTHENTICATION, erasures=2) == {AUTHENTICATION}


def test_evaluation_after_an_opt_out_says_so_and_repeats_the_fraud_result(testbed, domain_id, called):
    erase(testbed, "OptOutSpeaker", domain_id)
    again = testbed.call("EvaluateSession", DomainId=domain_id, SessionNameOrId="call")
    assert again["AuthenticationResult"]["Decision"] == "SPEAKER_OPTED_OUT"
    assert again["FraudDetectionResult"] == called["FraudDetectionResult"]


# --- memory


def spoken(seed):
    random = np.random.default_rng(seed)
    pitch = np.repeat(random.uniform(400, 3000, 200), 400)
    wave = np.sin(2 * np.pi * pitch * np.arange(80_000) / 8000) + random.normal(0, 0.05, 80_000)
    return fingerprint(wave.astype(np.float32)).to_bytes()


@pytest.mark.parametrize("operation", DELETING)
def test_index_in_memory_drops_an_erased_speakers_recordings(testbed, domain_id, ada, operation):
    with written(testbed, domain_id) as (connection, _domain, vault):
        (bob,) = enroll_in(connection, vault, testbed, domain_id, "bob")
        for number, speaker_id in enumerate((ada, bob)):
            speaker = speaker_rows.find(connection, vault, domain_id, speaker_id)
            assert speaker is not None
            seal = speaker.seal(vault)
            voiceprints.add_fingerprint(
                connection, seal, domain_id, speaker_id, spoken(number), testbed.clock()
            )
    detector = ReplayDetector(domain_id, 100)
    with written(testbed, domain_id) as (connection, _domain, vault):
        detector.refresh(connection, vault)
    assert len(detector) == 2
    erase(testbed, operation, domain_id)
    with written(testbed, domain_id) as (connection, _domain, vault):
        detector.refresh(connection, vault)
    assert len(detector) == 1


def enroll_in(connection, vault, testbed, domain_id, customer_id):
    speaker_id = f"id#{new_id()}"
    speaker_rows.add(
        connection,
        vault,
        domain_id=domain_id,
        speaker_id=speaker_id,
        customer_id=customer_id,
        status="PENDING",
        now=testbed.clock(),
    )
    return [speaker_id]


def test_deleting_a_fraudster_drops_the_galleries_of_its_domain(testbed, domain_id, called):
    assert testbed.service.fraud_indexes.galleries == 1
    with written(testbed, domain_id) as (connection, domain, vault):
        fraud_voices.register(
            connection,
            vault,
            domain_id=domain_id,
            fraudster_id="id#" + "f" * 22,
            watchlist_id=domain.default_watchlist_id,
            sample=made_sample(VOICE[2], model_id=MODEL),
            now=testbed.clock(),
        )
    testbed.call("DeleteFraudster", DomainId=domain_id, FraudsterId="id#" + "f" * 22)
    assert testbed.service.fraud_indexes.galleries == 0


def test_deleting_a_domain_drops_what_memory_holds_of_it(testbed, domain_id, called):
    assert testbed.service.fraud_indexes.galleries == 1
    testbed.call("DeleteDomain", DomainId=domain_id)
    assert testbed.service.fraud_indexes.galleries == 0


# --- running jobs


def running_dry_run(testbed, domain_id):
    """A dry run with an outcome that holds a voice and a fingerprint of `ada`."""
    job_id = new_id()
    line = {
        "RequestId": "r1",
        "SpeakerId": ADA,
        "LikelyOutcome": "NEW_ENROLLMENT",
        "NeededSpeechSeconds": 30.0,
        "NetSpeechSeconds": 31.0,
        "Recordings": [{"S3Uri": "s3://calls/ada.wav", "ChannelId": 0, "SignalToNoiseDecibels": 20.0}],
        "voice": "the-voice",
        "fingerprint": "the-fingerprint",
    }
    with written(testbed, domain_id) as (connection, _domain, vault):
        jobs.insert_job(
            connection,
            job_id=job_id,
            kind=jobs.DRY_RUN,
            domain_id=domain_id,
            name_sealed=None,
            role_arn="r",
            input_uri="s3://a/b",
            output_uri="s3://a/c",
            output_kms_key=None,
            config={},
            now=testbed.clock(),
        )
        jobs.add_requests(connection, job_id, 0, [b"x"])
        jobs.finish_import(connection, job_id, 1)
        sealed = vault.seal_json("job outcome", f"{job_id}/0", line)
        jobs.record(
            connection,
            job_id,
            [jobs.SealedOutcome(position=0, sealed=sealed, failed=False, speaker_hash=vault.lookup(ADA))],
        )
    return job_id


@pytest.mark.parametrize(
    ("operation", "known"),
    [("DeleteSpeaker", True), ("OptOutSpeaker", True), ("OptOutSpeaker", False), ("ImportOptOuts", False)],
)
def test_running_dry_run_forgets_an_erased_speaker(testbed, domain_id, request, operation, known):
    if known:
        request.getfixturevalue("ada")
    job_id = running_dry_run(testbed, domain_id)
    erase(testbed, operation, domain_id)
    (entry,) = rows(testbed, job_entries)
    with written(testbed, domain_id) as (connection, domain, vault):
        line = vault.open_json("job outcome", f"{job_id}/0", entry["outcome_sealed"])
        job = jobs.find(connection, jobs.DRY_RUN, domain_id, job_id)
        assert domain.erasures >= 1
    assert set(line) == {
        "RequestId",
        "SpeakerId",
        "NeededSpeechSeconds",
        "LikelyOutcome",
        "ErrorCode",
        "ErrorMessage",
        "Recordings",
    }
    assert (line["LikelyOutcome"], line["ErrorCode"]) == ("ERROR", 409)
    assert line["Recordings"] == [{"S3Uri": "s3://calls/ada.wav", "ChannelId": 0}]
    assert job is not None
    assert (entry["failed"], entry["speaker_hash"], job.entries_failed) == (True, None, 1)


# --- calls that are sent again


def signed(testbed, operation, signature, **request):
    return OPERATIONS[operation](testbed.service, replace(CALLER, signature=signature), request)


def statuses(testbed, domain_id):
    found = testbed.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"]
    return {one["CustomerSpeakerId"]: one["Status"] for one in found}


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        ("OptOutSpeaker", {"SpeakerId": ADA}),
        ("ImportOptOuts", {"SpeakerIds": [ADA]}),
        ("StartSession", {"SpeakerId": ADA, "SessionName": "call"}),
        ("UpdateSession", {"SpeakerId": ADA, "SessionNameOrId": "open"}),
    ],
)
def test_call_sent_again_after_a_deletion_brings_nobody_back(testbed, domain_id, operation, named):
    testbed.call("StartSession", DomainId=domain_id, SessionName="open")
    signed(testbed, operation, "s1", DomainId=domain_id, **named)
    assert ADA in statuses(testbed, domain_id)
    if operation == "StartSession":
        testbed.call("EndStream", DomainId=domain_id, SessionNameOrId="call")
    erase(testbed, "DeleteSpeaker", domain_id)
    with pytest.raises(Conflict):
        signed(testbed, operation, "s1", DomainId=domain_id, **named)
    assert ADA not in statuses(testbed, domain_id)
    signed(testbed, operation, "s2", DomainId=domain_id, **named)
    assert ADA in statuses(testbed, domain_id)


@pytest.mark.parametrize("operation", ["OptOutSpeaker", "DeleteSpeaker"])
def test_call_sent_again_after_a_new_enrollment_erases_nothing(testbed, domain_id, operation):
    testbed.call("StartSession", DomainId=domain_id, SessionName="call", SpeakerId=ADA)
    signed(testbed, operation, "s1", DomainId=domain_id, SpeakerId=ADA)
    if operation == "OptOutSpeaker":
        erase(testbed, "DeleteSpeaker", domain_id)
    testbed.call("StartSession", DomainId=domain_id, SessionName="next", SpeakerId=ADA)
    with pytest.raises(Conflict):
        signed(testbed, operation, "s1", DomainId=domain_id, SpeakerId=ADA)
    assert statuses(testbed, domain_id) == {ADA: "PENDING"}


def test_opt_out_sent_again_changes_nothing_and_is_answered(testbed, domain_id):
    first = signed(testbed, "OptOutSpeaker", "s1", DomainId=domain_id, SpeakerId=ADA)
    assert signed(testbed, "OptOutSpeaker", "s1", DomainId=domain_id, SpeakerId=ADA) == first


def test_start_of_a_job_sent_again_starts_no_second_one(testbed, domain_id):
    request = {
        "DomainId": domain_id,
        "DataAccessRoleArn": "arn:aws:iam::000000000000:role/sonant",
        "InputDataConfig": {"S3Uri": "s3://jobs/in"},
        "OutputDataConfig": {"S3Uri": "s3://jobs/out"},
    }
    signed(testbed, "StartSpeakerEnrollmentJob", "s1", **request)
    with written(testbed, domain_id) as (connection, _domain, _vault):
        connection.execute(job_rows.update().values(status="COMPLETED"))
    with pytest.raises(Conflict):
        signed(testbed, "StartSpeakerEnrollmentJob", "s1", **request)


# --- the ledger


def ledger_of(testbed):
    return ledgers.read(testbed.settings.ledger_folder, LedgerKey(testbed.store.secret.ledger_key))


def test_every_deletion_is_in_the_ledger_with_the_keys_it_destroyed(testbed, domain_id, ada, called):
    key = testbed.store.ledger.key
    (session,) = rows(testbed, sessions)
    with written(testbed, domain_id) as (connection, _domain, vault):
        speaker = speaker_rows.find(connection, vault, domain_id, ada)
        assert speaker is not None
        speaker_key = speaker.wrapped
        hashed = vault.lookup(ADA).hex()
    erase(testbed, "DeleteSpeaker", domain_id)
    (entry,) = ledger_of(testbed).entries
    assert (entry.what, entry.at) == ("DELETE_SPEAKER", testbed.clock())
    assert (entry.domain, entry.id) == (key.domain(domain_id), key.member(domain_id, ada))
    assert entry.customer == hashed
    assert [(one.kind, one.wrapped) for one in entry.keys] == [
        ("speaker", key.destroyed(speaker_key)),
        ("session", key.destroyed(session["wrapped"])),
    ]


def test_ledger_holds_no_id(testbed, domain_id, ada):
    erase(testbed, "OptOutSpeaker", domain_id, "a-customer-who-is-new")
    erase(testbed, "DeleteSpeaker", domain_id)
    text = (testbed.settings.ledger_folder / ledgers.FILE).read_text()
    assert not any(one in text for one in (ADA, ada, domain_id, "a-customer-who-is-new"))
    assert len(text.splitlines()) == 2
    assert (testbed.settings.ledger_folder / ledgers.FILE).stat().st_mode & 0o777 == 0o600


def test_deletions_of_all_kinds_are_in_the_ledger(testbed, domain_id):
    watchlist_id = testbed.call("CreateWatchlist", DomainId=domain_id, Name="x")["Watchlist"]["WatchlistId"]
    testbed.call("DeleteWatchlist", DomainId=domain_id, WatchlistId=watchlist_id)
    testbed.call("DeleteDomain", DomainId=domain_id)
    testbed.call("DeleteDomain", DomainId=domain_id)
    testbed.call("RestoreDomain", DomainId=domain_id)
    found = [entry.what for entry in ledger_of(testbed).entries]
    assert found == ["DELETE_WATCHLIST", "DELETE_DOMAIN", "RESTORE_DOMAIN"]


def test_deletion_that_is_not_committed_is_voided(testbed, domain_id, ada, monkeypatch):
    dialect = type(testbed.store.database.engine.dialect)
    commit = dialect.do_commit

    def failing_commit(own, connection):
        if (testbed.settings.ledger_folder / ledgers.FILE).exists():
            raise OSError("the disk is full")
        commit(own, connection)

    monkeypatch.setattr(dialect, "do_commit", failing_commit)
    with pytest.raises(OSError, match="disk is full"):
        erase(testbed, "DeleteSpeaker", domain_id)
    monkeypatch.undo()
    assert ledger_of(testbed).entries == ()
    lines = (testbed.settings.ledger_folder / ledgers.FILE).read_text().splitlines()
    assert [json.loads(line)["what"] for line in lines] == ["DELETE_SPEAKER", "VOID"]
    assert statuses(testbed, domain_id) == {ADA: "ENROLLED"}


def test_deletion_that_cannot_be_recorded_is_not_made(testbed, domain_id, ada):
    testbed.settings.ledger_folder.write_text("a file where the folder would be")
    with pytest.raises(InternalServer):
        erase(testbed, "DeleteSpeaker", domain_id)
    assert statuses(testbed, domain_id) == {ADA: "ENROLLED"}


def test_refused_deletion_leaves_no_entry(testbed, domain_id):
    with pytest.raises(ResourceNotFound):
        erase(testbed, "DeleteSpeaker", domain_id)
    assert not testbed.settings.ledger_folder.exists()


def test_what_is_remembered_of_a_deletion_is_forgotten_after_its_time(testbed, domain_id, ada):
    from sonant.assembly import jobs as app_jobs

    erase(testbed, "DeleteSpeaker", domain_id)
    housekeeper = app_jobs.build_housekeeper(testbed.store)
    assert (housekeeper.forget_erased(), len(rows(testbed, erased_speakers))) == (0, 1)
    testbed.clock.advance(days=31)
    assert (housekeeper.forget_erased(), len(rows(testbed, erased_speakers))) == (1, 0)


def test_erased_domain_is_in_the_ledger_with_its_key(testbed, domain_id):
    from sonant.assembly import jobs as app_jobs

    testbed.call("DeleteDomain", DomainId=domain_id)
    testbed.clock.advance(days=31)
    assert app_jobs.build_housekeeper(testbed.store).erase_domains() == 1
    entry = ledger_of(testbed).entries[-1]
    assert (entry.what, [one.kind for one in entry.keys]) == ("ERASE_DOMAIN", ["domain"])


def test_erasure_counts_in_no_other_domain(testbed, domain_id, ada):
    other_id = testbed.new_domain()
    erase(testbed, "DeleteSpeaker", domain_id)
    with testbed.store.database.read() as connection:
        assert erasure.version(connection, other_id) == 0
