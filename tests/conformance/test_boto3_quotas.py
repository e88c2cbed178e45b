"""Quotas, through boto3, of a service whose jobs stay SUBMITTED and whose domains hold two speakers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client_faults import refused
from service_process import KEY_ALIAS, ROLE, ServiceProcess, running

REQUEST = {"Name": "calls", "ServerSideEncryptionConfiguration": {"KmsKeyId": KEY_ALIAS}}

START: dict[str, Any] = {
    "DataAccessRoleArn": ROLE,
    "InputDataConfig": {"S3Uri": "s3://calls/absent.json"},
    "OutputDataConfig": {"S3Uri": "s3://calls/results"},
}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with the default quotas but for speakers, and nobody who does jobs."""
    data: Path = tmp_path_factory.mktemp("narrow") / "data"
    with running(data, QUOTAS_SPEAKERS_PER_DOMAIN="2", JOBS_BESIDE_SERVICE="false") as service:
        yield service


@pytest.fixture(scope="module")
def full_account(narrow: ServiceProcess) -> list[str]:
    """Three domains, the default quota; the first was made with the client token `first`."""
    return [narrow.domain("calls", ClientToken=token) for token in ("first", "second", "third")]


@pytest.fixture(scope="module")
def suspended_id(narrow: ServiceProcess, full_account: list[str]) -> str:
    narrow.voice_id.delete_domain(DomainId=full_account[2])
    return full_account[2]


@pytest.mark.xdist_group("narrow")
class TestQuotas:
    def test_a_fourth_domain_is_refused(self, narrow: ServiceProcess, full_account: list[str]) -> None:
        fault = refused(narrow.voice_id.create_domain, **REQUEST)
        assert fault.code == "ServiceQuotaExceededException"
        assert len(narrow.voice_id.list_domains()["DomainSummaries"]) == len(full_account) == 3

    def test_repeated_create_domain_is_answered_although_the_account_is_full(
        self, narrow: ServiceProcess, full_account: list[str]
    ) -> None:
        again = narrow.voice_id.create_domain(ClientToken="first", **REQUEST)
        assert again["Domain"]["DomainId"] == full_account[0]

    def test_a_full_account_still_checks_the_request_first(
        self, narrow: ServiceProcess, full_account: list[str]
    ) -> None:
        bad_key = {**REQUEST, "ServerSideEncryptionConfiguration": {"KmsKeyId": "alias/nobody"}}
        assert refused(narrow.voice_id.create_domain, **bad_key).code == "ValidationException"

    def test_a_third_speaker_is_refused_until_one_is_deleted(
        self, narrow: ServiceProcess, full_account: list[str]
    ) -> None:
        domain: dict[str, Any] = {"DomainId": full_account[1]}
        for speaker in ("one", "two"):
            narrow.voice_id.opt_out_speaker(**domain, SpeakerId=speaker)

        fault = refused(narrow.voice_id.opt_out_speaker, **domain, SpeakerId="secret-three")

        assert fault.code == "ServiceQuotaExceededException"
        assert "secret" not in fault.message
        assert narrow.voice_id.opt_out_speaker(**domain, SpeakerId="two")  # makes nobody new
        narrow.voice_id.delete_speaker(**domain, SpeakerId="one")
        assert narrow.voice_id.opt_out_speaker(**domain, SpeakerId="secret-three")

    def test_a_second_active_job_is_refused_in_that_domain_only(
        self, narrow: ServiceProcess, full_account: list[str]
    ) -> None:
        domain_id, other_id = full_account[:2]
        token = "0" * 64
        first = narrow.start_job(domain_id, ClientToken=token)

        fault = refused(narrow.start_job, domain_id=domain_id)

        assert fault.code == "ServiceQuotaExceededException"
        assert narrow.start_job(domain_id, ClientToken=token)["JobId"] == first["JobId"]
        assert narrow.start_job(other_id)["JobStatus"] == "SUBMITTED"
        jobs = narrow.voice_id.list_speaker_enrollment_jobs(DomainId=domain_id, JobStatus="SUBMITTED")
        assert [job["JobId"] for job in jobs["JobSummaries"]] == [first["JobId"]]

    def test_each_kind_of_job_has_a_quota_of_its_own(
        self, narrow: ServiceProcess, full_account: list[str]
    ) -> None:
        """Comes after a domain was given its enrollment job."""
        start = {"DomainId": full_account[0], **START}
        first = narrow.voice_id.start_fraudster_registration_job(**start)["Job"]
        fault = refused(narrow.voice_id.start_fraudster_registration_job, **start)
        assert fault.code == "ServiceQuotaExceededException"
        assert "fraudster registration" in fault.message
        jobs = narrow.voice_id.list_fraudster_registration_jobs(DomainId=full_account[0])["JobSummaries"]
        assert [job["JobId"] for job in jobs] == [first["JobId"]]


@pytest.mark.xdist_group("narrow")
class TestASuspendedDomain:
    """Comes after the quotas: it makes room for another domain."""

    @pytest.mark.parametrize(
        ("operation", "parameters"),
        [
            ("opt_out_speaker", {"SpeakerId": "customer"}),
            ("delete_speaker", {"SpeakerId": "customer"}),
            ("start_speaker_enrollment_job", START),
            ("start_fraudster_registration_job", START),
        ],
    )
    def test_refuses_every_change(
        self, narrow: ServiceProcess, suspended_id: str, operation: str, parameters: dict[str, Any]
    ) -> None:
        fault = refused(getattr(narrow.voice_id, operation), DomainId=suspended_id, **parameters)
        assert (fault.code, fault.conflict_type) == ("ConflictException", "DOMAIN_NOT_ACTIVE")
        assert fault.message == "The domain is not active."

    @pytest.mark.parametrize(
        ("operation", "parameters"),
        [
            ("describe_speaker", {"SpeakerId": "customer"}),
            ("list_speakers", {}),
            ("describe_speaker_enrollment_job", {"JobId": "AbCdEfGhIjKlMnOpQrStUv"}),
            ("list_speaker_enrollment_jobs", {}),
        ],
    )
    def test_hides_what_is_in_it(
        self, narrow: ServiceProcess, suspended_id: str, operation: str, parameters: dict[str, Any]
    ) -> None:
        fault = refused(getattr(narrow.voice_id, operation), DomainId=suspended_id, **parameters)
        assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "DOMAIN")

    def test_is_still_described_and_listed(self, narrow: ServiceProcess, suspended_id: str) -> None:
        described = narrow.voice_id.describe_domain(DomainId=suspended_id)["Domain"]
        assert described["DomainStatus"] == "SUSPENDED"
        assert described in narrow.voice_id.list_domains()["DomainSummaries"]

    def test_does_not_count_against_the_quota(self, narrow: ServiceProcess, suspended_id: str) -> None:
        assert narrow.domain("instead") != suspended_id
        assert refused(narrow.voice_id.create_domain, **REQUEST).code == "ServiceQuotaExceededException"
