"""An enrollment job through boto3 on remote objects and keys ends with the same result file as a local one.

On moto: roles from STS, result sealed by S3 under the job's key, keys in KMS. On rclone and ministack: a
server that checks signatures, and keys whose states count.
"""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from aws_servers import KEY_ID, REGION, SECRET, official
from sonant.commands.recordings import ManifestEntry, write_manifest

pytestmark = pytest.mark.xdist_group("aws")  # one set of servers

START_S, JOB_S, STOP_S = 60.0, 60.0, 20.0
COMMON = {
    "RATES_FACTOR": "0",
    "ENROLLMENT_NET_SPEECH_S": "6",
    "FRAUD_SPOOFING_MAX_S": "0",
    "JOBS_WORKERS": "1",
}
MANIFEST = write_manifest(
    [
        ManifestEntry(request_id="r1", speaker_id="c1", audio=(("s3://calls/english.wav", 0),)),
        ManifestEntry(request_id="r2", speaker_id="c2", audio=(("s3://calls/french.wav", 0),)),
        ManifestEntry(request_id="r3", speaker_id="c3", audio=(("s3://calls/short.wav", 0),)),
        ManifestEntry(request_id="r4", speaker_id="c4", audio=(("s3://calls/absent.wav", 0),)),
        ManifestEntry(request_id="r5", speaker_id="c5", audio=(("s3://no-such-bucket/x.wav", 0),)),
    ]
)


@contextmanager
def serving(data: Path, account: str, **settings: str) -> Iterator[Any]:
    """A boto3 client of a real service on a data folder of its own."""
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("SONANT_", "AWS_", "PYTEST"))
    }
    mine = {f"SONANT_{name}": text for name, text in {**COMMON, "ACCOUNT": account, **settings}.items()} | {
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": os.devnull,
    }
    with data.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sonant", "serve", "--port", "0", "--data", str(data)],
            env={**kept, **mine}, cwd=data.parent, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        give_up = time.monotonic() + START_S
        while not (data / "endpoint").exists():
            assert process.poll() is None, data.with_suffix(".log").read_text()
            assert time.monotonic() < give_up, "the service did not start"
            time.sleep(0.05)
        credentials = configparser.ConfigParser()
        credentials.read(data / "credentials")
        yield boto3.Session().client(
            "voice-id",
            region_name=REGION,
            endpoint_url=(data / "endpoint").read_text().strip(),
            aws_access_key_id=credentials["default"]["aws_access_key_id"],
            aws_secret_access_key=credentials["default"]["aws_secret_access_key"],
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def enrolled(voice_id: Any, account: str, key: str, output_key: str | None = None) -> tuple[str, str]:
    """(domain id, name of the result file) of a job that was carried to its end."""
    domain = voice_id.create_domain(Name="calls", ServerSideEncryptionConfiguration={"KmsKeyId": key})
    domain_id = domain["Domain"]["DomainId"]
    output = {"S3Uri": "s3://results/out", **({"KmsKeyId": output_key} if output_key else {})}
    job_id = voice_id.start_speaker_enrollment_job(
        DomainId=domain_id,
        DataAccessRoleArn=f"arn:aws:iam::{account}:role/sonant",
        InputDataConfig={"S3Uri": "s3://calls/jobs/manifest.json"},
        OutputDataConfig=output,
    )["Job"]["JobId"]
    give_up = time.monotonic() + JOB_S
    while "EndedAt" not in (
        job := voice_id.describe_speaker_enrollment_job(DomainId=domain_id, JobId=job_id)["Job"]
    ):
        assert time.monotonic() < give_up, job
        time.sleep(0.1)
    assert job["JobStatus"] == "COMPLETED_WITH_ERRORS", job
    assert len(voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"]) == 2
    return domain_id, f"out/{job_id}/manifest.json.out"


def comparable(result: bytes) -> Any:
    """A result file without the ids that every run draws anew."""
    found = json.loads(result)
    for entries in found.values():
        for entry in entries if isinstance(entries, list) else ():
            for name in [name for name in entry if name.startswith("Generated")]:
                entry[name] = "drawn"
            entry.pop("SpeakerId", None)
    return found


@pytest.fixture(scope="session")
def recordings(make_call: Any) -> dict[str, bytes]:
    return {
        "english.wav": make_call("english", 1, net_speech_s=9),
        "french.wav": make_call("french", 1, net_speech_s=9),
        "short.wav": make_call("italian", 3, net_speech_s=3, duration_s=8, channels=1),
        "jobs/manifest.json": MANIFEST,
    }


def furnish(buckets: Path, recordings: dict[str, bytes]) -> None:
    (buckets / "results").mkdir(parents=True, exist_ok=True)
    for name, data in recordings.items():
        file = buckets / "calls" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


@pytest.fixture(scope="session")
def local_result(tmp_path_factory: pytest.TempPathFactory, recordings: dict[str, bytes]) -> Any:
    data = tmp_path_factory.mktemp("local") / "data"
    data.mkdir(mode=0o700)
    furnish(data / "buckets", recordings)
    account = "000000000000"
    with serving(data, account) as voice_id:
        _, name = enrolled(voice_id, account, "alias/sonant")
    return comparable((data / "buckets" / "results" / name).read_bytes())


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
    with serving(tmp_path / "data", account, **settings) as voice_id:
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
    tmp_path: Path,
    rclone_url: str,
    rclone_folder: Path,
    ministack_url: str,
    recordings: dict[str, bytes],
    local_result: Any,
) -> None:
    account, kms = "000000000000", official("kms", ministack_url)
    key = kms.create_key()["KeyMetadata"]["Arn"]
    furnish(rclone_folder, recordings)
    settings = {
        "OBJECTS": "s3",
        "S3_ENDPOINT": rclone_url,
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
    with serving(tmp_path / "data", account, **settings) as voice_id:
        domain_id, name = enrolled(voice_id, account, key)
        assert comparable((rclone_folder / "results" / name).read_bytes()) == local_result

        kms.disable_key(KeyId=key)
        time.sleep(0.6)
        with pytest.raises(ClientError) as refused:
            voice_id.list_speakers(DomainId=domain_id)
        assert refused.value.response["Error"]["Code"] == "AccessDeniedException"

        kms.enable_key(KeyId=key)
        assert len(voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"]) == 2
