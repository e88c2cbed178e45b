"""CreateDomain, DescribeDomain and ListDomains through boto3."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from client_faults import refused
from service_process import ACCOUNT, KEY_ALIAS, REGION, ServiceProcess

NOBODY = "AbCdEfGhIjKlMnOpQrStUv"
ENCRYPTION = {"KmsKeyId": KEY_ALIAS}


def test_a_new_domain_is_described_in_full(service: ServiceProcess) -> None:
    before = datetime.now(UTC)

    answer = service.voice_id.create_domain(
        Name="calls",
        Description="Calls of the north region: 50% sampled",
        ServerSideEncryptionConfiguration=ENCRYPTION,
        Tags=[{"Key": "team", "Value": "north"}, {"Key": "stage", "Value": ""}],
    )

    domain = answer["Domain"]
    assert set(domain) == {
        "Arn",
        "CreatedAt",
        "Description",
        "DomainId",
        "DomainStatus",
        "Name",
        "ServerSideEncryptionConfiguration",
        "UpdatedAt",
        "WatchlistDetails",
    }
    assert re.fullmatch("[a-zA-Z0-9]{22}", domain["DomainId"])
    assert domain["Arn"] == f"arn:aws:voiceid:{REGION}:{ACCOUNT}:domain/{domain['DomainId']}"
    assert domain["DomainStatus"] == "ACTIVE"
    assert (domain["Name"], domain["Description"]) == ("calls", "Calls of the north region: 50% sampled")
    assert domain["CreatedAt"] == domain["UpdatedAt"]
    assert before - timedelta(seconds=1) <= domain["CreatedAt"] <= datetime.now(UTC) + timedelta(seconds=1)
    assert re.fullmatch("[a-zA-Z0-9]{22}", domain["WatchlistDetails"]["DefaultWatchlistId"])


def test_answer_names_the_key_by_arn_however_the_request_named_it(service: ServiceProcess) -> None:
    by_alias = service.voice_id.create_domain(Name="calls", ServerSideEncryptionConfiguration=ENCRYPTION)
    arn = by_alias["Domain"]["ServerSideEncryptionConfiguration"]["KmsKeyId"]
    assert re.fullmatch(rf"arn:aws:kms:{REGION}:{ACCOUNT}:key/[0-9a-f-]{{36}}", arn)

    for name in (arn, arn.partition("/")[2], f"arn:aws:kms:{REGION}:{ACCOUNT}:{KEY_ALIAS}"):
        answer = service.voice_id.create_domain(
            Name="calls", ServerSideEncryptionConfiguration={"KmsKeyId": name}
        )
        assert answer["Domain"]["ServerSideEncryptionConfiguration"] == {"KmsKeyId": arn}


def test_a_domain_is_described_as_it_was_made(service: ServiceProcess) -> None:
    made = service.voice_id.create_domain(
        Name="calls", Description="as made", ServerSideEncryptionConfiguration=ENCRYPTION
    )["Domain"]
    assert service.voice_id.describe_domain(DomainId=made["DomainId"])["Domain"] == made


def test_a_domain_without_description_has_no_such_member(service: ServiceProcess, domain_id: str) -> None:
    domain = service.voice_id.describe_domain(DomainId=domain_id)["Domain"]
    assert "Description" not in domain
    assert "ServerSideEncryptionUpdateDetails" not in domain


def test_two_domains_may_have_one_name(service: ServiceProcess) -> None:
    assert service.domain("twin") != service.domain("twin")


def test_every_domain_has_a_default_watchlist_of_its_own(service: ServiceProcess) -> None:
    ids = {
        service.voice_id.describe_domain(DomainId=service.domain())["Domain"]["WatchlistDetails"][
            "DefaultWatchlistId"
        ]
        for _ in range(3)
    }
    assert len(ids) == 3


def test_listing_shows_each_domain_as_describing_it_does(service: ServiceProcess) -> None:
    made = service.voice_id.create_domain(
        Name="listed", Description="in a list", ServerSideEncryptionConfiguration=ENCRYPTION
    )["Domain"]
    pages = service.voice_id.get_paginator("list_domains").paginate()
    (found,) = [item for page in pages for item in page["DomainSummaries"] if item["Name"] == "listed"]
    assert found == made


def test_a_domain_that_never_was_is_not_found(service: ServiceProcess) -> None:
    fault = refused(service.voice_id.describe_domain, DomainId=NOBODY)
    assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "DOMAIN")


@pytest.mark.parametrize(
    "key",
    [
        "alias/nobody-made-this",
        "00000000-0000-4000-8000-000000000000",
        "not a key at all",
        f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/00000000-0000-4000-8000-000000000000",
        "../../credentials",
    ],
)
def test_a_key_that_does_not_exist_is_a_validation_error(service: ServiceProcess, key: str) -> None:
    fault = refused(
        service.voice_id.create_domain,
        Name="calls",
        ServerSideEncryptionConfiguration={"KmsKeyId": key},
    )
    assert fault.code == "ValidationException"


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ([{"Key": "same", "Value": "1"}, {"Key": "same", "Value": "2"}], "one key twice"),
        ([{"Key": "aws:owner", "Value": "1"}], "a reserved prefix"),
        ([{"Key": f"key-{number}", "Value": ""} for number in range(51)], "one more than the quota"),
        ([{"Key": f"key-{number}", "Value": ""} for number in range(201)], "more than the model allows"),
        ([{"Key": "no%percent", "Value": ""}], "a character that keys may not have"),
    ],
)
def test_tags_that_break_a_rule_are_validation_errors(
    service: ServiceProcess, tags: list[dict[str, str]], why: str
) -> None:
    fault = refused(
        service.voice_id.create_domain, Name="calls", ServerSideEncryptionConfiguration=ENCRYPTION, Tags=tags
    )
    assert fault.code == "ValidationException", why


def test_fifty_tags_fit(service: ServiceProcess) -> None:
    tags = [{"Key": f"key-{number}", "Value": "x" * 256} for number in range(50)]
    assert service.domain(Tags=tags)


@pytest.mark.parametrize(
    "change",
    [
        {"Name": ""},
        {"Name": "has space secret"},
        {"Name": "-secret"},
        {"Name": "secret\n"},
        {"Name": "s" * 257},
        {"Description": "secret!"},
        {"Description": "s" * 1025},
        {"Tags": [{"Key": "secret#", "Value": "secret"}]},
        {"Tags": [{"Key": "key", "Value": "secret%"}]},
    ],
)
def test_refusal_of_a_constraint_repeats_no_sensitive_value(
    service: ServiceProcess, change: dict[str, Any]
) -> None:
    fault = refused(
        service.unchecked.create_domain,
        **{"Name": "calls", "ServerSideEncryptionConfiguration": ENCRYPTION, **change},
    )
    assert fault.code == "ValidationException"
    assert re.match(r"\d+ validation errors? detected: Value at '", fault.message)
    assert "secret" not in fault.message


def test_all_broken_constraints_are_reported_together(service: ServiceProcess) -> None:
    fault = refused(
        service.unchecked.create_domain,
        Name="",
        ServerSideEncryptionConfiguration={},
        ClientToken="no spaces allowed",
        Tags=[{"Key": "key"}],
    )
    assert fault.message.startswith("5 validation errors detected: ")
    for told in (
        "'name' failed to satisfy constraint: Member must have length greater than or equal to 1",
        "Value null at 'serverSideEncryptionConfiguration.kmsKeyId' failed to satisfy constraint: Member "
        "must not be null",
        "Value 'no spaces allowed' at 'clientToken' failed to satisfy constraint: Member must satisfy "
        "regular expression pattern: ^[a-zA-Z0-9-_]+$",
        "'tags.1.member.value' failed to satisfy constraint: Member must not be null",
    ):
        assert told in fault.message
