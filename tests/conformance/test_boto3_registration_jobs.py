"""Registration jobs through boto3: what is answered, not what the engine makes of recordings."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from client_faults import refused
from service_process import KEY_ALIAS, ROLE, ServiceProcess

NOBODY = "AbCdEfGhIjKlMnOpQrStUv"
SUMMARY = {"CreatedAt", "DomainId", "JobId", "JobProgress", "JobStatus"}
DETAILS = {"DataAccessRoleArn", "RegistrationConfig", "InputDataConfig", "OutputDataConfig"}


def put_manifest(service: ServiceProcess, requests: int) -> str:
    """A manifest of requests for recordings that are not there."""
    name = f"{uuid.uuid4()}.json"
    audio = [{"S3Uri": "s3://calls/absent.wav", "ChannelId": 0}]
    entries = [{"RequestId": f"r{n}", "AudioSpecifications": audio} for n in range(requests)]
    text = json.dumps({"Version": "1.0", "FraudsterRegistrationRequests": entries})
    (service.data / "buckets" / "calls" / name).write_text(text)
    return f"s3://calls/{name}"


def default_list(service: ServiceProcess, domain_id: str) -> str:
    domain = service.voice_id.describe_domain(DomainId=domain_id)["Domain"]
    return str(domain["WatchlistDetails"]["DefaultWatchlistId"])


def test_a_started_job_is_answered_at_once_with_all_that_was_sent(
    service: ServiceProcess, domain_id: str
) -> None:
    before = datetime.now(UTC)
    config = {
        "DuplicateRegistrationAction": "REGISTER_AS_NEW",
        "FraudsterSimilarityThreshold": 0,
        "WatchlistIds": [default_list(service, domain_id)],
    }
    job = service.voice_id.start_fraudster_registration_job(
        DomainId=domain_id,
        JobName="ring",
        DataAccessRoleArn=ROLE,
        RegistrationConfig=config,
        InputDataConfig={"S3Uri": "s3://calls/absent.json"},
        OutputDataConfig={"S3Uri": "s3://calls/results/", "KmsKeyId": KEY_ALIAS},
    )["Job"]
    assert set(job) == SUMMARY | DETAILS | {"JobName"}
    assert re.fullmatch("[a-zA-Z0-9]{22}", job["JobId"])
    assert (job["DomainId"], job["JobName"], job["DataAccessRoleArn"]) == (domain_id, "ring", ROLE)
    assert job["JobStatus"] == "SUBMITTED"
    assert job["RegistrationConfig"] == config
    assert job["OutputDataConfig"] == {"S3Uri": "s3://calls/results/", "KmsKeyId": KEY_ALIAS}
    assert abs(job["CreatedAt"] - before) < timedelta(minutes=1)


def test_what_was_not_sent_is_answered_with_its_default(service: ServiceProcess, domain_id: str) -> None:
    job = service.start_registration(domain_id)
    assert job["RegistrationConfig"] == {
        "DuplicateRegistrationAction": "SKIP",
        "FraudsterSimilarityThreshold": 50,
    }
    assert "JobName" not in job


def test_a_job_whose_manifest_is_missing_fails_as_a_whole(service: ServiceProcess, domain_id: str) -> None:
    started = service.start_registration(domain_id)
    job = service.ended_registration(domain_id, started["JobId"])
    assert set(job) == SUMMARY | DETAILS | {"EndedAt", "FailureDetails"}
    assert (job["JobStatus"], job["JobProgress"]) == ("FAILED", {"PercentComplete": 0})
    assert job["FailureDetails"]["StatusCode"] == 404
    assert "s3://calls/absent.json" in job["FailureDetails"]["Message"]


def test_single_failures_do_not_fail_the_job(service: ServiceProcess, domain_id: str) -> None:
    manifest = put_manifest(service, requests=3)
    started = service.start_registration(domain_id, manifest)
    job = service.ended_registration(domain_id, started["JobId"])
    assert (job["JobStatus"], job["JobProgress"]) == ("COMPLETED_WITH_ERRORS", {"PercentComplete": 100})
    name = manifest.rpartition("/")[2]
    path = service.data / "buckets" / "calls" / "results" / job["JobId"] / f"{name}.out"
    result = json.loads(path.read_text())
    assert list(result) == ["Version", "Errors", "SuccessfulRegistrations"]
    assert [(line["RequestId"], line["ErrorCode"]) for line in result["Errors"]] == [
        (f"r{n}", 404) for n in range(3)
    ]
    assert result["SuccessfulRegistrations"] == []


def test_listing_shows_newest_jobs_of_its_kind_first_without_configuration(
    service: ServiceProcess, domain_id: str
) -> None:
    jobs = [
        service.ended_registration(domain_id, service.start_registration(domain_id)["JobId"])
        for _ in range(3)
    ]
    enrollment = service.start_job(domain_id)["JobId"]
    api = service.voice_id
    answer = api.list_fraudster_registration_jobs(DomainId=domain_id)
    assert answer["JobSummaries"] == [
        {name: job[name] for name in SUMMARY | {"EndedAt", "FailureDetails"}} for job in reversed(jobs)
    ]
    failed = api.list_fraudster_registration_jobs(DomainId=domain_id, JobStatus="FAILED")["JobSummaries"]
    assert failed == answer["JobSummaries"]
    completed = api.list_fraudster_registration_jobs(DomainId=domain_id, JobStatus="COMPLETED")
    assert completed["JobSummaries"] == []
    (other,) = api.list_speaker_enrollment_jobs(DomainId=domain_id)["JobSummaries"]
    assert other["JobId"] == enrollment


def test_a_job_of_the_other_kind_counts_as_missing(service: ServiceProcess, domain_id: str) -> None:
    registration = service.start_registration(domain_id)["JobId"]
    enrollment = service.start_job(domain_id)["JobId"]
    for call, job_id in (
        (service.voice_id.describe_fraudster_registration_job, enrollment),
        (service.voice_id.describe_speaker_enrollment_job, registration),
        (service.voice_id.describe_fraudster_registration_job, NOBODY),
    ):
        fault = refused(call, DomainId=domain_id, JobId=job_id)
        assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "BATCH_JOB")


def test_an_unknown_watchlist_is_not_found_at_the_start_call(service: ServiceProcess, domain_id: str) -> None:
    foreign = default_list(service, service.domain("other"))
    for watchlist_id in (NOBODY, foreign):
        config = {"WatchlistIds": [watchlist_id]}
        fault = refused(service.start_registration, domain_id=domain_id, RegistrationConfig=config)
        assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "WATCHLIST")


def test_the_caller_needs_the_right_to_pass_the_role(service: ServiceProcess, domain_id: str) -> None:
    allowed = ["voiceid:StartFraudsterRegistrationJob", "kms:Decrypt"]
    user = service.user({"Effect": "Allow", "Action": allowed, "Resource": "*"})
    fault = refused(
        service.client(user).start_fraudster_registration_job,
        DomainId=domain_id,
        DataAccessRoleArn=ROLE,
        InputDataConfig={"S3Uri": "s3://calls/absent.json"},
        OutputDataConfig={"S3Uri": "s3://calls/results"},
    )
    assert fault.code == "AccessDeniedException"
    assert "iam:PassRole" in fault.message


@pytest.mark.parametrize(
    "change",
    [
        {"DataAccessRoleArn": "arn:aws:iam::000000000000:user/somebody"},
        {"JobName": "secret name"},
        {"RegistrationConfig": {"DuplicateRegistrationAction": "KEEP"}},
        {"RegistrationConfig": {"FraudsterSimilarityThreshold": 101}},
        {"RegistrationConfig": {"FraudsterSimilarityThreshold": -1}},
        {"RegistrationConfig": {"WatchlistIds": []}},
        {"RegistrationConfig": {"WatchlistIds": [NOBODY, NOBODY]}},
    ],
)
def test_input_that_breaks_a_constraint_is_refused(
    service: ServiceProcess, domain_id: str, change: dict[str, Any]
) -> None:
    fault = refused(
        service.unchecked.start_fraudster_registration_job,
        **{
            "DomainId": domain_id,
            "DataAccessRoleArn": ROLE,
            "InputDataConfig": {"S3Uri": "s3://calls/absent.json"},
            "OutputDataConfig": {"S3Uri": "s3://calls/results"},
            **change,
        },
    )
    assert fault.code == "ValidationException"
    assert "secret" not in fault.message
    assert service.voice_id.list_fraudster_registration_jobs(DomainId=domain_id)["JobSummaries"] == []
