"""Risks of a voice in a call: fraudsters and recordings in memory, in step with the store."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from made_samples import made_sample
from sessions_testbed import CALLER, written
from voices_testbed import enroll, like, strangers
from waiting import PATIENCE_S, wait_until

from sonant.errors import ResourceNotFound
from sonant.ids import new_generated_id
from sonant.jobs.calibration_cache import domain_calibration
from sonant.jobs.faults import JobFault
from sonant.sessions import risks as module
from sonant.sessions.risks import FraudIndexes
from sonant.storage.crypto.vault import open_vault
from sonant.storage.database.schema import fingerprints as fingerprint_rows
from sonant.storage.database.schema import fraudster_voiceprints
from sonant.storage.repositories import domains, fraud_voices, speakers, voiceprints
from sonant.storage.repositories.session_samples import FRAUD, SessionSample
from sonant.voice.models import shipped_encoder_id
from sonant.voice.replay.fingerprint import fingerprint

MODEL = shipped_encoder_id()
VOICES = strangers(40)
ROOM = 1000


def speech(seed):
    """Ten seconds of something with peaks, never the same twice."""
    random = np.random.default_rng(seed)
    time_s = np.arange(80_000) / 8000
    pitch = np.repeat(random.uniform(400, 3000, 200), 400)
    return (np.sin(2 * np.pi * pitch * time_s) + random.normal(0, 0.05, 80_000)).astype(np.float32)


PRINTS = [fingerprint(speech(seed)).to_bytes() for seed in range(4)]


@pytest.fixture
def domain_id(testbed):
    return testbed.new_domain()


def heard(testbed, vector, **more):
    now = testbed.clock()
    highpass_300hz = more.pop("highpass_300hz", False)
    hearing = SessionSample(
        purpose=FRAUD,
        stream=1,
        started_at=now,
        ended_at=now + timedelta(seconds=12),
        sample=made_sample(
            vector, model_id=MODEL, net_speech_s=10.0, snr_db=20.0, highpass_300hz=highpass_300hz
        ),
    )
    return replace(hearing, **more)


def register(testbed, domain_id, vector, watchlist_id=None, model_id=MODEL):
    fraudster_id = new_generated_id()
    with written(testbed, domain_id) as (connection, domain, vault):
        fraud_voices.register(
            connection,
            vault,
            domain_id=domain_id,
            fraudster_id=fraudster_id,
            watchlist_id=watchlist_id or domain.default_watchlist_id,
            sample=made_sample(vector, model_id=model_id),
            now=testbed.clock(),
        )
    return fraudster_id


def keep_recording(testbed, domain_id, data):
    """Of a newly enrolled speaker, whose id it is."""
    (speaker_id,) = enroll(testbed, domain_id, VOICES[:1], prefix=new_generated_id()[3:])
    with written(testbed, domain_id) as (connection, _domain, vault):
        speaker = speakers.find(connection, vault, domain_id, speaker_id)
        assert speaker is not None
        seal = speaker.seal(vault)
        voiceprints.add_fingerprint(connection, seal, domain_id, speaker_id, data, testbed.clock())
    return speaker_id


def scored(testbed, fraud_indexes, domain_id, hearing, watchlist_id=None, began=None):
    """(known fraudster, spoofing or None)."""
    with written(testbed, domain_id) as (connection, domain, vault):
        found = fraud_indexes.risks(
            connection,
            domain,
            vault,
            watchlist_id=watchlist_id,
            speech=hearing,
            calibration=domain_calibration(connection, domain_id, MODEL),
            call_started_at=began,
        )
    by_name = {risk.name: risk for risk in found}
    return by_name["KnownFraudsterRisk"], by_name.get("VoiceSpoofingRisk")


def test_a_fraudster_is_found_as_soon_as_registered_and_not_once_deleted(testbed, domain_id):
    fraud_indexes, call = FraudIndexes(ROOM), heard(testbed, like(VOICES[0], 0.95))
    assert scored(testbed, fraud_indexes, domain_id, call)[0].score == 0
    fraudster_id = register(testbed, domain_id, VOICES[0])
    register(testbed, domain_id, VOICES[1])
    known, spoofing = scored(testbed, fraud_indexes, domain_id, call)
    assert (known.fraudster_id, known.score >= 50, spoofing) == (fraudster_id, True, None)
    testbed.call("DeleteFraudster", DomainId=domain_id, FraudsterId=fraudster_id)
    assert scored(testbed, fraud_indexes, domain_id, call)[0].fraudster_id != fraudster_id


def test_the_same_likeness_is_worth_less_on_a_longer_list(testbed, domain_id):
    call, short, long = heard(testbed, like(VOICES[0], 0.75)), FraudIndexes(ROOM), FraudIndexes(ROOM)
    register(testbed, domain_id, VOICES[0])
    alone = scored(testbed, short, domain_id, call)[0].score
    for voice in VOICES[1:30]:
        register(testbed, domain_id, voice)
    assert 0 < scored(testbed, long, domain_id, call)[0].score < alone
    assert scored(testbed, short, domain_id, call) == scored(testbed, long, domain_id, call)


def test_the_same_likeness_is_worth_less_on_a_line_with_a_low_cut(testbed, domain_id):
    fraud_indexes, call = FraudIndexes(ROOM), heard(testbed, like(VOICES[0], 0.75))
    register(testbed, domain_id, VOICES[0])
    usual = scored(testbed, fraud_indexes, domain_id, call)[0].score
    narrow = heard(testbed, like(VOICES[0], 0.75), highpass_300hz=True)
    assert 0 < scored(testbed, fraud_indexes, domain_id, narrow)[0].score < usual


def test_fraudsters_of_another_voice_model_are_not_compared(testbed, domain_id):
    register(testbed, domain_id, VOICES[0], model_id="another-model")
    assert scored(testbed, FraudIndexes(ROOM), domain_id, heard(testbed, VOICES[0]))[0].score == 0


def test_a_list_that_is_gone_is_not_found(testbed, domain_id):
    fraud_indexes, call = FraudIndexes(ROOM), heard(testbed, VOICES[0])
    made = testbed.call("CreateWatchlist", DomainId=domain_id, Name="other")["Watchlist"]
    assert scored(testbed, fraud_indexes, domain_id, call, made["WatchlistId"])[0].score == 0
    testbed.call("DeleteWatchlist", DomainId=domain_id, WatchlistId=made["WatchlistId"])
    with pytest.raises(ResourceNotFound) as refusal:
        scored(testbed, fraud_indexes, domain_id, call, made["WatchlistId"])
    assert refusal.value.members["ResourceType"] == "WATCHLIST"


def test_a_damaged_voice_or_recording_lets_nobody_pass(testbed, domain_id):
    fraud_indexes = FraudIndexes(ROOM)
    register(testbed, domain_id, VOICES[0])
    keep_recording(testbed, domain_id, PRINTS[0])
    call = heard(testbed, VOICES[1], fingerprint=PRINTS[1])
    for table, column in ((fraudster_voiceprints, "vector_sealed"), (fingerprint_rows, "sealed")):
        with testbed.store.database.write() as connection:
            connection.execute(table.update().values({column: b"damaged"}))
        for _ in range(2):
            with pytest.raises(JobFault, match="restore the database from a backup"):
                scored(testbed, fraud_indexes, domain_id, call)
        with testbed.store.database.write() as connection:
            connection.execute(table.delete())


# --- replays ------------------------------------------------------------------------------------------


def test_what_was_enrolled_before_the_call_is_a_replay_whoever_it_was(testbed, domain_id):
    fraud_indexes = FraudIndexes(ROOM)
    keep_recording(testbed, domain_id, PRINTS[0])
    testbed.clock.advance(seconds=1)
    score = {"spoofing_score": 12, "spoofing_evidence": "SYNTHETIC_SPEECH"}
    replayed = scored(
        testbed, fraud_indexes, domain_id, heard(testbed, VOICES[0], fingerprint=PRINTS[0], **score)
    )[1]
    fresh = scored(
        testbed, fraud_indexes, domain_id, heard(testbed, VOICES[0], fingerprint=PRINTS[1], **score)
    )[1]
    assert (replayed.score, replayed.evidence) == (100, "REPLAY")
    assert (fresh.score, fresh.evidence) == (12, "SYNTHETIC_SPEECH")


def test_what_was_enrolled_from_the_call_itself_is_none(testbed, domain_id):
    fraud_indexes, call = FraudIndexes(ROOM), heard(testbed, VOICES[0], fingerprint=PRINTS[0])
    testbed.clock.advance(seconds=5)
    keep_recording(testbed, domain_id, PRINTS[0])
    assert scored(testbed, fraud_indexes, domain_id, call)[1] is None
    ahead = replace(call, started_at=testbed.clock() + timedelta(seconds=1))
    assert scored(testbed, fraud_indexes, domain_id, ahead, began=call.started_at)[1] is None
    later = replace(call, started_at=testbed.clock() + timedelta(seconds=1))
    assert scored(testbed, fraud_indexes, domain_id, later)[1].score == 100


def test_the_recording_of_who_was_deleted_is_forgotten(testbed, domain_id):
    fraud_indexes = FraudIndexes(ROOM)
    speaker_id = keep_recording(testbed, domain_id, PRINTS[0])
    testbed.clock.advance(seconds=1)
    call = heard(testbed, VOICES[0], fingerprint=PRINTS[0])
    assert scored(testbed, fraud_indexes, domain_id, call)[1].score == 100
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=speaker_id)
    assert scored(testbed, fraud_indexes, domain_id, call)[1] is None


def test_with_no_room_for_recordings_no_replay_is_looked_for(testbed, domain_id):
    keep_recording(testbed, domain_id, PRINTS[0])
    testbed.clock.advance(seconds=1)
    call = heard(testbed, VOICES[0], fingerprint=PRINTS[0])
    assert scored(testbed, FraudIndexes(0), domain_id, call)[1] is None


def test_recordings_of_another_domain_do_not_match(testbed, domain_id):
    keep_recording(testbed, testbed.new_domain(), PRINTS[0])
    testbed.clock.advance(seconds=1)
    assert (
        scored(testbed, FraudIndexes(ROOM), domain_id, heard(testbed, VOICES[0], fingerprint=PRINTS[0]))[1]
        is None
    )


# --- memory and threads -------------------------------------------------------------------------------


def test_large_domain_is_read_while_calls_wait_no_longer_than_allowed(testbed, domain_id):
    keep_recording(testbed, domain_id, PRINTS[0])
    fraud_indexes, gate, reads = FraudIndexes(ROOM), threading.Event(), []

    @contextmanager
    def slow():
        reads.append(threading.current_thread().name)
        assert gate.wait(PATIENCE_S)
        with testbed.store.database.read() as connection:
            yield connection

    with written(testbed, domain_id) as (_connection, domain, vault):
        pass
    for _ in range(3):
        assert not fraud_indexes.ready(slow, domain, vault, wait_s=0.01)
    gate.set()
    assert fraud_indexes.ready(slow, domain, vault, wait_s=10)
    assert reads == ["replays"], "it is read once"
    assert fraud_indexes.prepare(slow, domain, vault) is None
    assert reads == ["replays"]


def test_a_domain_that_could_not_be_read_is_read_again(testbed, domain_id):
    keep_recording(testbed, domain_id, PRINTS[0])
    fraud_indexes = FraudIndexes(ROOM)
    with written(testbed, domain_id) as (connection, domain, vault):
        sealed = connection.execute(fingerprint_rows.select()).first().sealed
        connection.execute(fingerprint_rows.update().values(sealed=b"damaged"))
    with pytest.raises(JobFault):
        fraud_indexes.ready(testbed.store.database.read, domain, vault, wait_s=10)
    with testbed.store.database.write() as connection:
        connection.execute(fingerprint_rows.update().values(sealed=sealed))
    assert fraud_indexes.ready(testbed.store.database.read, domain, vault, wait_s=10)


def test_lists_asked_for_least_make_room_and_are_read_again(testbed, domain_id, monkeypatch):
    monkeypatch.setattr(module, "MAX_GALLERIES", 2)
    fraud_indexes, call = FraudIndexes(ROOM), heard(testbed, like(VOICES[0], 0.95))
    lists = []
    for number in range(4):
        made = testbed.call("CreateWatchlist", DomainId=domain_id, Name=f"list-{number}")["Watchlist"]
        lists.append(made["WatchlistId"])
        register(testbed, domain_id, VOICES[0], made["WatchlistId"])
    for watchlist_id in [*lists, *lists]:
        assert scored(testbed, fraud_indexes, domain_id, call, watchlist_id)[0].score >= 50
        assert fraud_indexes.galleries <= 2


@pytest.mark.slow
def test_many_threads_ask_while_fraudsters_come_and_go(testbed, domain_id):
    fraud_indexes, call = FraudIndexes(ROOM), heard(testbed, like(VOICES[0], 0.95), fingerprint=PRINTS[1])
    keep_recording(testbed, domain_id, PRINTS[0])
    fixed = register(testbed, domain_id, VOICES[0])
    stop = threading.Event()

    def ask(_number):
        found: list[Any] = []
        while not stop.is_set() and len(found) < 200:
            with testbed.store.database.read() as connection:
                domain = testbed.service.require_domain(connection, CALLER, domain_id)
                vault = testbed.service.open_vault(CALLER, domain)
                known, *_ = fraud_indexes.risks(
                    connection,
                    domain,
                    vault,
                    watchlist_id=None,
                    speech=call,
                    calibration=domain_calibration(connection, domain_id, MODEL),
                )
            found.append(known.fraudster_id)
        return found

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask, number) for number in range(4)]
        for voice in VOICES[1:12]:
            passing = register(testbed, domain_id, voice)
            testbed.call("DeleteFraudster", DomainId=domain_id, FraudsterId=passing)
        stop.set()
        assert {one for future in asking for one in future.result(PATIENCE_S)} == {fixed}


@pytest.mark.parametrize("take_away", ["disable", "schedule_deletion"])
def test_voices_leave_memory_when_the_key_of_the_domain_is_taken_away(testbed, domain_id, take_away):
    keys = testbed.store.keys
    indexes = FraudIndexes(ROOM, keys_of=testbed.store.accounts.keys, look_s=0.05)
    with testbed.store.database.read() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
    opened = open_vault(keys, domain_id, domain.arn, domain.data_key_wrapped)
    reading = indexes.prepare(testbed.store.database.read, domain, opened)
    assert reading is not None
    reading.result(PATIENCE_S)
    assert indexes.in_memory(domain_id)
    getattr(keys, take_away)("alias/sonant", *([7] if take_away == "schedule_deletion" else []))
    wait_until("the voices to leave memory", lambda: not indexes.in_memory(domain_id))
