"""TagResource, UntagResource, ListTagsForResource through boto3."""

from __future__ import annotations

from typing import Any

import pytest
from client_faults import refused
from sample_requests import NOBODY, arn_of
from service_process import ServiceProcess


def tag(key: str, value: str = "") -> dict[str, str]:
    return {"Key": key, "Value": value}


def listed(service: ServiceProcess, domain_id: str) -> list[dict[str, str]]:
    answer = service.voice_id.list_tags_for_resource(ResourceArn=arn_of(domain_id))
    return list(answer["Tags"])


def test_tags_are_added_overwritten_and_removed_by_key(service: ServiceProcess) -> None:
    domain_id = service.domain(Tags=[tag("team", "north"), tag("Team", "other case")])
    arn = arn_of(domain_id)

    answer = service.voice_id.tag_resource(ResourceArn=arn, Tags=[tag("team", "south"), tag("stage")])

    assert set(answer) == {"ResponseMetadata"}
    assert listed(service, domain_id) == [tag("Team", "other case"), tag("stage"), tag("team", "south")]
    service.voice_id.untag_resource(ResourceArn=arn, TagKeys=["team", "stage", "never-there"])
    assert listed(service, domain_id) == [tag("Team", "other case")]


def test_nothing_to_change_is_no_error(service: ServiceProcess, domain_id: str) -> None:
    arn = arn_of(domain_id)
    service.voice_id.tag_resource(ResourceArn=arn, Tags=[])
    service.voice_id.untag_resource(ResourceArn=arn, TagKeys=[])
    assert listed(service, domain_id) == []


def test_letters_of_any_script_are_kept(service: ServiceProcess, domain_id: str) -> None:
    tags = [tag("größe", "groß"), tag("名前", "山田 太郎")]
    service.voice_id.tag_resource(ResourceArn=arn_of(domain_id), Tags=tags)
    assert listed(service, domain_id) == tags


def test_a_domain_holds_fifty_tags(service: ServiceProcess, domain_id: str) -> None:
    arn, api = arn_of(domain_id), service.voice_id
    fifty = [tag(f"key-{number:02}", "x" * 256) for number in range(50)]
    api.tag_resource(ResourceArn=arn, Tags=fifty)
    assert refused(api.tag_resource, ResourceArn=arn, Tags=[tag("one-more")]).code == "ValidationException"
    # To overwrite one of them needs no room.
    api.tag_resource(ResourceArn=arn, Tags=[tag("key-00", "new")])
    assert listed(service, domain_id) == [tag("key-00", "new"), *fifty[1:]]
    api.untag_resource(ResourceArn=arn, TagKeys=["key-00"])
    api.tag_resource(ResourceArn=arn, Tags=[tag("one-more")])
    assert len(listed(service, domain_id)) == 50


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ([tag("secret", "1"), tag("secret", "2")], "one key twice"),
        ([tag("aws:secret")], "reserved"),
        ([tag("AWS:secret")], "reserved in any case"),
        ([tag(f"key-{number}") for number in range(201)], "more than a request may have"),
        ([tag("secret!")], "a character that keys may not have"),
        ([tag("secret" * 22)], "a key too long"),
        ([tag("key", "secret%")], "a character that values may not have"),
        ([tag("key", "s" * 257)], "a value too long"),
        ([tag("")], "an empty key"),
        ([{"Key": "secret"}], "no value"),
    ],
)
def test_tags_that_break_a_rule_change_nothing_and_are_not_repeated(
    service: ServiceProcess, domain_id: str, tags: list[dict[str, str]], why: str
) -> None:
    fault = refused(service.unchecked.tag_resource, ResourceArn=arn_of(domain_id), Tags=[tag("good"), *tags])
    assert fault.code == "ValidationException", why
    assert "secret" not in fault.message
    assert listed(service, domain_id) == []


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("tag_resource", {"Tags": [tag("key")]}),
    ("untag_resource", {"TagKeys": ["key"]}),
    ("list_tags_for_resource", {}),
]


@pytest.mark.parametrize(("operation", "more"), CALLS)
@pytest.mark.parametrize(
    "arn",
    [
        arn_of(NOBODY),
        "arn:aws:voiceid:us-east-1:111111111111:domain/{}",
        "arn:aws:voiceid:eu-west-1:000000000000:domain/{}",
        "arn:aws-cn:voiceid:us-east-1:000000000000:domain/{}",
        "arn:aws:voiceid2:us-east-1:000000000000:domain/{}",
    ],
)
def test_an_arn_of_another_place_is_not_found(
    service: ServiceProcess, domain_id: str, operation: str, more: dict[str, Any], arn: str
) -> None:
    fault = refused(getattr(service.voice_id, operation), ResourceArn=arn.format(domain_id), **more)
    assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "DOMAIN")


@pytest.mark.parametrize(("operation", "more"), CALLS)
@pytest.mark.parametrize(
    "arn",
    ["{}", "arn:aws:voiceid:us-east-1:000000000000:speaker/{}", arn_of("{}") + "/x", arn_of("short"), "x"],
)
def test_a_malformed_arn_is_a_validation_error(
    service: ServiceProcess, domain_id: str, operation: str, more: dict[str, Any], arn: str
) -> None:
    fault = refused(getattr(service.unchecked, operation), ResourceArn=arn.format(domain_id), **more)
    assert fault.code == "ValidationException"


def test_a_suspended_domain_still_shows_its_tags_but_takes_no_others(service: ServiceProcess) -> None:
    domain_id = service.domain(Tags=[tag("team", "north")])
    service.voice_id.delete_domain(DomainId=domain_id)
    assert listed(service, domain_id) == [tag("team", "north")]
    for operation, more in CALLS[:2]:
        fault = refused(getattr(service.voice_id, operation), ResourceArn=arn_of(domain_id), **more)
        assert (fault.code, fault.conflict_type) == ("ConflictException", "DOMAIN_NOT_ACTIVE")
