"""The replay guard in whole jobs: one recording for two speakers is refused, anything honest is not."""

import io

import numpy as np
import pytest
import soundfile
from batch_values import entry, manifest
from sqlalchemy import select

from sonant.assembly import installation
from sonant.evaluation.channels import parse
from sonant.storage.database.schema import fingerprints
from sonant.storage.repositories import voiceprints

ENGLISH, AGAIN = "s3://calls/english.wav", "s3://calls/english-again.wav"
REFUSED = (400, "fraud check failed: VoiceSpoofingRisk is 100 (REPLAY), at or above the threshold 50")


@pytest.fixture
def enrolled(testbed, domain):
    """A domain with one speaker."""
    assert testbed.enroll(domain, [entry("r1", "first", ENGLISH)]).successes
    return domain


def stored(testbed, domain_id):
    with testbed.store.database.read() as connection:
        query = select(fingerprints.c.speaker_id, fingerprints.c.sealed)
        return connection.execute(query.where(fingerprints.c.domain_id == domain_id)).all()


def test_same_recording_for_another_speaker_is_refused_and_not_stored(testbed, enrolled):
    outcome = testbed.enroll(enrolled, [entry("r1", "second", ENGLISH)])

    assert outcome.errors == {"r1": REFUSED}
    assert list(testbed.speakers(enrolled)) == ["first"]
    assert len(stored(testbed, enrolled)) == 1


@pytest.mark.parametrize("dry", [False, True], ids=["enrollment", "dry run"])
def test_fingerprints_are_read_before_anything_is_committed(testbed, enrolled, monkeypatch, dry):
    read_after, found = voiceprints.fingerprints_after, list[tuple[bool, int]]()

    def watched(connection, *arguments):
        rows = list(read_after(connection, *arguments))
        found.append(("sonant_write" in connection.get_execution_options(), len(rows)))
        return iter(rows)

    monkeypatch.setattr(voiceprints, "fingerprints_after", watched)
    if dry:
        testbed.call(
            "StartEnrollmentDryRun",
            DomainId=enrolled,
            DataAccessRoleArn=installation.role_arn(testbed.settings),
            InputDataConfig={
                "S3Uri": testbed.put("s3://jobs/dry.json", manifest([entry("r1", "second", ENGLISH)]))
            },
            OutputDataConfig={"S3Uri": "s3://results/dry"},
        )
        testbed.run()
    else:
        assert testbed.enroll(enrolled, [entry("r1", "second", ENGLISH)]).errors == {"r1": REFUSED}
    assert found[0] == (False, 1)
    assert {count for writing, count in found if writing} == {0}


def test_a_copy_over_a_mobile_line_is_refused_too(testbed, enrolled):
    samples, rate_hz = soundfile.read(io.BytesIO(testbed.get(ENGLISH)), dtype="float32", always_2d=True)
    line = parse("white:20+gsm")
    heard = np.stack([line.apply(channel * np.float32(0.6), seed=[1]) for channel in samples.T], axis=1)
    out = io.BytesIO()
    soundfile.write(out, heard, rate_hz, format="WAV", subtype="PCM_16")
    copy = testbed.put("s3://calls/copied.wav", out.getvalue())

    assert testbed.enroll(enrolled, [entry("r1", "second", copy)]).errors == {"r1": REFUSED}


def test_within_one_job_the_second_speaker_is_refused(testbed, domain):
    outcome = testbed.enroll(domain, [entry("r1", "first", ENGLISH), entry("r2", "second", ENGLISH)])

    assert outcome.successes == {"r1": "NEW_ENROLLMENT"}
    assert outcome.errors == {"r2": REFUSED}


def test_another_call_of_the_same_person_is_no_replay(testbed, enrolled):
    assert testbed.enroll(enrolled, [entry("r1", "second", AGAIN)]).successes == {"r1": "NEW_ENROLLMENT"}


def test_the_same_speaker_may_be_enrolled_again_with_the_same_recording(testbed, enrolled):
    outcome = testbed.enroll(
        enrolled, [entry("r1", "first", ENGLISH), entry("r2", "first", ENGLISH)], action="OVERWRITE"
    )

    assert outcome.successes == {"r1": "ENROLLMENT_OVERWRITE", "r2": "ENROLLMENT_OVERWRITE"}


def test_ignore_enrolls_the_copy_and_remembers_nothing_of_it(testbed, enrolled):
    outcome = testbed.enroll(
        enrolled, [entry("r1", "second", ENGLISH)], fraud={"FraudDetectionAction": "IGNORE"}
    )

    assert outcome.successes == {"r1": "NEW_ENROLLMENT"}
    assert len(stored(testbed, enrolled)) == 1


def test_another_domain_knows_nothing_of_it(testbed, enrolled):
    other = testbed.new_domain()

    assert testbed.enroll(other, [entry("r1", "second", ENGLISH)]).successes == {"r1": "NEW_ENROLLMENT"}


@pytest.mark.parametrize("operation", ["DeleteSpeaker", "OptOutSpeaker"])
def test_who_is_forgotten_is_forgotten_here_too(testbed, enrolled, operation):
    testbed.call(operation, DomainId=enrolled, SpeakerId="first")

    assert stored(testbed, enrolled) == []
    assert testbed.enroll(enrolled, [entry("r1", "second", ENGLISH)]).successes == {"r1": "NEW_ENROLLMENT"}


def test_only_so_many_fingerprints_of_a_speaker_are_kept(testbed, enrolled, monkeypatch):
    monkeypatch.setattr("sonant.storage.repositories.voiceprints.MAX_FINGERPRINTS", 2)
    for _ in range(3):
        testbed.enroll(enrolled, [entry("r1", "first", ENGLISH)], action="OVERWRITE")

    assert len(stored(testbed, enrolled)) == 2


def test_the_guard_can_be_switched_off(testbed, enrolled, variant):
    from sonant.settings import Fraud

    other = variant(fraud=Fraud(spoofing_max_s=0, replay_recordings=0))

    assert other.enroll(enrolled, [entry("r1", "second", ENGLISH)]).successes == {"r1": "NEW_ENROLLMENT"}
