"""A role's own S3, with moto as STS and S3: what is asked of STS, what is asked of S3, and how often.

moto hands out credentials for any role and denies nothing, so that a role's policy holds is not proved here:
that is AWS's part. Refusals by STS and S3 are made by the relay before it.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aws_servers import Relay, official, relay

from sonant.assembly.installation import open_store
from sonant.errors import KeyDenied, ObjectDenied, ObjectError, SetupError
from sonant.iam import parse
from sonant.jobs.faults import code_of
from sonant.settings import S3, Settings
from sonant.storage.accounts import LocalAccounts
from sonant.storage.backends import Backends
from sonant.storage.objects.store import ObjectUri, RoleObjects
from sonant.storage.times import now

pytestmark = pytest.mark.xdist_group("aws")  # one set of servers

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/calls"
DOMAIN = f"arn:aws:voiceid:us-east-1:{ACCOUNT}:domain/AbCdEfGhIjKlMnOpQrStUv"
ONE = ObjectUri("speech", "one.wav")
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"


@pytest.fixture
def line(moto_url: str) -> Iterator[Relay]:
    s3 = official("s3", moto_url)
    s3.create_bucket(Bucket="speech")
    s3.put_object(Bucket="speech", Key="one.wav", Body=b"some speech")
    with relay(moto_url) as found:
        yield found


@pytest.fixture
def settings(line: Relay, tmp_path: Path) -> Settings:
    return Settings(
        data=tmp_path / "data",
        encoder="ge2e",
        account=ACCOUNT,
        objects="s3",
        s3=S3(
            endpoint=line.url,
            sts_endpoint=line.url,
            path_style=True,
            access_key_id="service",
            secret_access_key="service-secret",
            attempts=2,
        ),
    )


As = Callable[..., RoleObjects]


@pytest.fixture
def as_role(settings: Settings) -> As:
    def make(*policies: str, **changes: Any) -> RoleObjects:
        used = replace(settings, s3=replace(settings.s3, **changes))
        local = LocalAccounts(used.data, region=used.region, first=ACCOUNT, clock=now)
        return Backends(used, local).objects_as(
            ROLE, [parse(text) for text in policies], domain_arn=DOMAIN, account_id=ACCOUNT
        )

    return make


def asked_of_sts(line: Relay) -> list[dict[str, str]]:
    bodies = [one.body.decode() for one in line.find("POST") if b"AssumeRole" in one.body]
    return [dict(urllib.parse.parse_qsl(body)) for body in bodies]


def test_objects_are_read_with_the_credentials_of_the_role(line: Relay, as_role: As) -> None:
    assert as_role().read(ONE, 100) == b"some speech"
    (asked,) = asked_of_sts(line)
    assert (asked["RoleArn"], asked["DurationSeconds"]) == (ROLE, "3600")
    assert asked["RoleSessionName"] == "sonant-AbCdEfGhIjKlMnOpQrStUv"
    (get,) = line.find("GET", "one.wav")
    assert get.headers["x-amz-security-token"]
    assert "service/" not in get.headers["authorization"]


def test_sts_request_has_signed_domain_and_account_headers(line: Relay, as_role: As) -> None:
    as_role().read(ONE, 100)
    (call,) = [one for one in line.find("POST") if b"AssumeRole" in one.body]
    assert call.headers["x-amz-source-arn"] == DOMAIN
    assert call.headers["x-amz-source-account"] == ACCOUNT
    signed = call.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"x-amz-source-arn", "x-amz-source-account"} <= set(signed)
    assert asked_of_sts(line)[0]["ExternalId"] == DOMAIN


def test_credentials_serve_many_requests(line: Relay, as_role: As) -> None:
    objects = as_role()
    for _ in range(5):
        objects.read(ONE, 100)
    assert len(asked_of_sts(line)) == 1


def test_credentials_about_to_end_are_fetched_anew(line: Relay, as_role: As) -> None:
    # 15 minutes before their end is at once for those that AWS gives for 15 minutes.
    objects = as_role(session_s=900.0)
    for _ in range(3):
        assert objects.read(ONE, 100) == b"some speech"
    assert len(asked_of_sts(line)) >= 3


def test_a_role_that_sts_refuses_is_403_in_a_result_file(line: Relay, as_role: As) -> None:
    line.refuse.append(403)
    with pytest.raises(ObjectDenied, match=f"the role {ROLE} cannot be assumed") as refused:
        as_role().read(ONE, 100)
    assert code_of(refused.value) == 403
    assert not line.find("GET", "one.wav")


def test_a_role_of_another_account_is_not_even_asked_for(settings: Settings, line: Relay) -> None:
    local = LocalAccounts(settings.data, region=settings.region, first=ACCOUNT, clock=now)
    stranger = DOMAIN.replace(ACCOUNT, "999999999999")
    objects = Backends(settings, local).objects_as(ROLE, [], domain_arn=stranger, account_id="999999999999")
    with pytest.raises(ObjectDenied, match="not one of the domain's account"):
        objects.read(ONE, 100)
    assert line.seen == []


def test_an_sts_that_is_down_is_500_in_a_result_file(line: Relay, as_role: As) -> None:
    line.refuse += [503] * 10
    with pytest.raises(ObjectError) as down:
        as_role().read(ONE, 100)
    assert code_of(down.value) == 500


def test_an_object_that_s3_denies_is_403_in_a_result_file(line: Relay, as_role: As) -> None:
    objects = as_role()
    objects.read(ONE, 100)
    line.refuse.append(403)
    with pytest.raises(ObjectDenied) as denied:
        objects.read(ONE, 100)
    assert code_of(denied.value) == 403


def test_a_result_is_sealed_by_s3_under_the_jobs_key(moto_url: str, line: Relay, as_role: As) -> None:
    """moto keeps what it is told of the key; it encrypts nothing and refuses no unknown key."""
    for name, data in (("short.out", b"{}"), ("long.out", b"x" * (17 << 20))):
        as_role().write(ObjectUri("speech", name), data, KEY)
        told = official("s3", moto_url).head_object(Bucket="speech", Key=name)
        assert (told["ServerSideEncryption"], told["SSEKMSKeyId"]) == ("aws:kms", KEY)
    as_role().check_writable(ObjectUri("speech", "never.out"), KEY)
    begun = line.find("POST", "never.out?uploads")
    assert begun[0].headers["x-amz-server-side-encryption-aws-kms-key-id"] == KEY


def policy(*statements: Mapping[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def test_without_sts_the_policies_of_sonants_role_judge(line: Relay, as_role: As) -> None:
    reads = policy({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::speech/*"})
    objects = as_role(reads, assume_role=False)
    assert objects.read(ONE, 100) == b"some speech"
    assert not asked_of_sts(line)
    before = len(line.seen)
    for refused in (
        lambda: objects.write(ObjectUri("speech", "x"), b"x", None),
        lambda: objects.check_writable(ObjectUri("speech", "x"), None),
        lambda: objects.read(ObjectUri("other", "x"), 1),
    ):
        with pytest.raises(ObjectDenied):
            refused()
    assert len(line.seen) == before, "S3 is not even asked"


def test_without_sts_a_key_for_results_needs_the_right_to_it(as_role: As) -> None:
    writes = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"}
    with pytest.raises(KeyDenied):
        as_role(policy(writes), assume_role=False).write(ObjectUri("speech", "x"), b"x", KEY)
    seals = {"Effect": "Allow", "Action": "kms:GenerateDataKey", "Resource": KEY}
    as_role(policy(writes, seals), assume_role=False).write(ObjectUri("speech", "x"), b"x", KEY)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"session_s": 900.0}, "must be 1800 to 43200"),
        ({"secret_access_key": ""}, "set both s3.access_key_id"),
    ],
)
def test_settings_that_cannot_work_are_reported_at_the_start(
    settings: Settings, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(SetupError, match=told):
        open_store(replace(settings, s3=replace(settings.s3, **changes)), create=True)
