"""An enrollment job through boto3 on remote objects and keys ends with the same result file as a local one.

On moto: roles from STS, result sealed by S3 under the job's key, keys in KMS. On rclone and ministack: a
server that checks signatures, and keys whose states count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aws_servers import KEY_ID, REGION, SECRET, official, rclone
from botocore.exceptions import ClientError
from calls_bucket import enrolled, furnish
from job_service import comparable, environment, serving
from waiting import wait_until

pytestmark = pytest.mark.xdist_group("aws")  # one set of servers


@pytest.mark.slow
def test_the_local_result_has_both_kinds_of_lines(local_result: Any) -> None:
    codes = {line["RequestId"]: line["ErrorCode"] for line in local_result["Errors"]}
    assert codes == {"r3": 400, "r4": 404, "r5": 404}


def test_on_s3_with_roles_and_kms(
    tmp_path: Path, moto_url: str, recordings: dict[str, bytes], local_result: Any
) -> None:
    account, s3, kms = "123456789012", official("s3", moto_url), official("kms", moto_url)
    key, output_key = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    for bucket in ("calls", "results"):
        s3.create_bucket(Bucket=bucket)
    for name, data in recordings.items():
        s3.put_object(Bucket="calls", Key=name, Body=data)
    settings = {
        "OBJECTS": "s3",
        "S3_ENDPOINT": moto_url,
        "S3_STS_ENDPOINT": moto_url,
        "S3_PATH_STYLE": "true",
        "S3_ACCESS_KEY_ID": "service",
        "S3_SECRET_ACCESS_KEY": "service-secret",
        "KEYS": "aws-kms",
        "KMS_ENDPOINT": moto_url,
        "KMS_ACCESS_KEY_ID": "service",
        "KMS_SECRET_ACCESS_KEY": "service-secret",
        "KMS_GRANTEE": f"arn:aws:iam::{account}:role/service",
    }
    with serving(tmp_path / "data", environment(ACCOUNT=account, **settings)) as (voice_id, _):
        domain_id, name = enrolled(voice_id, account, key, output_key)
    found = s3.get_object(Bucket="results", Key=name)
    assert comparable(found["Body"].read()) == local_result
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", output_key)
    (grant,) = kms.list_grants(KeyId=key)["Grants"]
    (context,) = grant["Constraints"]["EncryptionContextEquals"].items()
    assert context == (
        "aws:voiceid:domain:arn",
        f"arn:aws:voiceid:{REGION}:{account}:domain/{domain_id}",
    )
    assert not (tmp_path / "data" / "buckets").exists()


@pytest.mark.slow
def test_on_an_s3_without_roles_and_a_kms_whose_states_count(
    tmp_path: Path, ministack_url: str, recordings: dict[str, bytes], local_result: Any
) -> None:
    account, kms, folder = "000000000000", official("kms", ministack_url), tmp_path / "s3"
    key = kms.create_key()["KeyMetadata"]["Arn"]
    furnish(folder, recordings)
    settings = {
        "OBJECTS": "s3",
        "S3_PATH_STYLE": "true",
        "S3_ASSUME_ROLE": "false",
        "S3_ACCESS_KEY_ID": KEY_ID,
        "S3_SECRET_ACCESS_KEY": SECRET,
        "KEYS": "aws-kms",
        "KMS_ENDPOINT": ministack_url,
        "KMS_ACCESS_KEY_ID": "test",
        "KMS_SECRET_ACCESS_KEY": "test",
        "KMS_CACHE_S": "0.5",
    }
    with (
        rclone(folder) as url,  # one that has not looked at its folder before
        serving(tmp_path / "data", environment(ACCOUNT=account, S3_ENDPOINT=url, **settings)) as (
            voice_id,
            _,
        ),
    ):
        domain_id, name = enrolled(voice_id, account, key)
        assert comparable((folder / "results" / name).read_bytes()) == local_result

        kms.disable_key(KeyId=key)

        def refused() -> bool:
            try:
                voice_id.list_speakers(DomainId=domain_id)
            except ClientError as error:
                return bool(error.response["Error"]["Code"] == "AccessDeniedException")
            return False

        wait_until("the key is known to be off", refused)

        kms.enable_key(KeyId=key)
        assert len(voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"]) == 2
