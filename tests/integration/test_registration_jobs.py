"""Fraudster registration jobs from the start call to the result file."""

from dataclasses import replace
from typing import Any

import pytest
from batch_values import REGISTRATION, entry, fraud_entry, manifest
from sqlalchemy import select

from sonant.errors import ServiceQuotaExceeded
from sonant.events.documents import document
from sonant.events.outbox import Outbox
from sonant.ids import new_uuid
from sonant.settings import Registration
from sonant.storage.database.schema import fraudster_voiceprints

ENGLISH, AGAIN = "s3://calls/english.wav", "s3://calls/english-again.wav"
ITALIAN, RUSSIAN = "s3://calls/italian.wav", "s3://calls/russian.wav"


def lists_of(testbed, domain_id, fraudster_id):
    answer = testbed.call("DescribeFraudster", DomainId=domain_id, FraudsterId=fraudster_id)
    return answer["Fraudster"]["WatchlistIds"]


def new_list(testbed, domain_id, name="known"):
    return testbed.call("CreateWatchlist", DomainId=domain_id, Name=name)["Watchlist"]["WatchlistId"]


def test_new_voices_become_fraudsters_on_the_default_watchlist(testbed, domain):
    outcome = testbed.register(domain, [fraud_entry("r1", ENGLISH), fraud_entry("r2", ITALIAN)])
    assert outcome.status == "COMPLETED"
    assert outcome.successes == {"r1": "NEW_REGISTRATION", "r2": "NEW_REGISTRATION"}
    assert set(outcome.line("r1")) == {"RequestId", "GeneratedFraudsterId", "RegistrationStatus"}
    ids = [outcome.generated_id(request) for request in ("r1", "r2")]
    assert list(testbed.fraudsters(domain)) == ids
    for fraudster_id in ids:
        assert lists_of(testbed, domain, fraudster_id) == [testbed.default_list(domain)]
    assert testbed.speakers(domain) == {}, "fraudsters are no speakers"


def test_a_named_watchlist_is_used_and_the_default_one_left_alone(testbed, domain):
    known = new_list(testbed, domain)
    outcome = testbed.register(domain, [fraud_entry("r1", ENGLISH)], WatchlistIds=[known])
    assert lists_of(testbed, domain, outcome.generated_id("r1")) == [known]
    answer = testbed.call("ListFraudsters", DomainId=domain, WatchlistId=testbed.default_list(domain))
    assert answer["FraudsterSummaries"] == []


def test_same_voice_on_any_list_is_skipped_and_named_with_its_score(testbed, domain):
    first = testbed.register(domain, [fraud_entry("r1", ENGLISH)])
    known = new_list(testbed, domain)
    second = testbed.register(
        domain, [fraud_entry("r1", AGAIN), fraud_entry("r2", RUSSIAN)], WatchlistIds=[known]
    )
    assert second.status == "COMPLETED", "a duplicate is a success"
    line = second.line("r1")
    assert line["RegistrationStatus"] == "DUPLICATE_SKIPPED"
    assert line["GeneratedFraudsterId"] == first.generated_id("r1")
    assert 50 <= line["FraudsterSimilarityScore"] <= 100
    assert second.successes["r2"] == "NEW_REGISTRATION"
    assert lists_of(testbed, domain, first.generated_id("r1")) == [testbed.default_list(domain)]


def test_a_voice_registered_earlier_in_the_same_job_counts(testbed, domain):
    outcome = testbed.register(domain, [fraud_entry("r1", ENGLISH), fraud_entry("r2", AGAIN)])
    assert outcome.successes == {"r1": "NEW_REGISTRATION", "r2": "DUPLICATE_SKIPPED"}
    assert outcome.generated_id("r2") == outcome.generated_id("r1")


def test_register_as_new_takes_the_same_voice_twice(testbed, domain):
    outcome = testbed.register(
        domain, [fraud_entry("r1", ENGLISH), fraud_entry("r2", ENGLISH)], action="REGISTER_AS_NEW"
    )
    assert outcome.successes == {"r1": "NEW_REGISTRATION", "r2": "NEW_REGISTRATION"}
    assert outcome.generated_id("r2") != outcome.generated_id("r1")


def test_the_threshold_decides_who_is_a_duplicate(testbed, domain):
    entries = [fraud_entry("r1", ENGLISH), fraud_entry("r2", RUSSIAN)]
    at_zero = testbed.register(domain, entries, FraudsterSimilarityThreshold=0)
    assert at_zero.successes == {"r1": "NEW_REGISTRATION", "r2": "DUPLICATE_SKIPPED"}
    assert at_zero.line("r2")["FraudsterSimilarityScore"] == 0  # the band, not the score
    other = testbed.new_domain()
    at_fifty = testbed.register(other, entries, FraudsterSimilarityThreshold=50)
    assert at_fifty.successes == {"r1": "NEW_REGISTRATION", "r2": "NEW_REGISTRATION"}


def test_the_very_same_recording_scores_100(testbed, domain):
    outcome = testbed.register(
        domain,
        [fraud_entry("r1", ENGLISH), fraud_entry("r2", ENGLISH)],
        FraudsterSimilarityThreshold=100,
    )
    assert outcome.line("r2")["FraudsterSimilarityScore"] == 100


def test_a_deleted_fraudster_is_no_duplicate_any_more(testbed, domain):
    first = testbed.register(domain, [fraud_entry("r1", ENGLISH)])
    testbed.call("DeleteFraudster", DomainId=domain, FraudsterId=first.generated_id("r1"))
    again = testbed.register(domain, [fraud_entry("r1", ENGLISH)])
    assert again.successes == {"r1": "NEW_REGISTRATION"}
    assert list(testbed.fraudsters(domain)) == [again.generated_id("r1")]


def test_fraudster_deleted_while_the_job_runs_is_no_duplicate_later(testbed, domain):
    first = testbed.register(domain, [fraud_entry("r1", ENGLISH)]).generated_id("r1")

    def delete():
        testbed.call("DeleteFraudster", DomainId=domain, FraudsterId=first)

    outcome = testbed.register(
        domain, [fraud_entry("r1", ITALIAN), fraud_entry("r2", ENGLISH)], during={1: delete}
    )
    assert outcome.successes == {"r1": "NEW_REGISTRATION", "r2": "NEW_REGISTRATION"}


def test_fraudsters_of_another_domain_do_not_count(testbed, domain):
    testbed.register(testbed.new_domain(), [fraud_entry("r1", ENGLISH)])
    assert testbed.register(domain, [fraud_entry("r1", ENGLISH)]).successes == {"r1": "NEW_REGISTRATION"}


def test_full_watchlist_refuses_new_fraudsters_with_402(variant, testbed):
    quotas = replace(testbed.settings.quotas, fraudsters_per_watchlist=1)
    small = variant(quotas=quotas)
    domain_id = small.new_domain()
    outcome = small.register(
        domain_id, [fraud_entry("r1", ENGLISH), fraud_entry("r2", ITALIAN), fraud_entry("r3", AGAIN)]
    )
    assert outcome.errors == {"r2": (402, "the watchlist already has 1 fraudsters, its quota")}
    assert outcome.successes == {"r1": "NEW_REGISTRATION", "r3": "DUPLICATE_SKIPPED"}
    assert outcome.status == "COMPLETED_WITH_ERRORS"


def test_a_watchlist_deleted_while_the_job_runs_is_404_for_what_follows(testbed, domain):
    known = new_list(testbed, domain)

    def delete():
        testbed.call("DeleteWatchlist", DomainId=domain, WatchlistId=known)

    outcome = testbed.register(domain, [fraud_entry("r1", ENGLISH)], WatchlistIds=[known], during={0: delete})
    assert outcome.errors == {"r1": (404, "the watchlist was deleted while the job ran")}
    assert testbed.fraudsters(domain) == {}


def test_faults_of_single_requests_are_reported_like_those_of_enrollments(testbed, domain):
    bad = {"RequestId": "r4", "AudioSpecifications": [{"S3Uri": ENGLISH}]}
    outcome = testbed.register(
        domain,
        [
            fraud_entry("r1", "s3://calls/english-short.wav"),
            fraud_entry("r2", "s3://calls/none.wav"),
            fraud_entry("r3", ENGLISH),
            bad,
        ],
    )
    assert {request: code for request, (code, _) in outcome.errors.items()} == {
        "r1": 400,
        "r2": 404,
        "r4": 400,
    }
    assert "not enough speech" in outcome.errors["r1"][1]
    assert outcome.errors["r4"][1] == "AudioSpecifications 1: ChannelId is missing"
    assert list(outcome.successes) == ["r3"]


def test_speech_needed_is_a_setting_of_its_own(variant):
    hasty = variant(registration=Registration(net_speech_s=2.0))
    outcome = hasty.register(hasty.new_domain(), [fraud_entry("r1", "s3://calls/english-short.wav")])
    assert outcome.status == "COMPLETED"


def test_more_requests_than_the_quota_fail_the_job_with_402(variant, testbed):
    small = variant(quotas=replace(testbed.settings.quotas, fraudsters_per_registration_job=1))
    outcome = small.register(small.new_domain(), [fraud_entry("r1", ENGLISH), fraud_entry("r2", ITALIAN)])
    assert outcome.failure == (402, "the manifest has more than 1 requests, the quota of a job")


def test_a_manifest_of_the_other_kind_fails_the_job(testbed, domain):
    outcome = testbed.register(domain, manifest([fraud_entry("r1", ENGLISH)]))
    assert outcome.failure == (400, "the manifest has no list FraudsterRegistrationRequests")


def test_jobs_of_two_types_run_together_and_two_of_one_type_do_not(testbed, domain):
    voices = [entry("r1", "customer", ENGLISH)], [fraud_entry("r1", ITALIAN)]
    first, second = (
        testbed.start(domain, voices[0]),
        testbed.start(domain, voices[1], kind=REGISTRATION),
    )
    with pytest.raises(ServiceQuotaExceeded):
        testbed.start(domain, voices[1], kind=REGISTRATION)
    testbed.run()
    testbed.run()
    assert [testbed.outcome(domain, job).status for job in (first, second)] == ["COMPLETED", "COMPLETED"]


def test_a_voice_and_its_audio_are_sealed_and_gone_with_the_fraudster(own_testbed):
    testbed = own_testbed
    domain_id = testbed.new_domain()
    fraudster_id = testbed.register(domain_id, [fraud_entry("r1", ENGLISH)]).generated_id("r1")
    vector = testbed.fraudsters(domain_id, protected=True)[fraudster_id].tobytes()
    with testbed.store.database.read() as connection:
        row = connection.execute(select(fraudster_voiceprints)).one()
    for part in (vector[:64], b"fLaC"):
        for path in testbed.settings.data.glob("sonant.db*"):
            assert part not in path.read_bytes(), path
    assert row.audio_sealed
    testbed.call("DeleteFraudster", DomainId=domain_id, FraudsterId=fraudster_id)
    with testbed.store.database.read() as connection:
        assert connection.execute(select(fraudster_voiceprints)).first() is None
    for path in testbed.settings.data.glob("sonant.db*"):
        assert row.vector_sealed not in path.read_bytes(), path


def test_a_damaged_voice_fails_the_job_and_is_not_passed_over(own_testbed):
    testbed = own_testbed
    domain_id = testbed.new_domain()
    testbed.register(domain_id, [fraud_entry("r1", ENGLISH)])
    assert testbed.execute("UPDATE fraudster_voiceprints SET vector_sealed = :junk", junk=b"\x01" * 60) == 1
    for outcome in (
        testbed.register(domain_id, [fraud_entry("r1", ITALIAN)]),
        testbed.enroll(domain_id, [entry("r1", "customer", ITALIAN)]),
    ):
        told = "a fraudster's voiceprint is damaged; restore the database from a backup"
        assert outcome.failure == (500, told)


def test_each_request_sends_an_event_and_the_job_two(testbed, domain):
    events: list[Any] = []

    class Listening(Outbox):
        def put(self, connection, told, now):
            events.extend(document(event, new_uuid(), now) for event in told)

    requests = [
        fraud_entry("r1", ENGLISH),
        fraud_entry("r2", AGAIN),
        fraud_entry("r3", "s3://calls/none.wav"),
    ]
    job_id = testbed.start(domain, requests, kind=REGISTRATION)
    runner = testbed.runner(outbox=Listening())
    assert runner.run_one()
    outcome = testbed.outcome(domain, job_id)
    *single, ended = [event["detail"] for event in events]
    lists = [testbed.default_list(domain)]
    told = [(event["status"], event["generatedFraudsterId"], event["watchlistIds"]) for event in single]
    known = outcome.generated_id("r1")
    assert told == [("SUCCEEDED", known, lists), ("SUCCEEDED", known, lists), ("FAILED", None, lists)]
    assert [event["data"]["registrationStatus"] for event in single] == [
        "NEW_REGISTRATION",
        "DUPLICATE_SKIPPED",
        None,
    ]
    assert {event["data"]["registrationSourceId"] for event in single} == {job_id}
    assert (ended["action"], ended["status"]) == (
        "BATCH_FRAUDSTER_REGISTRATION_REQUEST",
        "COMPLETED_WITH_ERRORS",
    )
