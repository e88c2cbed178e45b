"""UpdateDomain: names, and a change of the domain's key from request to completion, through boto3."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from client_faults import refused
from sample_requests import ENCRYPTION, arn_of
from service_process import ACCOUNT, KEY_ALIAS, ServiceProcess
from waiting import wait_until

from sonant.storage.crypto.vault import open_vault
from sonant.storage.repositories import domains


@pytest.fixture
def key(service: ServiceProcess) -> str:
    """The ARN of a new key."""
    shown = service.sonant("key", "create").out
    found = re.search(r"^Arn +(\S+)$", shown, re.MULTILINE)
    assert found, shown
    return found[1]


def described(service: ServiceProcess, domain_id: str) -> dict[str, Any]:
    return dict(service.voice_id.describe_domain(DomainId=domain_id)["Domain"])


def changed(service: ServiceProcess, domain_id: str, key: str) -> dict[str, Any]:
    answer = service.voice_id.update_domain(
        DomainId=domain_id, Name="calls", ServerSideEncryptionConfiguration={"KmsKeyId": key}
    )
    return dict(answer["Domain"])


def settled(service: ServiceProcess, domain_id: str) -> dict[str, Any]:
    """The domain when its key change is no longer in progress."""

    def there() -> dict[str, Any] | None:
        found = described(service, domain_id)
        status = found["ServerSideEncryptionUpdateDetails"]["UpdateStatus"]
        return None if status == "IN_PROGRESS" else found

    return wait_until(lambda: f"the change of {described(service, domain_id)}", there) or {}


def begin(service: ServiceProcess, domain_id: str, key: str, *, failed: bool) -> None:
    """Begin a key change whose first attempt failed: it waits for the next one, or has failed for good."""
    store = service.store
    with store.database.write() as connection:

        def current() -> domains.Domain:
            domain = domains.find_by_id(connection, domain_id)
            assert domain is not None
            return domain

        domain = current()
        vault = open_vault(store.accounts.keys(ACCOUNT), domain_id, domain.arn, domain.data_key_wrapped)
        assert domains.change(
            connection,
            vault,
            domain,
            name="calls",
            description=None,
            new_key_arn=key,
            old_key_arn=domain.kms_key_arn,
            now=store.clock(),
        )
        if failed:
            assert domains.fail_key_change(connection, current(), "The key was away.", store.clock())
        else:
            due = store.clock() + timedelta(minutes=5)
            assert domains.postpone_key_change(connection, current(), "The key was away.", due)


def test_update_replaces_the_name_and_removes_an_absent_description(
    service: ServiceProcess,
) -> None:
    domain_id = service.domain("before", Description="of before", Tags=[{"Key": "team", "Value": "north"}])
    before = described(service, domain_id)

    after = service.voice_id.update_domain(DomainId=domain_id, Name="after", **ENCRYPTION)["Domain"]

    assert after == {
        **{name: value for name, value in before.items() if name != "Description"},
        "Name": "after",
        "UpdatedAt": after["UpdatedAt"],
    }
    assert after["UpdatedAt"] > before["UpdatedAt"]
    assert after == described(service, domain_id)
    tags = service.voice_id.list_tags_for_resource(ResourceArn=arn_of(domain_id))["Tags"]
    assert tags == [{"Key": "team", "Value": "north"}]
    again = service.voice_id.update_domain(
        DomainId=domain_id, Name="after", Description="of after", **ENCRYPTION
    )["Domain"]
    assert again["Description"] == "of after"


def test_a_key_change_begins_in_progress_and_completes_by_itself(service: ServiceProcess, key: str) -> None:
    domain_id = service.domain()
    service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")
    old = described(service, domain_id)["ServerSideEncryptionConfiguration"]["KmsKeyId"]

    begun = changed(service, domain_id, key)

    assert begun["ServerSideEncryptionConfiguration"] == {"KmsKeyId": key}
    assert begun["ServerSideEncryptionUpdateDetails"] == {"OldKmsKeyId": old, "UpdateStatus": "IN_PROGRESS"}
    done = settled(service, domain_id)
    assert done["ServerSideEncryptionUpdateDetails"] == {"OldKmsKeyId": old, "UpdateStatus": "COMPLETED"}
    assert done["ServerSideEncryptionConfiguration"] == {"KmsKeyId": key}
    assert service.voice_id.describe_speaker(DomainId=domain_id, SpeakerId="customer")["Speaker"]
    # From now on it is the new key that closes the domain.
    assert service.sonant("key", "disable", key).code == 0
    assert refused(service.voice_id.describe_domain, DomainId=domain_id).code == "AccessDeniedException"


def test_while_a_key_change_is_in_progress_no_other_key_is_taken(service: ServiceProcess, key: str) -> None:
    domain_id = service.domain()
    begin(service, domain_id, key, failed=False)

    fault = refused(changed, service=service, domain_id=domain_id, key=KEY_ALIAS)

    assert (fault.code, fault.conflict_type) == ("ConflictException", "DOMAIN_LOCKED_FROM_ENCRYPTION_UPDATES")
    renamed = changed(service, domain_id, key)
    assert renamed["ServerSideEncryptionUpdateDetails"]["UpdateStatus"] == "IN_PROGRESS"
    assert renamed["ServerSideEncryptionUpdateDetails"]["Message"] == "The key was away."


def test_a_key_change_that_failed_is_tried_again_by_the_same_call(service: ServiceProcess, key: str) -> None:
    domain_id = service.domain()
    begin(service, domain_id, key, failed=True)
    details = described(service, domain_id)["ServerSideEncryptionUpdateDetails"]
    assert (details["UpdateStatus"], details["Message"]) == ("FAILED", "The key was away.")

    again = changed(service, domain_id, key)["ServerSideEncryptionUpdateDetails"]

    assert (again["UpdateStatus"], again["OldKmsKeyId"]) == ("IN_PROGRESS", details["OldKmsKeyId"])
    assert "Message" not in again
    done = settled(service, domain_id)["ServerSideEncryptionUpdateDetails"]
    assert done == {"OldKmsKeyId": details["OldKmsKeyId"], "UpdateStatus": "COMPLETED"}


@pytest.mark.parametrize(
    "make_unusable",
    [("disable",), ("schedule-deletion", "--days", "7", "--yes")],
    ids=["disabled", "to be deleted"],
)
def test_a_key_that_cannot_be_used_is_not_taken(
    service: ServiceProcess, domain_id: str, key: str, make_unusable: tuple[str, ...]
) -> None:
    verb, *more = make_unusable
    assert service.sonant("key", verb, key, *more).code == 0
    fault = refused(changed, service=service, domain_id=domain_id, key=key)
    assert fault.code == "AccessDeniedException"
    assert "ServerSideEncryptionUpdateDetails" not in described(service, domain_id)


def test_a_key_that_does_not_exist_is_not_taken(service: ServiceProcess, domain_id: str) -> None:
    fault = refused(changed, service=service, domain_id=domain_id, key="alias/nobody")
    assert fault.code == "ValidationException"


def test_simultaneous_updates_beside_one_get_a_conflict(service: ServiceProcess, domain_id: str) -> None:
    codes: list[tuple[str, str | None]] = []

    def update(number: int, together: threading.Barrier) -> None:
        client = service.client()
        together.wait()
        try:
            client.update_domain(DomainId=domain_id, Name=f"by-{number}", **ENCRYPTION)
        except ClientError as fault:
            codes.append((fault.response["Error"]["Code"], fault.response.get("ConflictType")))

    for _ in range(20):
        together = threading.Barrier(4)
        threads = [threading.Thread(target=update, args=(number, together)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if codes:
            break

    assert set(codes) == {("ConflictException", "CONCURRENT_CHANGES")}
    assert described(service, domain_id)["Name"].startswith("by-")
