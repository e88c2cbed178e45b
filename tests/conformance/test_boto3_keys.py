"""A domain's KMS key, disabled and enabled by the command line while the service runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from client_faults import refused
from service_process import ROLE, ServiceProcess

NOBODY = "AbCdEfGhIjKlMnOpQrStUv"


@pytest.fixture
def key(service: ServiceProcess) -> str:
    """The ARN of a new key."""
    shown = service.sonant("key", "create", "--description", "to be disabled").out
    found = re.search(r"^Arn +(\S+)$", shown, re.MULTILINE)
    assert found, shown
    return found[1]


def every_call_that_opens(service: ServiceProcess, domain_id: str, job_id: str) -> list[Callable[[], Any]]:
    """Every operation on a domain, none of which changes anything that another one needs."""
    api, domain = service.voice_id, {"DomainId": domain_id}
    return [
        lambda: api.describe_domain(**domain),
        lambda: api.describe_speaker(**domain, SpeakerId="customer"),
        lambda: api.list_speakers(**domain),
        lambda: api.opt_out_speaker(**domain, SpeakerId="new-customer"),
        lambda: api.delete_speaker(**domain, SpeakerId="new-customer"),
        lambda: api.describe_speaker_enrollment_job(**domain, JobId=job_id),
        lambda: api.list_speaker_enrollment_jobs(**domain),
        lambda: api.start_speaker_enrollment_job(
            **domain,
            DataAccessRoleArn=ROLE,
            InputDataConfig={"S3Uri": "s3://calls/absent.json"},
            OutputDataConfig={"S3Uri": "s3://calls/results"},
        ),
    ]


def listed(service: ServiceProcess, domain_id: str) -> dict[str, Any]:
    pages = service.voice_id.get_paginator("list_domains").paginate()
    (found,) = [item for page in pages for item in page["DomainSummaries"] if item["DomainId"] == domain_id]
    return dict(found)


def test_disabled_key_closes_the_domain_until_it_is_enabled_again(service: ServiceProcess, key: str) -> None:
    domain_id = service.domain("shut", key, Description="to be shut")
    service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")
    job_id = service.ended_job(domain_id, service.start_job(domain_id)["JobId"])["JobId"]
    calls = every_call_that_opens(service, domain_id, job_id)
    before = listed(service, domain_id)

    assert service.sonant("key", "disable", key).code == 0

    for call in calls:
        assert refused(call).code == "AccessDeniedException"
    fault = refused(
        service.voice_id.create_domain, Name="another", ServerSideEncryptionConfiguration={"KmsKeyId": key}
    )
    assert fault.code == "AccessDeniedException"
    # It is still listed, without what only the key can open.
    hidden = {"Name", "Description"}
    assert listed(service, domain_id) == {name: value for name, value in before.items() if name not in hidden}

    assert service.sonant("key", "enable", key).code == 0

    for call in calls:
        call()
    assert listed(service, domain_id) == before


def test_a_key_that_is_to_be_deleted_closes_the_domain(service: ServiceProcess, key: str) -> None:
    domain_id = service.domain("lost", key)
    assert service.sonant("key", "schedule-deletion", key, "--days", "7", "--yes").code == 0
    assert refused(service.voice_id.describe_domain, DomainId=domain_id).code == "AccessDeniedException"
    fault = refused(
        service.voice_id.create_domain, Name="another", ServerSideEncryptionConfiguration={"KmsKeyId": key}
    )
    assert fault.code == "AccessDeniedException"

    assert service.sonant("key", "cancel-deletion", key).code == 0
    # As with AWS KMS, the key stays disabled until somebody enables it.
    assert refused(service.voice_id.describe_domain, DomainId=domain_id).code == "AccessDeniedException"
    assert service.sonant("key", "enable", key).code == 0
    assert service.voice_id.describe_domain(DomainId=domain_id)


def test_domain_without_its_key_is_refused_and_not_reported_as_missing(
    service: ServiceProcess, key: str
) -> None:
    domain_id = service.domain("shut", key)
    service.sonant("key", "disable", key)
    assert refused(service.voice_id.list_speakers, DomainId=domain_id).code == "AccessDeniedException"
    assert refused(service.voice_id.list_speakers, DomainId=NOBODY).resource_type == "DOMAIN"


def test_an_alias_moved_to_another_key_moves_no_domain(service: ServiceProcess, key: str) -> None:
    alias = f"alias/moving-{key[-12:]}"
    assert service.sonant("key", "alias", alias, key).code == 0
    domain_id = service.domain("stays", alias)
    assert service.sonant("key", "alias", alias, "--delete").code == 0

    described = service.voice_id.describe_domain(DomainId=domain_id)["Domain"]

    assert described["ServerSideEncryptionConfiguration"] == {"KmsKeyId": key}
    fault = refused(
        service.voice_id.create_domain, Name="new", ServerSideEncryptionConfiguration={"KmsKeyId": alias}
    )
    assert fault.code == "ValidationException"
