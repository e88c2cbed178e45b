"""The fraud stage in a whole job, with a detector that knows one fraudster's voice."""

import json

import pytest
from batch_values import entry
from fraud_mains import work_with_watchlist

from sonant.jobs.engines.local import LocalEngine

ENTRIES = [
    entry("r1", "honest", "s3://calls/italian.wav"),
    entry("r2", "fraudster", "s3://calls/english-again.wav"),
]


@pytest.fixture(scope="module")
def watched(house, tmp_path_factory):
    """A house whose workers know the English speaker as a fraudster, from another call."""
    domain_id = house.new_domain()
    house.enroll(domain_id, [entry("r1", "known", "s3://calls/english.wav")])
    watchlist = tmp_path_factory.mktemp("fraud") / "watchlist.json"
    watchlist.write_text(json.dumps([house.voiceprints(domain_id)["known"].tolist()]))
    other = house.variant()
    other.engine = LocalEngine(
        work_with_watchlist, (house.settings, str(watchlist)), workers=1, time_limit_s=60.0
    )
    yield other
    other.close()


def test_fail_refuses_the_flagged_voice_and_stores_nothing_of_it(watched):
    domain_id = watched.new_domain()
    outcome = watched.enroll(domain_id, ENTRIES, fraud={"FraudDetectionAction": "FAIL", "RiskThreshold": 85})
    code, message = outcome.errors["r2"]
    assert code == 400
    words = message.split()
    assert message == (
        f"fraud check failed: KnownFraudsterRisk is {words[5].rstrip(',')}, at or above the threshold 85"
    )
    assert 85 <= int(words[5].rstrip(",")) <= 100
    assert outcome.successes == {"r1": "NEW_ENROLLMENT"}
    assert list(watched.speakers(domain_id)) == ["honest"]


def test_ignore_enrolls_the_flagged_voice(watched):
    outcome = watched.enroll(
        watched.new_domain(), ENTRIES, fraud={"FraudDetectionAction": "IGNORE", "RiskThreshold": 0}
    )
    assert set(outcome.successes.values()) == {"NEW_ENROLLMENT"}


@pytest.mark.parametrize(("threshold", "refused"), [(100, []), (0, ["r1", "r2"])])
def test_the_threshold_of_the_job_decides(watched, threshold, refused):
    outcome = watched.enroll(watched.new_domain(), ENTRIES, fraud={"RiskThreshold": threshold})
    assert list(outcome.errors) == refused


def test_the_old_voiceprint_stays_when_the_new_voice_is_flagged(watched):
    domain_id = watched.new_domain()
    honest = [entry("r1", "customer", "s3://calls/italian.wav")]
    assert watched.enroll(domain_id, honest, fraud={"RiskThreshold": 85}).status == "COMPLETED"
    before = watched.voiceprints(domain_id)["customer"]
    outcome = watched.enroll(
        domain_id,
        [entry("r1", "customer", "s3://calls/english-again.wav")],
        action="OVERWRITE",
        fraud={"RiskThreshold": 85},
    )
    assert outcome.errors["r1"][0] == 400
    assert watched.voiceprints(domain_id)["customer"].tobytes() == before.tobytes()


def test_without_detectors_nobody_is_flagged(house, domain):
    outcome = house.enroll(domain, ENTRIES, fraud={"FraudDetectionAction": "FAIL", "RiskThreshold": 0})
    assert outcome.status == "COMPLETED"
