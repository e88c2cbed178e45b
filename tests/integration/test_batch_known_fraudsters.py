"""Known fraudsters in enrollment jobs: who is on the watchlist is refused, and only then."""

import json
import logging
from typing import Any

import pytest
from batch_values import entry, fraud_entry

from sonant.audit import chain
from sonant.events.documents import document
from sonant.events.outbox import Outbox
from sonant.ids import new_uuid

ENGLISH, AGAIN = "s3://calls/english.wav", "s3://calls/english-again.wav"
ITALIAN, RUSSIAN = "s3://calls/italian.wav", "s3://calls/russian.wav"
VOICES = [entry("r1", "honest", ITALIAN), entry("r2", "fraudster", AGAIN)]


@pytest.fixture
def watched(testbed, domain):
    """A domain whose default watchlist holds the English speaker, from another call; and that fraudster."""
    outcome = testbed.register(domain, [fraud_entry("r1", ENGLISH)])
    return domain, outcome.generated_id("r1")


def test_action_fail_refuses_a_fraudster_with_the_risk_and_stores_nothing(testbed, watched):
    domain, fraudster_id = watched
    outcome = testbed.enroll(domain, VOICES, fraud={"FraudDetectionAction": "FAIL"})
    code, message = outcome.errors["r2"]
    assert code == 400
    risk, score, threshold = message.split()[3], int(message.split()[5].rstrip(",")), message.split()[-1]
    assert (risk, threshold) == ("KnownFraudsterRisk", "50")
    assert 50 <= score <= 100
    assert fraudster_id not in message
    assert outcome.successes == {"r1": "NEW_ENROLLMENT"}
    assert list(testbed.speakers(domain)) == ["honest"]


def test_ignore_enrolls_him(testbed, watched):
    outcome = testbed.enroll(watched[0], VOICES, fraud={"FraudDetectionAction": "IGNORE", "RiskThreshold": 0})
    assert set(outcome.successes.values()) == {"NEW_ENROLLMENT"}


def test_the_old_voiceprint_stays_when_the_new_voice_is_a_fraudsters(testbed, watched):
    domain, _ = watched
    assert testbed.enroll(domain, [entry("r1", "customer", ITALIAN)]).status == "COMPLETED"
    before = testbed.voiceprints(domain)["customer"]
    outcome = testbed.enroll(domain, [entry("r1", "customer", AGAIN)], action="OVERWRITE")
    assert outcome.errors["r1"][0] == 400
    assert testbed.voiceprints(domain)["customer"].tobytes() == before.tobytes()


def test_only_the_watchlist_that_the_job_names_counts(testbed, watched):
    domain, fraudster_id = watched
    other = testbed.call("CreateWatchlist", DomainId=domain, Name="other")["Watchlist"]["WatchlistId"]
    on_other = {"WatchlistIds": [other]}
    requests = [entry("r1", "fraudster", AGAIN)]
    testbed.call("AssociateFraudster", DomainId=domain, FraudsterId=fraudster_id, WatchlistId=other)
    assert testbed.enroll(domain, requests, fraud=on_other).errors["r1"][0] == 400
    testbed.call("DisassociateFraudster", DomainId=domain, FraudsterId=fraudster_id, WatchlistId=other)
    assert testbed.enroll(domain, requests, fraud=on_other).successes == {"r1": "NEW_ENROLLMENT"}


@pytest.mark.parametrize("threshold", [0, 1])
def test_an_empty_watchlist_gives_risk_0_which_only_threshold_0_refuses(testbed, domain, threshold):
    outcome = testbed.enroll(domain, [entry("r1", "anybody", ITALIAN)], fraud={"RiskThreshold": threshold})
    told = "fraud check failed: KnownFraudsterRisk is 0, at or above the threshold 0"
    assert outcome.errors == ({"r1": (400, told)} if threshold == 0 else {})


def test_watchlist_changed_while_the_job_runs_counts_for_later_requests(testbed, watched):
    domain, fraudster_id = watched

    def delete():
        testbed.call("DeleteFraudster", DomainId=domain, FraudsterId=fraudster_id)

    requests = [entry("r1", "first", AGAIN), entry("r2", "second", AGAIN)]
    outcome = testbed.enroll(domain, requests, during={2: delete})
    assert list(outcome.errors) == ["r1"]
    assert outcome.successes == {"r2": "NEW_ENROLLMENT"}


def test_fraudster_added_to_the_list_while_the_job_runs_is_refused(testbed, watched):
    domain, fraudster_id = watched
    other = testbed.call("CreateWatchlist", DomainId=domain, Name="other")["Watchlist"]["WatchlistId"]

    def associate():
        testbed.call("AssociateFraudster", DomainId=domain, FraudsterId=fraudster_id, WatchlistId=other)

    requests = [entry("r1", "first", AGAIN), entry("r2", "second", AGAIN)]
    outcome = testbed.enroll(domain, requests, fraud={"WatchlistIds": [other]}, during={2: associate})
    assert outcome.successes == {"r1": "NEW_ENROLLMENT"}
    assert list(outcome.errors) == ["r2"]


def test_events_and_log_name_the_fraudster_and_the_result_does_not(testbed, watched, caplog):
    domain, fraudster_id = watched
    job_id = testbed.start(domain, VOICES)
    events: list[Any] = []

    class Listening(Outbox):
        def put(self, connection, told, now):
            events.extend(document(event, new_uuid(), now) for event in told)

    runner = testbed.runner(outbox=Listening())
    with caplog.at_level(logging.INFO, "sonant.jobs"):
        assert runner.run_one()
    honest, refused = (
        event["detail"]["fraudDetectionResult"]
        for event in events
        if event["detail-type"] == "Sonant Enrollment Fraud Detection"
    )
    assert honest["decision"] == "LOW_RISK"
    assert refused["decision"] == "HIGH_RISK"
    assert refused["reasons"] == ["KNOWN_FRAUDSTER"]
    assert refused["configuration"] == {"riskThreshold": 50, "watchlistId": testbed.default_list(domain)}
    known = refused["riskDetails"]["knownFraudsterRisk"]
    assert known["generatedFraudsterId"] == fraudster_id
    outcome = testbed.outcome(domain, job_id)
    assert f"KnownFraudsterRisk is {known['riskScore']}," in outcome.errors["r2"][1]
    assert fraudster_id not in json.dumps(outcome.result)
    (line,) = [record.getMessage() for record in caplog.records if "flagged" in record.getMessage()]
    assert fraudster_id in line
    assert "r2" not in line


def audited(testbed):
    folder = testbed.settings.data / "audit" / "jobs"
    lines = chain.records(folder, since=None, operation="FraudDetection", principal=None)
    return folder, [told for told, _ in lines]


def test_audit_trail_names_the_fraudster_and_not_the_customer(testbed, watched):
    domain, fraudster_id = watched
    folder, before = audited(testbed)
    testbed.enroll(domain, VOICES)
    testbed.enroll(domain, VOICES, fraud={"FraudDetectionAction": "IGNORE"})
    _, after = audited(testbed)
    refused, ignored = (line["serviceEventDetails"] for line in after[len(before) :])
    assert (refused["outcome"], ignored["outcome"]) == ("ERROR_400", "NEW_ENROLLMENT")
    for details in (refused, ignored):
        assert details["requestNumber"] == 2
        found = details["fraudDetectionResult"]
        assert (found["decision"], found["reasons"]) == ("HIGH_RISK", ["KNOWN_FRAUDSTER"])
        known = found["riskDetails"]["knownFraudsterRisk"]
        assert known["generatedFraudsterId"] == fraudster_id
        assert known["riskScore"] >= 50
    assert after[-1]["resources"][0]["ARN"].endswith(domain)
    assert chain.verify(folder).broken is None
    assert not any(name in str(after) for name in ("'fraudster'", "honest"))
