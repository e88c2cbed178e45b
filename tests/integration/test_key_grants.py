"""Domains with keys in AWS KMS (moto): their grants, and what operators see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aws_servers import moto, official
from batch_testbed import Testbed
from kept_testbed import MovedClock
from tampering import altered_text

from sonant.cli import key as key_commands
from sonant.cli.checks import keys as key_checks
from sonant.errors import SetupError
from sonant.retention.housekeeping import Housekeeper
from sonant.settings import Kms, Settings

pytestmark = pytest.mark.xdist_group("aws")
ACCOUNT = "123456789012"


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def kms(moto_url: str) -> Any:
    return official("kms", moto_url)


@pytest.fixture
def far_testbed(tmp_path: Path, moto_url: str, clock: MovedClock) -> Iterator[Testbed]:
    kms = Kms(
        endpoint=moto_url,
        access_key_id="test",
        secret_access_key="test",
        grantee=f"arn:aws:iam::{ACCOUNT}:role/service",
    )
    settings = Settings(data=tmp_path / "data", account=ACCOUNT, keys="aws-kms", kms=kms)
    testbed = Testbed.open(replace(settings, jobs=replace(settings.jobs, workers=1)), clock=clock)
    yield testbed
    testbed.close()


Granted = Callable[[str], list[str]]


@pytest.fixture
def granted(kms: Any) -> Granted:
    """The ids of the domains that hold a grant on a key."""
    return lambda key: [grant["Name"].rpartition("/")[2] for grant in kms.list_grants(KeyId=key)["Grants"]]


def test_a_domains_grant_follows_its_key_and_ends_with_it(
    far_testbed: Testbed, kms: Any, clock: MovedClock, granted: Granted
) -> None:
    old, new = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    keeper = Housekeeper(
        database=far_testbed.store.database, keys_of=far_testbed.store.backends.keys, clock=clock
    )
    domain_id = far_testbed.new_domain(key=old)
    assert (granted(old), granted(new)) == ([domain_id], [])

    far_testbed.call(
        "UpdateDomain",
        DomainId=domain_id,
        Name="tests",
        ServerSideEncryptionConfiguration={"KmsKeyId": new},
    )
    assert keeper.change_keys() == 1
    assert (granted(old), granted(new)) == ([], [domain_id])
    described = far_testbed.call("DescribeDomain", DomainId=domain_id)["Domain"]
    assert described["ServerSideEncryptionUpdateDetails"]["UpdateStatus"] == "COMPLETED"

    far_testbed.call("DeleteDomain", DomainId=domain_id)
    assert keeper.erase_domains() == 0
    assert granted(new) == [domain_id], "it may still be restored"
    clock.now += timedelta(days=31)
    assert keeper.erase_domains() == 1
    assert granted(new) == []


def test_a_domain_is_erased_although_its_key_is_gone(
    far_testbed: Testbed, kms: Any, clock: MovedClock, granted: Granted
) -> None:
    key = kms.create_key()["KeyMetadata"]["Arn"]
    keeper = Housekeeper(
        database=far_testbed.store.database, keys_of=far_testbed.store.backends.keys, clock=clock
    )
    domain_id = far_testbed.new_domain(key=key)
    far_testbed.call("DeleteDomain", DomainId=domain_id)
    clock.now += timedelta(days=31)
    far_testbed.execute("UPDATE domains SET kms_key_arn = :gone", gone=altered_text(key))
    assert keeper.erase_domains() == 1


def test_doctor_checks_remote_keys_and_key_commands_refuse_them(far_testbed: Testbed, kms: Any) -> None:
    keys = [kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    for key in keys:
        far_testbed.new_domain(key=key)
    kms.disable_key(KeyId=keys[0].rpartition("/")[2])  # moto takes no ARN here
    assert key_checks.check_key_store(far_testbed.settings) == "aws-kms: 1 of the 2 keys in use are enabled"
    with pytest.raises(SetupError, match="live in AWS KMS"):
        key_commands.open_key_store(far_testbed.settings, None)
