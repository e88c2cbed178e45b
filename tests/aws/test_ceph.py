"""S3 and STS of a real Ceph: it seals with keys that it knows, and holds to roles and policies.

These are the answers that rclone's server and moto only pretend to give.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aws_servers import REGION, official
from calls_bucket import enrolled
from ceph_server import ACCOUNT, Ceph, NoCeph, User, ceph, policy
from job_service import comparable, ended_job, environment, serving

from sonant.errors import (
    BucketNotFound,
    KeyDenied,
    KeyNotFound,
    KeyUnusable,
    ObjectDenied,
    ObjectError,
    ObjectNotFound,
    SonantError,
)
from sonant.jobs.faults import code_of
from sonant.settings import S3, Settings
from sonant.storage.accounts import LocalAccounts
from sonant.storage.backends import Backends
from sonant.storage.objects.s3_store import PART_BYTES
from sonant.storage.objects.store import ObjectUri, RoleObjects
from sonant.storage.times import now

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ceph")]

CACHE = Path(os.environ.get("SONANT_SPEECH_CACHE") or Path(__file__).parents[2] / ".cache" / "speech")
DOMAIN = f"arn:aws:voiceid:{REGION}:{ACCOUNT}:domain/AbCdEfGhIjKlMnOpQrStUv"
UNKNOWN_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/99999999-2222-3333-4444-555555555555"
READS = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::calls/*"]}
PUTS = {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": ["arn:aws:s3:::results/*"]}
WRITES = {**PUTS, "Action": ["s3:PutObject", "s3:AbortMultipartUpload"]}
LISTS = {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::calls"]}
ONE = ObjectUri("calls", "one.wav")
OUT = ObjectUri("results", "out.json")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Ceph]:
    try:
        with ceph(CACHE) as found:
            yield found
    except NoCeph as why:
        pytest.skip(f"no Ceph: {why}")


@pytest.fixture(scope="module")
def kms(ministack_url: str) -> Any:
    return official("kms", ministack_url)


@pytest.fixture(scope="module")
def keys(kms: Any) -> list[str]:
    """Of the domain, and of the result files; the gateway has the second, under the same name."""
    return [kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]


@pytest.fixture(scope="module")
def gateway(cluster: Ceph, keys: list[str]) -> Iterator[str]:
    with cluster.gateway({keys[1]: secrets.token_bytes(32)}) as url:
        yield url


@pytest.fixture(scope="module")
def service(cluster: Ceph, gateway: str) -> User:
    """It owns the buckets; to read and write them, Sonant takes a role all the same."""
    made = cluster.make_user("service")
    s3 = official("s3", gateway, made.key_id, made.secret)
    for bucket in ("calls", "results"):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket="calls", Key="one.wav", Body=b"some speech")
    return made


@pytest.fixture(scope="module")
def s3(gateway: str, service: User) -> Any:
    return official("s3", gateway, service.key_id, service.secret)


@pytest.fixture(scope="module")
def role(cluster: Ceph, service: User) -> str:
    return cluster.make_role("both", service, READS, WRITES, LISTS)


As = Callable[..., RoleObjects]


@pytest.fixture
def as_role(gateway: str, service: User, tmp_path: Path) -> As:
    def make(role_arn: str, *, url: str = gateway, user: User = service, **changes: Any) -> RoleObjects:
        s3 = S3(
            endpoint=url,
            sts_endpoint=url,
            path_style=True,
            access_key_id=user.key_id,
            secret_access_key=user.secret,
            attempts=2,
            **changes,
        )
        settings = Settings(data=tmp_path / "data", account=ACCOUNT, objects="s3", s3=s3)
        local = LocalAccounts(settings.data, region=settings.region, first=ACCOUNT, clock=now)
        return Backends(settings, local).objects_as(role_arn, [], domain_arn=DOMAIN, account_id=ACCOUNT)

    return make


def refusal(call: Callable[[], object]) -> SonantError:
    with pytest.raises(SonantError) as found:
        call()
    return found.value


def test_what_a_role_may_do_is_done(as_role: As, role: str, s3: Any) -> None:
    objects = as_role(role)
    assert objects.read(ONE, 100) == b"some speech"
    objects.check_writable(OUT, None)
    objects.write(OUT, b"{}", None)
    assert s3.get_object(Bucket="results", Key="out.json")["Body"].read() == b"{}"


def test_what_no_policy_of_the_role_allows_is_403(cluster: Ceph, as_role: As, service: User) -> None:
    reader = as_role(cluster.make_role("reader", service, READS))
    assert reader.read(ONE, 100) == b"some speech"
    for call in (
        lambda: reader.write(OUT, b"{}", None),
        lambda: reader.check_writable(OUT, None),
        lambda: reader.read(OUT, 100),
        lambda: reader.size(OUT),
    ):
        assert isinstance(fault := refusal(call), ObjectDenied)
        assert code_of(fault) == 403
    nothing = as_role(cluster.make_role("nothing", service))
    assert isinstance(refusal(lambda: nothing.read(ONE, 100)), ObjectDenied)


def test_a_role_that_does_not_exist_or_does_not_trust_the_service_is_403(
    cluster: Ceph, as_role: As, role: str
) -> None:
    stranger = cluster.make_user("stranger")
    absent = refusal(lambda: as_role(f"arn:aws:iam::{ACCOUNT}:role/absent").read(ONE, 100))
    untrusted = refusal(lambda: as_role(role, user=stranger).read(ONE, 100))
    for fault, status in ((absent, 404), (untrusted, 403)):
        assert code_of(fault) == 403
        assert f"cannot be assumed: STS answered {status}" in str(fault)


@pytest.mark.parametrize("key", ["sts:ExternalId", "aws:SourceArn", "aws:SourceAccount"])
def test_unknown_condition_in_a_trust_policy_refuses_on_ceph(
    cluster: Ceph, as_role: As, service: User, key: str
) -> None:
    """Sonant tells all three; AWS would let it in."""
    told = ACCOUNT if key == "aws:SourceAccount" else DOMAIN
    bound = cluster.make_role(f"bound-by-{key[4:]}", service, READS, condition={"StringEquals": {key: told}})
    fault = refusal(lambda: as_role(bound).read(ONE, 100))
    assert "cannot be assumed: STS answered 403" in str(fault)


def test_a_session_longer_than_the_role_allows_is_reported(as_role: As, role: str) -> None:
    fault = refusal(lambda: as_role(role, session_s=43_200.0).read(ONE, 100))
    assert "cannot be assumed: STS answered 400" in str(fault)


def test_a_bucket_policy_that_denies_outweighs_the_role(as_role: As, role: str, s3: Any) -> None:
    objects, kept = as_role(role), ObjectUri("calls", "kept/two.wav")
    s3.put_object(Bucket="calls", Key=kept.key, Body=b"more speech")
    assert objects.read(kept, 100) == b"more speech"
    denied = {"Effect": "Deny", "Principal": "*", "Action": ["s3:GetObject"],
              "Resource": ["arn:aws:s3:::calls/kept/*"]}  # fmt: skip
    s3.put_bucket_policy(Bucket="calls", Policy=policy(denied))
    try:
        assert isinstance(refusal(lambda: objects.read(kept, 100)), ObjectDenied)
        assert objects.read(ONE, 100) == b"some speech"
    finally:
        s3.delete_bucket_policy(Bucket="calls")
    assert objects.read(kept, 100) == b"more speech"


def test_what_is_missing_is_404_for_a_role_that_may_list(as_role: As, role: str) -> None:
    objects = as_role(role)
    for call in (objects.size, lambda uri: objects.read(uri, 10)):
        assert isinstance(refusal(partial(call, ObjectUri("calls", "absent"))), ObjectNotFound)
    assert isinstance(refusal(lambda: objects.read(ObjectUri("no-such-bucket", "x"), 10)), BucketNotFound)


@pytest.mark.parametrize("size", [1000, 2 * PART_BYTES + 12_345], ids=["in one piece", "in parts"])
def test_what_is_sealed_under_a_key_lies_there_unreadable(
    cluster: Ceph, as_role: As, role: str, s3: Any, keys: list[str], size: int
) -> None:
    planted = secrets.token_hex(16).encode()
    data = (planted * (size // len(planted) + 1))[:size]
    sealed, plain = ObjectUri("results", f"sealed-{size}"), ObjectUri("results", f"plain-{size}")
    as_role(role).write(sealed, data, keys[1])
    told = s3.head_object(Bucket="results", Key=sealed.key)
    assert (told["ServerSideEncryption"], told["SSEKMSKeyId"]) == ("aws:kms", keys[1])
    assert s3.get_object(Bucket="results", Key=sealed.key)["Body"].read() == data
    assert planted not in cluster.stored()
    as_role(role).write(plain, data, None)
    assert planted in cluster.stored(), "the search finds what is there to be found"


def test_a_key_that_s3_does_not_have_is_refused_before_and_while_writing(
    as_role: As, role: str, s3: Any
) -> None:
    objects = as_role(role)
    for call in (
        lambda: objects.check_writable(OUT, UNKNOWN_KEY),
        lambda: objects.write(OUT, b"{}", UNKNOWN_KEY),
        lambda: objects.write(OUT, b"x" * (PART_BYTES + 1), UNKNOWN_KEY),
    ):
        fault = refusal(call)
        assert isinstance(fault, KeyNotFound)
        assert (code_of(fault), str(fault)) == (403, f"{OUT.shown}: the KMS key does not exist")
    assert not s3.list_multipart_uploads(Bucket="results").get("Uploads")


def test_asking_leaves_neither_an_object_nor_an_upload(
    as_role: As, role: str, s3: Any, keys: list[str]
) -> None:
    as_role(role).check_writable(ObjectUri("results", "perhaps"), keys[1])
    assert not s3.list_multipart_uploads(Bucket="results").get("Uploads")
    assert "Contents" not in s3.list_objects_v2(Bucket="results", Prefix="perhaps")


def test_role_without_abort_right_works_and_the_log_names_the_right(
    cluster: Ceph, as_role: As, service: User, s3: Any, caplog: pytest.LogCaptureFixture
) -> None:
    objects = as_role(cluster.make_role("puts", service, PUTS))
    objects.check_writable(OUT, None)
    objects.write(OUT, b"{}", None)
    assert "(ObjectDenied): the credentials lack s3:AbortMultipartUpload" in caplog.text
    (left,) = s3.list_multipart_uploads(Bucket="results")["Uploads"]
    s3.abort_multipart_upload(Bucket="results", Key=left["Key"], UploadId=left["UploadId"])


def test_a_sealed_recording_whose_key_is_gone_is_403(
    cluster: Ceph, as_role: As, role: str, s3: Any, keys: list[str]
) -> None:
    sealed = ObjectUri("calls", "sealed.wav")
    s3.put_object(
        Bucket="calls",
        Key=sealed.key,
        Body=b"some speech",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId=keys[1],
    )
    assert as_role(role).read(sealed, 100) == b"some speech"
    with cluster.gateway({}) as without_keys:
        objects = as_role(role, url=without_keys)
        assert objects.read(ONE, 100) == b"some speech"
        fault = refusal(lambda: objects.read(sealed, 100))
    assert (type(fault), code_of(fault)) == (KeyNotFound, 403)


#: What a key service answers, by the name of the key.
KEY_ANSWERS: dict[str, tuple[int, str | bytes]] = {
    "whole": (200, secrets.token_bytes(32)),
    "short": (200, secrets.token_bytes(16)),
    "damaged": (200, "no JSON"),
    "forbidden": (403, ""),
    "absent": (404, ""),
    "failing": (500, ""),
}


@contextmanager
def key_service() -> Iterator[tuple[str, list[str]]]:
    """Stands in for the Vault that Ceph asks for keys: its URL, and which keys it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.path.rpartition("/")[2])
            status, answer = KEY_ANSWERS[asked[-1]]
            if isinstance(answer, bytes):
                answer = json.dumps({"data": {"data": {"key": base64.b64encode(answer).decode()}}})
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def test_what_keeps_ceph_from_a_key_is_distinguished(cluster: Ceph, as_role: As, role: str) -> None:
    with (
        key_service() as (vault, asked),
        cluster.gateway(
            {},
            rgw_crypt_s3_kms_backend="vault",
            rgw_crypt_vault_auth="agent",
            rgw_crypt_vault_addr=vault,
            rgw_crypt_vault_prefix="/v1/secret/data",
            rgw_crypt_vault_secret_engine="kv",
        ) as url,
    ):
        objects = as_role(role, url=url)
        objects.write(OUT, b"{}", "whole")
        refusals = {
            key: refusal(partial(objects.check_writable, OUT, key)) for key in KEY_ANSWERS if key != "whole"
        }
    assert {key: type(fault) for key, fault in refusals.items()} == {
        "short": KeyUnusable,
        "damaged": KeyUnusable,
        "forbidden": KeyDenied,
        "absent": KeyNotFound,
        "failing": ObjectError,
    }
    assert {key: code_of(fault) for key, fault in refusals.items() if key != "failing"} == dict.fromkeys(
        ("short", "damaged", "forbidden", "absent"), 403
    )
    assert code_of(refusals["failing"]) == 500
    assert (asked.count("absent"), asked.count("failing")) == (1, 2), "only what may pass is tried again"


def test_a_client_with_a_wrong_secret_is_refused_at_once(gateway: str, service: User, tmp_path: Path) -> None:
    wrong = S3(endpoint=gateway, path_style=True, access_key_id=service.key_id, secret_access_key="wrong-one")
    settings = Settings(data=tmp_path / "data", account=ACCOUNT, objects="s3", s3=wrong)
    local = LocalAccounts(settings.data, region=settings.region, first=ACCOUNT, clock=now)
    fault = refusal(lambda: Backends(settings, local).objects().read(ONE, 100))
    assert isinstance(fault, ObjectDenied)
    assert "wrong-one" not in str(fault)


@pytest.fixture(scope="module")
def job_settings(gateway: str, ministack_url: str, service: User) -> dict[str, str]:
    return {
        "ACCOUNT": ACCOUNT,
        "OBJECTS": "s3",
        "S3_ENDPOINT": gateway,
        "S3_STS_ENDPOINT": gateway,
        "S3_PATH_STYLE": "true",
        "S3_ACCESS_KEY_ID": service.key_id,
        "S3_SECRET_ACCESS_KEY": service.secret,
        "KEYS": "aws-kms",
        "KMS_ENDPOINT": ministack_url,
        "KMS_ACCESS_KEY_ID": "test",
        "KMS_SECRET_ACCESS_KEY": "test",
    }


def test_a_job_on_ceph_ends_as_a_local_one_and_its_result_is_sealed(
    tmp_path: Path,
    cluster: Ceph,
    service: User,
    s3: Any,
    keys: list[str],
    job_settings: dict[str, str],
    recordings: dict[str, bytes],
    local_result: Any,
) -> None:
    cluster.make_role("sonant", service, READS, WRITES, LISTS)
    for name, data in recordings.items():
        s3.put_object(Bucket="calls", Key=name, Body=data)
    with serving(tmp_path / "data", environment(**job_settings)) as (voice_id, _):
        domain_id, name = enrolled(voice_id, ACCOUNT, keys[0], keys[1])

        # A role that may read and not write, and a key that S3 does not have: known before any work is done.
        cluster.make_role("only-reads", service, READS, LISTS)
        request = {
            "DomainId": domain_id,
            "InputDataConfig": {"S3Uri": "s3://calls/jobs/manifest.json"},
        }
        for role_name, output, complaint in (
            ("only-reads", {"S3Uri": "s3://results/out"}, "access was denied"),
            ("sonant", {"S3Uri": "s3://results/out", "KmsKeyId": UNKNOWN_KEY}, "the KMS key does not exist"),
        ):
            job = ended_job(
                voice_id,
                **request,
                DataAccessRoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role_name}",
                OutputDataConfig=output,
            )
            assert job["JobStatus"] == "FAILED"
            assert job["FailureDetails"]["StatusCode"] == 403
            assert complaint in job["FailureDetails"]["Message"]
    found = s3.get_object(Bucket="results", Key=name)
    assert comparable(found["Body"].read()) == local_result
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", keys[1])
    assert not s3.list_multipart_uploads(Bucket="results").get("Uploads")


def test_recordings_hidden_by_a_bucket_policy_fail_in_the_result_file(
    tmp_path: Path,
    cluster: Ceph,
    service: User,
    s3: Any,
    keys: list[str],
    job_settings: dict[str, str],
    recordings: dict[str, bytes],
) -> None:
    cluster.make_role("barred", service, READS, WRITES, LISTS)
    for name, data in recordings.items():
        s3.put_object(Bucket="calls", Key=name, Body=data)
    denied = {"Effect": "Deny", "Principal": "*", "Action": ["s3:GetObject"],
              "Resource": ["arn:aws:s3:::calls/french.wav"]}  # fmt: skip
    s3.put_bucket_policy(Bucket="calls", Policy=policy(denied))
    try:
        with serving(tmp_path / "data", environment(**job_settings)) as (voice_id, _):
            domain_id = voice_id.create_domain(
                Name="calls", ServerSideEncryptionConfiguration={"KmsKeyId": keys[0]}
            )["Domain"]["DomainId"]
            job = ended_job(
                voice_id,
                DomainId=domain_id,
                DataAccessRoleArn=f"arn:aws:iam::{ACCOUNT}:role/barred",
                InputDataConfig={"S3Uri": "s3://calls/jobs/manifest.json"},
                OutputDataConfig={"S3Uri": "s3://results/barred"},
            )
    finally:
        s3.delete_bucket_policy(Bucket="calls")
    assert job["JobStatus"] == "COMPLETED_WITH_ERRORS"
    name = f"barred/{job['JobId']}/manifest.json.out"
    lines = json.loads(s3.get_object(Bucket="results", Key=name)["Body"].read())["Errors"]
    assert {line["RequestId"]: line["ErrorCode"] for line in lines} == {
        "r2": 403,
        "r3": 400,
        "r4": 404,
        "r5": 404,
    }
