"""ClientToken: one token with one request makes one resource."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from client_faults import refused
from service_process import KEY_ALIAS, ROLE, ServiceProcess

ENCRYPTION = {"KmsKeyId": KEY_ALIAS}


@pytest.fixture
def token() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def job_request(domain_id: str, token: str) -> dict[str, Any]:
    return {
        "ClientToken": token,
        "DomainId": domain_id,
        "DataAccessRoleArn": ROLE,
        "InputDataConfig": {"S3Uri": "s3://calls/absent.json"},
        "OutputDataConfig": {"S3Uri": "s3://calls/results"},
    }


def together(call: Any, times: int, **parameters: Any) -> list[Any]:
    """Make one call from several threads at the same moment; the answers."""
    start, answers = threading.Barrier(times), []

    def one() -> None:
        start.wait()
        answers.append(call(**parameters))

    threads = [threading.Thread(target=one) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == times
    return answers


def test_the_same_request_again_answers_the_first_domain(service: ServiceProcess, token: str) -> None:
    request = {
        "ClientToken": token,
        "Name": "calls",
        "Description": "once",
        "ServerSideEncryptionConfiguration": ENCRYPTION,
        "Tags": [{"Key": "team", "Value": "north"}],
    }
    first = service.voice_id.create_domain(**request)["Domain"]
    assert service.voice_id.create_domain(**request)["Domain"] == first


@pytest.mark.parametrize(
    "change",
    [
        {"Name": "secret"},
        {"Description": "secret"},
        {"Tags": [{"Key": "secret", "Value": "secret"}]},
    ],
)
def test_the_token_with_other_parameters_is_refused(
    service: ServiceProcess, token: str, change: dict[str, Any]
) -> None:
    request = {"ClientToken": token, "Name": "calls", "ServerSideEncryptionConfiguration": ENCRYPTION}
    service.voice_id.create_domain(**request)
    fault = refused(service.voice_id.create_domain, **{**request, **change})
    assert fault.code == "ValidationException"
    assert "secret" not in fault.message


def test_tokens_differ_by_case(service: ServiceProcess) -> None:
    token = f"token-{uuid.uuid4()}"
    made = {service.domain(ClientToken=written) for written in (token, token.upper())}
    assert len(made) == 2


def test_without_a_token_each_request_makes_a_domain(service: ServiceProcess) -> None:
    # boto3 fills a token of its own into each.
    assert service.domain("same") != service.domain("same")


def test_requests_at_the_same_moment_make_one_domain(service: ServiceProcess, token: str) -> None:
    answers = together(
        service.voice_id.create_domain,
        5,
        ClientToken=token,
        Name="calls",
        ServerSideEncryptionConfiguration=ENCRYPTION,
    )
    assert len({answer["Domain"]["DomainId"] for answer in answers}) == 1


def test_requests_at_the_same_moment_make_one_job(
    service: ServiceProcess, job_request: dict[str, Any]
) -> None:
    answers = together(service.voice_id.start_speaker_enrollment_job, 5, **job_request)
    assert len({answer["Job"]["JobId"] for answer in answers}) == 1
    summaries = service.voice_id.list_speaker_enrollment_jobs(DomainId=job_request["DomainId"])[
        "JobSummaries"
    ]
    assert len(summaries) == 1


def test_the_job_is_answered_as_it_is_now(service: ServiceProcess, job_request: dict[str, Any]) -> None:
    first = service.voice_id.start_speaker_enrollment_job(**job_request)["Job"]
    now = service.ended_job(job_request["DomainId"], first["JobId"])

    again = service.voice_id.start_speaker_enrollment_job(**job_request)["Job"]

    assert (first["JobStatus"], again["JobStatus"]) == ("SUBMITTED", "FAILED")
    assert again == now


@pytest.mark.parametrize(
    "change",
    [
        {"JobName": "secret"},
        {"OutputDataConfig": {"S3Uri": "s3://calls/elsewhere"}},
        {"EnrollmentConfig": {"ExistingEnrollmentAction": "OVERWRITE"}},
    ],
)
def test_a_jobs_token_with_other_parameters_is_refused(
    service: ServiceProcess, job_request: dict[str, Any], change: dict[str, Any]
) -> None:
    service.voice_id.start_speaker_enrollment_job(**job_request)
    fault = refused(service.voice_id.start_speaker_enrollment_job, **{**job_request, **change})
    assert fault.code == "ValidationException"
    assert "secret" not in fault.message


def test_a_token_counts_for_one_operation_and_one_domain(
    service: ServiceProcess, token: str, job_request: dict[str, Any]
) -> None:
    other_id = service.domain("other", ClientToken=token)
    first = service.voice_id.start_speaker_enrollment_job(**job_request)["Job"]
    second = service.voice_id.start_speaker_enrollment_job(**{**job_request, "DomainId": other_id})["Job"]
    assert first["JobId"] != second["JobId"]


@pytest.mark.parametrize("token", ["", "x" * 65, "a b", "a.b", "ä", "a\n"])
def test_a_malformed_token_is_refused(service: ServiceProcess, token: str) -> None:
    fault = refused(
        service.unchecked.create_domain,
        ClientToken=token,
        Name="calls",
        ServerSideEncryptionConfiguration=ENCRYPTION,
    )
    assert fault.code == "ValidationException"
    assert "'clientToken'" in fault.message


# --- registrations: the same promise ------------------------------------------------------------------


def test_the_same_registration_again_answers_the_first_as_it_is_now(
    service: ServiceProcess, job_request: dict[str, Any]
) -> None:
    answers = together(service.voice_id.start_fraudster_registration_job, 3, **job_request)
    (job_id,) = {answer["Job"]["JobId"] for answer in answers}
    now = service.ended_registration(job_request["DomainId"], job_id)
    assert service.voice_id.start_fraudster_registration_job(**job_request)["Job"] == now


def test_token_of_a_registration_is_refused_with_other_parameters(
    service: ServiceProcess, job_request: dict[str, Any]
) -> None:
    start = service.voice_id.start_fraudster_registration_job
    start(**job_request)
    changed = {**job_request, "RegistrationConfig": {"FraudsterSimilarityThreshold": 51}}
    assert refused(start, **changed).code == "ValidationException"
    assert service.voice_id.start_speaker_enrollment_job(**job_request)["Job"]["JobStatus"] == "SUBMITTED"
