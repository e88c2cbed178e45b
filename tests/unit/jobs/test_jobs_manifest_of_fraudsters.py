"""The manifest of a registration job: that of an enrollment job under another name, without speakers."""

import json

import pytest

from sonant.assembly.jobs import manifest_rules
from sonant.jobs.faults import JobFault
from sonant.jobs.manifest import AudioFile, BadRequest, Request, read_manifest
from sonant.settings import Quotas, Settings
from sonant.storage.repositories.jobs import REGISTRATION

RULES = manifest_rules(Settings(quotas=Quotas(fraudsters_per_registration_job=2)), REGISTRATION)
AUDIO = [{"S3Uri": "s3://calls/a.wav", "ChannelId": 1}]


def read(*entries, name="FraudsterRegistrationRequests"):
    return list(read_manifest([json.dumps({"Version": "1.0", name: entries}).encode()], RULES))


def test_a_request_needs_no_speaker():
    (found,) = read({"RequestId": "r1", "AudioSpecifications": AUDIO})
    assert found == Request(request_id="r1", audio=(AudioFile(s3_uri="s3://calls/a.wav", channel=1),))


@pytest.mark.parametrize("speaker", ["customer", "two words", "id#AbCdEfGhIjKlMnOpQrStUv", 7, None])
def test_a_speaker_that_is_named_all_the_same_is_not_looked_at(speaker):
    (found,) = read({"RequestId": "r1", "SpeakerId": speaker, "AudioSpecifications": AUDIO})
    assert isinstance(found, Request)


def test_all_other_rules_hold():
    bad, worse = read({"RequestId": "r1", "AudioSpecifications": []}, {"AudioSpecifications": AUDIO})
    assert bad == BadRequest(request_id="r1", message="AudioSpecifications must hold 1 to 10 files, holds 0")
    assert worse.message == "request 2 of the manifest needs a RequestId of 1 to 256 characters"


def test_the_quota_is_that_of_registrations():
    entries = [{"RequestId": f"r{n}", "AudioSpecifications": AUDIO} for n in range(3)]
    assert len(read(*entries[:2])) == 2
    with pytest.raises(JobFault) as fault:
        read(*entries)
    assert fault.value.code == 402


def test_the_list_of_the_other_kind_is_not_taken():
    with pytest.raises(JobFault) as fault:
        read({"RequestId": "r1", "AudioSpecifications": AUDIO}, name="SpeakerEnrollmentRequests")
    assert (fault.value.code, fault.value.message) == (
        400,
        "the manifest has no list FraudsterRegistrationRequests",
    )
