"""Enrollment jobs through boto3: what is answered, not what the engine makes of recordings."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from client_faults import refused
from service_process import KEY_ALIAS, ROLE, ServiceProcess

from sonant.demo.recordings import ManifestEntry, write_manifest

NOBODY = "AbCdEfGhIjKlMnOpQrStUv"
SUMMARY = {"CreatedAt", "DomainId", "JobId", "JobName", "JobProgress", "JobStatus"}
DETAILS = {"DataAccessRoleArn", "EnrollmentConfig", "InputDataConfig", "OutputDataConfig"}


def put_manifest(service: ServiceProcess, requests: int) -> str:
    """A manifest of requests for recordings that are not there."""
    name = f"{uuid.uuid4()}.json"
    entries = [
        ManifestEntry(request_id=f"r{n}", speaker_id=f"caller-{n}", audio=(("s3://calls/absent.wav", 0),))
        for n in range(requests)
    ]
    (service.data / "buckets" / "calls" / name).write_bytes(write_manifest(entries))
    return f"s3://calls/{name}"


def test_a_started_job_is_answered_at_once_with_all_that_was_sent(
    service: ServiceProcess, domain_id: str
) -> None:
    before = datetime.now(UTC)
    watchlist_id = service.voice_id.describe_domain(DomainId=domain_id)["Domain"]["WatchlistDetails"][
        "DefaultWatchlistId"
    ]
    config = {
        "ExistingEnrollmentAction": "OVERWRITE",
        "FraudDetectionConfig": {
            "FraudDetectionAction": "IGNORE",
            "RiskThreshold": 0,
            "WatchlistIds": [watchlist_id],
        },
    }

    job = service.voice_id.start_speaker_enrollment_job(
        DomainId=domain_id,
        JobName="nightly",
        DataAccessRoleArn=ROLE,
        EnrollmentConfig=config,
        InputDataConfig={"S3Uri": "s3://calls/absent.json"},
        OutputDataConfig={"S3Uri": "s3://calls/results/", "KmsKeyId": KEY_ALIAS},
    )["Job"]

    assert set(job) == SUMMARY | DETAILS
    assert re.fullmatch("[a-zA-Z0-9]{22}", job["JobId"])
    assert (job["DomainId"], job["JobName"], job["DataAccessRoleArn"]) == (domain_id, "nightly", ROLE)
    assert job["JobStatus"] == "SUBMITTED"
    assert job["JobProgress"] == {"PercentComplete": 0}
    assert job["EnrollmentConfig"] == config
    assert job["InputDataConfig"] == {"S3Uri": "s3://calls/absent.json"}
    assert job["OutputDataConfig"] == {"S3Uri": "s3://calls/results/", "KmsKeyId": KEY_ALIAS}
    assert before - timedelta(seconds=1) <= job["CreatedAt"] <= datetime.now(UTC) + timedelta(seconds=1)


def test_documented_defaults_are_filled_in(service: ServiceProcess, domain_id: str) -> None:
    job = service.start_job(domain_id)
    assert job["EnrollmentConfig"] == {
        "ExistingEnrollmentAction": "SKIP",
        "FraudDetectionConfig": {"FraudDetectionAction": "FAIL", "RiskThreshold": 50},
    }
    assert "JobName" not in job
    assert "KmsKeyId" not in job["OutputDataConfig"]


def test_a_job_whose_manifest_is_missing_fails_as_a_whole(service: ServiceProcess, domain_id: str) -> None:
    started = service.start_job(domain_id, JobName="doomed")

    job = service.ended_job(domain_id, started["JobId"])

    assert set(job) == SUMMARY | DETAILS | {"EndedAt", "FailureDetails"}
    assert job["JobStatus"] == "FAILED"
    assert job["JobProgress"] == {"PercentComplete": 0}
    assert set(job["FailureDetails"]) == {"Message", "StatusCode"}
    assert job["FailureDetails"]["StatusCode"] == 404
    assert "s3://calls/absent.json" in job["FailureDetails"]["Message"]
    assert job["CreatedAt"] == started["CreatedAt"] <= job["EndedAt"]


def test_a_role_that_does_not_exist_fails_the_job_and_not_the_call(
    service: ServiceProcess, domain_id: str
) -> None:
    started = service.voice_id.start_speaker_enrollment_job(
        DomainId=domain_id,
        DataAccessRoleArn="arn:aws:iam::000000000000:role/nobody",
        InputDataConfig={"S3Uri": "s3://calls/absent.json"},
        OutputDataConfig={"S3Uri": "s3://calls/results"},
    )["Job"]
    job = service.ended_job(domain_id, started["JobId"])
    assert (job["JobStatus"], job["FailureDetails"]["StatusCode"]) == ("FAILED", 403)


def test_single_failures_do_not_fail_the_job(service: ServiceProcess, domain_id: str) -> None:
    manifest = put_manifest(service, requests=1000)
    started = service.start_job(domain_id, manifest, JobName="long")

    seen: dict[str, dict[str, Any]] = {}
    percents = []
    while "EndedAt" not in (job := service.job(domain_id, started["JobId"])):
        assert set(job) == SUMMARY | DETAILS
        seen[job["JobStatus"]] = job
        percents.append(job["JobProgress"]["PercentComplete"])

    assert "IN_PROGRESS" in seen
    assert set(seen) <= {"SUBMITTED", "IN_PROGRESS"}
    assert percents == sorted(percents)
    assert job["JobStatus"] == "COMPLETED_WITH_ERRORS"
    assert set(job) == SUMMARY | DETAILS | {"EndedAt"}
    assert job["JobProgress"] == {"PercentComplete": 100}
    # The result lies under the folder, the job's id and the manifest's name with .out at its end.
    name = manifest.rpartition("/")[2]
    assert (service.data / "buckets" / "calls" / "results" / job["JobId"] / f"{name}.out").is_file()


def test_a_job_described_again_is_the_same(service: ServiceProcess, domain_id: str) -> None:
    job = service.ended_job(domain_id, service.start_job(domain_id)["JobId"])
    assert service.job(domain_id, job["JobId"]) == job


def test_listing_shows_newest_first_and_without_configuration(
    service: ServiceProcess, domain_id: str
) -> None:
    jobs = [
        service.ended_job(domain_id, service.start_job(domain_id, JobName=f"job-{number}")["JobId"])
        for number in range(3)
    ]
    answer = service.voice_id.list_speaker_enrollment_jobs(DomainId=domain_id)
    assert answer["JobSummaries"] == [
        {name: job[name] for name in SUMMARY | {"EndedAt", "FailureDetails"}} for job in reversed(jobs)
    ]


def test_the_status_filter_is_exact(service: ServiceProcess, domain_id: str) -> None:
    failed = service.start_job(domain_id)["JobId"]
    with_errors = service.start_job(domain_id, put_manifest(service, requests=1))["JobId"]
    for job_id in (failed, with_errors):
        service.ended_job(domain_id, job_id)

    found = {
        status: [
            job["JobId"]
            for job in service.voice_id.list_speaker_enrollment_jobs(DomainId=domain_id, JobStatus=status)[
                "JobSummaries"
            ]
        ]
        for status in ("SUBMITTED", "IN_PROGRESS", "COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED")
    }
    assert found == {
        "SUBMITTED": [],
        "IN_PROGRESS": [],
        "COMPLETED": [],
        "COMPLETED_WITH_ERRORS": [with_errors],
        "FAILED": [failed],
    }


def test_an_unknown_watchlist_is_not_found_at_the_start_call(service: ServiceProcess, domain_id: str) -> None:
    other = service.domain("other")
    foreign = service.voice_id.describe_domain(DomainId=other)["Domain"]["WatchlistDetails"][
        "DefaultWatchlistId"
    ]
    for watchlist_id in (NOBODY, foreign):
        fault = refused(
            service.start_job,
            domain_id=domain_id,
            EnrollmentConfig={"FraudDetectionConfig": {"WatchlistIds": [watchlist_id]}},
        )
        assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "WATCHLIST")


def test_a_job_of_another_domain_is_not_found(service: ServiceProcess, domain_id: str) -> None:
    job_id = service.start_job(service.domain("other"))["JobId"]
    for sought in (job_id, NOBODY):
        fault = refused(service.voice_id.describe_speaker_enrollment_job, DomainId=domain_id, JobId=sought)
        assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "BATCH_JOB")


@pytest.mark.parametrize(
    "change",
    [
        {"DataAccessRoleArn": "arn:aws:iam::000000000000:user/somebody"},
        {"InputDataConfig": {"S3Uri": "https://calls/manifest.json"}},
        {"InputDataConfig": {}},
        {"OutputDataConfig": {"S3Uri": "s3://UPPER/results"}},
        {"OutputDataConfig": {"S3Uri": "s3://calls/" + "x" * 1024}},
        {"JobName": "secret name"},
        {"EnrollmentConfig": {"ExistingEnrollmentAction": "KEEP"}},
        {"EnrollmentConfig": {"FraudDetectionConfig": {"RiskThreshold": 101}}},
        {"EnrollmentConfig": {"FraudDetectionConfig": {"RiskThreshold": -1}}},
        {"EnrollmentConfig": {"FraudDetectionConfig": {"WatchlistIds": []}}},
        {"EnrollmentConfig": {"FraudDetectionConfig": {"WatchlistIds": [NOBODY, NOBODY]}}},
    ],
)
def test_input_that_breaks_a_constraint_is_refused(
    service: ServiceProcess, domain_id: str, change: dict[str, Any]
) -> None:
    fault = refused(
        service.unchecked.start_speaker_enrollment_job,
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
    assert service.voice_id.list_speaker_enrollment_jobs(DomainId=domain_id)["JobSummaries"] == []
