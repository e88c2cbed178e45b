"""Two accounts in one service: whatever one names of the other's is not there, on the wire and in jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from client_faults import refused
from fault_scenarios import NAME_A_DOMAIN
from sample_requests import OWN, SERVED, Furnished, arn_of, furnish, method
from service_process import ACCOUNT, KEY_ALIAS, ROLE, ServiceProcess, running

from sonant.assembly.installation import ROLE_POLICY
from sonant.demo.recordings import ManifestEntry, write_manifest

pytestmark = pytest.mark.xdist_group("accounts")

THEIRS = "222222222222"
THEIR_ALIAS = "alias/theirs"
THEIR_ROLE = f"arn:aws:iam::{THEIRS}:role/jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """The second account: a user who may do all, a key, a role, a domain, a bucket of the same name."""

    voice_id: Any
    own: Any
    key_arn: str
    domain_id: str
    bucket: Any

    def call(self, operation: str) -> Any:
        return method(self.own if operation in OWN else self.voice_id, operation)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running(
        tmp_path_factory.mktemp("accounts") / "data",
        QUOTAS_DOMAINS_PER_ACCOUNT="10",
        QUOTAS_WATCHLISTS_PER_DOMAIN="10",
        QUOTAS_ACTIVE_ENROLLMENT_JOBS_PER_DOMAIN="10",
        JOBS_POLL_S="0.05",
        JOBS_WORKERS="1",
    ) as service:
        (service.data / "buckets" / "calls").mkdir()
        yield service


@pytest.fixture(scope="module")
def first(service: ServiceProcess) -> Furnished:
    """What the first account has; its bucket `calls` holds a manifest and what the manifest names."""
    furnished = furnish(service)
    bucket = service.data / "buckets" / "calls"
    entry = ManifestEntry(request_id="r", speaker_id="s", audio=(("s3://calls/first.wav", 0),))
    (bucket / "manifest.json").write_bytes(write_manifest([entry]))
    (bucket / "first.wav").write_bytes(b"the first account's")
    return furnished


@pytest.fixture(scope="module")
def other(service: ServiceProcess, first: Furnished) -> Other:
    user = service.user({"Effect": "Allow", "Action": "*", "Resource": "*"}, account=THEIRS)
    policy = service.data.parent / "jobs.json"
    policy.write_text(ROLE_POLICY)
    for command in (
        ("access", "role", "put", "jobs", "--account", THEIRS, "--policy", str(policy)),
        ("key", "create", "--account", THEIRS, "--alias", THEIR_ALIAS),
    ):
        done = service.sonant(*command)
        assert done.code == 0, done.err
    voice_id = service.client(user)
    answer = voice_id.create_domain(
        Name="theirs", ServerSideEncryptionConfiguration={"KmsKeyId": THEIR_ALIAS}
    )
    bucket = service.data / "accounts" / THEIRS / "buckets" / "calls"
    bucket.mkdir(parents=True)
    return Other(
        voice_id=voice_id,
        own=service.own_client(user),
        key_arn=answer["Domain"]["ServerSideEncryptionConfiguration"]["KmsKeyId"],
        domain_id=answer["Domain"]["DomainId"],
        bucket=bucket,
    )


def start(other: Other, role: str = THEIR_ROLE, **changes: Any) -> Any:
    asked = {
        "DomainId": other.domain_id,
        "DataAccessRoleArn": role,
        "InputDataConfig": {"S3Uri": "s3://calls/manifest.json"},
        "OutputDataConfig": {"S3Uri": "s3://calls/results"},
        **changes,
    }
    return other.voice_id.start_speaker_enrollment_job(**asked)["Job"]["JobId"]


def carried(service: ServiceProcess, other: Other, job_id: str) -> dict[str, Any]:
    """The other account's job when it has ended."""
    waiting = ServiceProcess(data=service.data, process=service.process)
    waiting.__dict__["voice_id"] = other.voice_id
    return waiting.ended_job(other.domain_id, job_id)


# --- resources ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", sorted(NAME_A_DOMAIN))
def test_no_operation_finds_the_other_accounts_domain(
    service: ServiceProcess, first: Furnished, other: Other, operation: str
) -> None:
    asked = dict(first.requests[operation])
    if "DataAccessRoleArn" in asked:
        asked["DataAccessRoleArn"] = THEIR_ROLE
    fault = refused(other.call(operation), **asked)
    assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "DOMAIN")


@pytest.mark.parametrize("operation", ["TagResource", "UntagResource", "ListTagsForResource"])
def test_an_arn_with_the_callers_account_in_it_finds_no_more(
    first: Furnished, other: Other, operation: str
) -> None:
    asked = {**first.requests[operation], "ResourceArn": arn_of(first.domain_id, account=THEIRS)}
    assert refused(other.call(operation), **asked).resource_type == "DOMAIN"


#: Operations on speakers whom a domain need not know yet.
OF_ANYBODY = {"OptOutSpeaker", "PutConsent", "ListConsents", "WithdrawConsent"}


def test_what_is_in_the_other_accounts_domain_is_not_in_ones_own(first: Furnished, other: Other) -> None:
    tried = 0
    for operation in sorted(NAME_A_DOMAIN):
        asked = first.requests[operation]
        members = {"WatchlistId", "FraudsterId", "JobId", "SpeakerId"} & set(asked)
        if "DomainId" not in asked or not members or operation in OF_ANYBODY:
            continue
        fault = refused(other.call(operation), **{**asked, "DomainId": other.domain_id})
        assert fault.code == "ResourceNotFoundException", operation
        assert fault.resource_type in ("WATCHLIST", "FRAUDSTER", "BATCH_JOB", "SPEAKER", "CONSENT"), operation
        tried += 1
    assert tried >= 12


def test_each_lists_its_own_domains(service: ServiceProcess, first: Furnished, other: Other) -> None:
    ours = {item["DomainId"] for item in service.voice_id.list_domains()["DomainSummaries"]}
    assert {item["DomainId"] for item in other.voice_id.list_domains()["DomainSummaries"]} == {
        other.domain_id
    }
    assert first.domain_id in ours
    assert other.domain_id not in ours
    assert refused(service.voice_id.describe_domain, DomainId=other.domain_id).resource_type == "DOMAIN"


def test_a_page_token_of_one_account_is_nothing_to_the_other(
    service: ServiceProcess, first: Furnished, other: Other
) -> None:
    token = service.voice_id.list_domains(MaxResults=1)["NextToken"]
    fault = refused(other.voice_id.list_domains, MaxResults=1, NextToken=token)
    assert fault.code == "ValidationException"


def test_the_same_client_token_makes_a_resource_in_each_account(
    service: ServiceProcess, first: Furnished, other: Other
) -> None:
    made = [
        client.create_watchlist(DomainId=domain_id, Name="one", ClientToken="the-same-in-both")
        for client, domain_id in ((service.voice_id, first.domain_id), (other.voice_id, other.domain_id))
    ]
    ours, theirs = (answer["Watchlist"] for answer in made)
    assert (ours["DomainId"], theirs["DomainId"]) == (first.domain_id, other.domain_id)
    assert ours["WatchlistId"] != theirs["WatchlistId"]


# --- keys ---------------------------------------------------------------------------------------------


def test_a_key_of_one_account_is_no_key_in_the_other(
    service: ServiceProcess, first: Furnished, other: Other
) -> None:
    ours = service.voice_id.describe_domain(DomainId=first.domain_id)["Domain"]
    our_key = ours["ServerSideEncryptionConfiguration"]["KmsKeyId"]
    assert (our_key.split(":")[4], other.key_arn.split(":")[4]) == (ACCOUNT, THEIRS)
    for client, key in ((other.voice_id, our_key), (service.voice_id, other.key_arn)):
        for ref in (key, key.rpartition("/")[2], THEIR_ALIAS if client is service.voice_id else KEY_ALIAS):
            encryption = {"ServerSideEncryptionConfiguration": {"KmsKeyId": ref}}
            fault = refused(client.create_domain, Name="stolen", **encryption)
            assert (fault.code, "KmsKeyId" in fault.message) == ("ValidationException", True)


def test_a_key_disabled_in_one_account_closes_nothing_in_the_other(
    service: ServiceProcess, first: Furnished, other: Other
) -> None:
    assert service.sonant("key", "disable", THEIR_ALIAS, "--account", THEIRS).code == 0
    try:
        fault = refused(other.voice_id.list_speakers, DomainId=other.domain_id)
        assert fault.code == "AccessDeniedException"
        assert service.voice_id.list_speakers(DomainId=first.domain_id)["SpeakerSummaries"]
    finally:
        assert service.sonant("key", "enable", THEIR_ALIAS, "--account", THEIRS).code == 0
    assert other.voice_id.list_speakers(DomainId=other.domain_id)["SpeakerSummaries"] == []


# --- jobs ---------------------------------------------------------------------------------------------


def test_a_role_of_the_other_account_cannot_be_passed(first: Furnished, other: Other) -> None:
    fault = refused(lambda **_: start(other, role=ROLE))
    assert (fault.code, fault.message) == (
        "AccessDeniedException",
        "Cross-account pass role is not allowed.",
    )
    asked = {**first.requests["CompareRecording"], "DomainId": other.domain_id}
    assert refused(other.own.compare_recording, **asked).message == fault.message


def test_a_job_does_not_see_the_other_accounts_manifest(
    service: ServiceProcess, first: Furnished, other: Other
) -> None:
    job = carried(service, other, start(other))
    assert (job["JobStatus"], job["FailureDetails"]["StatusCode"]) == ("FAILED", 404)
    assert not (service.data / "buckets" / "calls" / "results" / job["JobId"]).exists()


def test_a_job_does_not_hear_the_other_accounts_recordings(
    service: ServiceProcess, first: Furnished, other: Other
) -> None:
    manifest = (service.data / "buckets" / "calls" / "manifest.json").read_bytes()
    (other.bucket / "manifest.json").write_bytes(manifest)
    try:
        job = carried(service, other, start(other))
    finally:
        (other.bucket / "manifest.json").unlink()
    assert job["JobStatus"] == "COMPLETED_WITH_ERRORS"
    result = json.loads((other.bucket / "results" / job["JobId"] / "manifest.json.out").read_bytes())
    assert result["SuccessfulEnrollments"] == []
    (error,) = result["Errors"]
    assert (error["ErrorCode"], error["ErrorMessage"]) == (
        404,
        "s3://calls/first.wav: there is no such object",
    )


def test_a_job_cannot_seal_its_result_with_the_other_accounts_key(
    service: ServiceProcess, first: Furnished, other: Other
) -> None:
    ours = service.voice_id.describe_domain(DomainId=first.domain_id)["Domain"]
    key = ours["ServerSideEncryptionConfiguration"]["KmsKeyId"]
    output = {"S3Uri": "s3://calls/results", "KmsKeyId": key}
    job = carried(service, other, start(other, OutputDataConfig=output))
    assert job["JobStatus"] == "FAILED"
    assert key in job["FailureDetails"]["Message"]


def test_every_operation_is_either_tried_here_or_names_no_domain() -> None:
    assert set(SERVED) - NAME_A_DOMAIN == {
        "CreateDomain",
        "DescribeAuditTrail",
        "DescribeComplianceConsent",
        "ListAuditRecords",
        "ListDomains",
        "ListKeys",
        "ListPrincipals",
        "ListSettings",
        "RegisterComplianceConsent",
    }
