"""The fraud stage in a whole job, with a detector in the workers that takes one voice for a machine's."""

import json

import pytest
from batch_values import entry, fraud_entry
from fraud_mains import work_with_detector
from waiting import PATIENCE_S

from sonant.jobs.workers.engines.local import LocalEngine

ENTRIES = [
    entry("r1", "honest", "s3://calls/italian.wav"),
    entry("r2", "machine", "s3://calls/english-again.wav"),
]


@pytest.fixture(scope="module")
def watched(testbed, tmp_path_factory):
    """A testbed whose workers take the English speaker for a machine, from another call."""
    domain_id = testbed.new_domain()
    testbed.enroll(domain_id, [entry("r1", "known", "s3://calls/english.wav")])
    voices = tmp_path_factory.mktemp("fraud") / "voices.json"
    voices.write_text(json.dumps([testbed.voiceprints(domain_id)["known"].tolist()]))
    other = testbed.variant()
    other.engine = LocalEngine(
        work_with_detector, (testbed.settings, str(voices)), workers=1, time_limit_s=PATIENCE_S
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
        f"fraud check failed: VoiceSpoofingRisk is {words[5].rstrip(',')}, at or above the threshold 85"
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


def test_the_graver_of_both_risks_is_reported(watched):
    domain_id = watched.new_domain()
    watched.register(domain_id, [fraud_entry("r1", "s3://calls/english-again.wav")])
    outcome = watched.enroll(domain_id, ENTRIES[1:])
    assert outcome.errors["r2"][1].startswith("fraud check failed: KnownFraudsterRisk is 100,")
