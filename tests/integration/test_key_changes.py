"""Changes of a domain's key in the background, with a manual clock."""

from __future__ import annotations

from datetime import timedelta

import pytest
from kept_testbed import INSTANT

from sonant.assembly.installation import DEFAULT_ALIAS
from sonant.errors import AccessDenied
from sonant.retention.housekeeping import KEY_CHANGE_PAUSES
from sonant.storage.repositories import domains


def details(testbed, domain_id):
    return testbed.call("DescribeDomain", DomainId=domain_id)["Domain"]["ServerSideEncryptionUpdateDetails"]


def change_key(testbed, domain_id, key):
    testbed.call(
        "UpdateDomain",
        DomainId=domain_id,
        Name="tests",
        ServerSideEncryptionConfiguration={"KmsKeyId": key},
    )


def test_key_change_needs_the_old_key_until_it_is_complete(kept, keeper):
    old = kept.store.keys.create(alias="alias/old")
    new = kept.store.keys.create(alias="alias/new")
    domain_id = kept.new_domain(key="alias/old")
    change_key(kept, domain_id, "alias/new")
    assert details(kept, domain_id)["UpdateStatus"] == "IN_PROGRESS"
    assert details(kept, domain_id)["OldKmsKeyId"] == old.arn
    kept.store.keys.disable("alias/old")
    with pytest.raises(AccessDenied, match="is disabled"):
        kept.call("ListSpeakers", DomainId=domain_id)
    kept.store.keys.enable("alias/old")
    assert keeper.change_keys() == 1
    assert details(kept, domain_id)["UpdateStatus"] == "COMPLETED"
    kept.store.keys.disable("alias/old")
    assert kept.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"] == []
    kept.store.keys.enable("alias/old")
    kept.store.keys.disable("alias/new")
    with pytest.raises(AccessDenied, match=new.key_id):
        kept.call("ListSpeakers", DomainId=domain_id)
    assert keeper.change_keys() == 0


def test_key_change_is_retried_after_5_and_15_minutes_and_then_fails(kept, keeper, clock):
    kept.store.keys.create(alias="alias/old")
    domain_id = kept.new_domain(key="alias/old")
    other = kept.new_domain()
    change_key(kept, domain_id, DEFAULT_ALIAS)
    old = kept.store.keys.disable("alias/old")

    def state():
        with kept.store.database.read() as connection:
            domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        return domain.update_status, domain.update_attempts

    assert (timedelta(minutes=5), timedelta(minutes=15)) == KEY_CHANGE_PAUSES
    keeper.change_keys()
    assert state() == ("IN_PROGRESS", 1)
    for attempt, pause in enumerate(KEY_CHANGE_PAUSES, start=1):
        clock.now += pause - INSTANT
        keeper.change_keys()
        assert state() == ("IN_PROGRESS", attempt), "not before its time"
        clock.now += INSTANT
        keeper.change_keys()
    assert state()[0] == "FAILED"
    clock.now += timedelta(days=1)
    keeper.change_keys()
    assert state()[0] == "FAILED", "it is not tried for ever"

    kept.store.keys.enable("alias/old")
    assert details(kept, domain_id)["Message"] == f"key {old.key_id} is disabled"
    change_key(kept, domain_id, DEFAULT_ALIAS)
    assert state() == ("IN_PROGRESS", 0), "the same call begins it anew"
    assert keeper.change_keys() == 1
    assert details(kept, domain_id) == {
        "Message": None,
        "OldKmsKeyId": old.arn,
        "UpdateStatus": "COMPLETED",
    }
    kept.store.keys.disable("alias/old")
    assert kept.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"] == []
    assert details(kept, other) is None


def test_damaged_key_file_delays_no_other_domain_and_hides_its_path(kept, keeper):
    broken = kept.store.keys.create(alias="alias/broken")
    kept.store.keys.create(alias="alias/fine")
    bad, good = kept.new_domain(key="alias/broken"), kept.new_domain(key="alias/fine")
    for domain_id in (bad, good):
        change_key(kept, domain_id, DEFAULT_ALIAS)
    (kept.settings.data / "keys" / f"{broken.key_id}.json").write_bytes(b"{")
    assert keeper.change_keys() == 1
    assert details(kept, good)["UpdateStatus"] == "COMPLETED"
    with kept.store.database.read() as connection:
        domain = domains.find_by_id(connection, bad)
    assert domain is not None
    assert (domain.update_status, domain.update_attempts) == ("IN_PROGRESS", 1)
    assert domain.update_message == "the key cannot be read; the service's log tells why"
