"""The demo's job on all that scales: PostgreSQL, an S3 server, a KMS, and a Ray cluster of three nodes.

A node, the runner and the API process that was asked are killed in the middle; the result file is the one
that `sonant serve` on its defaults writes.
"""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aws_servers
import pytest
from aws_servers import KEY_ID, SECRET
from botocore.exceptions import EndpointConnectionError
from cluster_testbed import Cluster as Processes
from postgres_server import NoServer, OwnServer
from ray_cluster import Namespace, NoCluster, RayCluster, actors
from waiting import dawdle, wait_until

from sonant.assembly import installation
from sonant.demo import run
from sonant.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.timeout(600)]

ACCOUNT = "000000000000"
JOB_S = 180.0
#: How long the S3 server takes for a recording, so that there is a middle to kill things in.
SLOWLY_S = 0.7
FINAL = ("COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED")
AS_BY_DEFAULT = {
    "SONANT_RATES_FACTOR": "0",
    "SONANT_ENROLLMENT_NET_SPEECH_S": "30",
    "SONANT_FRAUD_SPOOFING_MAX_S": "10",
    "SONANT_JOBS_LEASE_S": "5",
}


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a network of our own, and with nobody else's AWS settings."""
    for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    try:
        namespace = Namespace()
    except NoCluster as why:
        pytest.skip(f"no Ray cluster: {why}")
    namespace.enter()
    yield
    namespace.leave()


@pytest.fixture
def recorded(tmp_path: Path, voices: dict[str, list[Path]]) -> Path:
    """The bucket of the demo's job: recordings and manifest."""
    bucket = tmp_path / "recorded" / run.BUCKET
    bucket.mkdir(parents=True)
    run.record_calls(bucket, voices)
    return bucket


@pytest.fixture
def postgres_url(inside: None) -> Iterator[str]:
    try:
        server = OwnServer()
    except NoServer as why:
        pytest.skip(f"no PostgreSQL: {why}")
    yield server.url
    server.close()


def begun(voice_id: Any, key: str) -> tuple[str, str]:
    """The demo's job, started: (domain id, job id)."""
    domain = voice_id.create_domain(Name="demo", ServerSideEncryptionConfiguration={"KmsKeyId": key})
    domain_id = domain["Domain"]["DomainId"]
    voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="caller-opted-out")
    job = voice_id.start_speaker_enrollment_job(
        DomainId=domain_id,
        DataAccessRoleArn=f"arn:aws:iam::{ACCOUNT}:role/sonant",
        InputDataConfig={"S3Uri": f"s3://{run.BUCKET}/manifest.json"},
        OutputDataConfig={"S3Uri": f"s3://{run.BUCKET}/results"},
    )["Job"]
    return domain_id, job["JobId"]


def ended(voice_id: Any, domain_id: str, job_id: str) -> str:
    def status() -> str:
        job = voice_id.describe_speaker_enrollment_job(DomainId=domain_id, JobId=job_id)["Job"]
        return str(job["JobStatus"]) if job["JobStatus"] in FINAL else ""

    return str(wait_until("the job ends", status, JOB_S))


def told(result: bytes) -> Any:
    """A result file without the ids that every run draws anew."""
    return {
        name: [
            {member: text for member, text in line.items() if not member.startswith("Generated")}
            for line in lines
        ]
        for name, lines in json.loads(result).items()
        if name != "Version"
    }


def speakers(voice_id: Any, domain_id: str) -> set[tuple[str, str]]:
    found = voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"]
    return {(one["CustomerSpeakerId"], one["Status"]) for one in found}


def embedded(folder: Path, recorded: Path) -> tuple[Any, set[tuple[str, str]]]:
    """(result, speakers) of the same job on the defaults."""
    data = folder / "data"
    bucket = data / "buckets" / run.BUCKET
    data.mkdir(mode=0o700, parents=True)
    shutil.copytree(recorded, bucket)
    testbed: Any = SimpleNamespace(settings=Settings(data=data))
    processes = Processes(
        testbed, **AS_BY_DEFAULT, SONANT_JOBS_BESIDE_SERVICE="true", SONANT_JOBS_WORKERS="0"
    )
    try:
        voice_id = processes.service()
        domain_id, job_id = begun(voice_id, installation.DEFAULT_ALIAS)
        assert ended(voice_id, domain_id, job_id) == "COMPLETED_WITH_ERRORS"
        result = (bucket / "results" / job_id / "manifest.json.out").read_bytes()
        return told(result), speakers(voice_id, domain_id)
    finally:
        processes.close()


def test_cluster_losing_node_runner_and_api_process_gives_the_same_result(
    tmp_path: Path, recorded: Path, inside: None, postgres_url: str
) -> None:
    expected, expected_speakers = embedded(tmp_path / "embedded", recorded)
    assert len(expected["Errors"]) == 4
    assert len(expected["SuccessfulEnrollments"]) > 6

    reads, lock = [0], threading.Lock()

    def slowly(one: aws_servers.Seen) -> None:
        if one.method == "GET" and "/enrollment/" in one.path:
            with lock:
                reads[0] += 1
            dawdle(SLOWLY_S)

    with (
        aws_servers.rclone(recorded.parent) as rclone_url,
        aws_servers.relay(rclone_url) as s3,
        aws_servers.ministack() as kms_url,
    ):
        s3.before = slowly
        key = aws_servers.official("kms", kms_url).create_key()["KeyMetadata"]["Arn"]
        hosts = {
            "SONANT_OBJECTS": "s3",
            "SONANT_S3_ENDPOINT": s3.url,
            "SONANT_S3_PATH_STYLE": "true",
            "SONANT_S3_ASSUME_ROLE": "false",
            "SONANT_S3_ACCESS_KEY_ID": KEY_ID,
            "SONANT_S3_SECRET_ACCESS_KEY": SECRET,
            "SONANT_KEYS": "aws-kms",
        }
        try:
            # With remote objects and keys, a host of the cluster needs no data folder.
            ray = RayCluster({**hosts, "SONANT_DATA": str(tmp_path / "none")})
        except NoCluster as why:
            pytest.skip(f"no Ray cluster: {why}")
        settings = Settings(data=tmp_path / "large" / "data", database=postgres_url)
        settings.data.mkdir(mode=0o700, parents=True)
        installation.migrate(settings)
        testbed: Any = SimpleNamespace(settings=settings)
        processes = Processes(
            testbed,
            **hosts,
            **AS_BY_DEFAULT,
            SONANT_KMS_ENDPOINT=kms_url,
            SONANT_KMS_ACCESS_KEY_ID="test",
            SONANT_KMS_SECRET_ACCESS_KEY="test",
            SONANT_ENGINE="ray",
            SONANT_RAY_ADDRESS=ray.address,
        )
        try:
            nodes = [ray.add(), ray.add()]
            first, second = processes.service(), processes.service()
            runner = processes.runner()
            domain_id, job_id = begun(first, key)
            wait_until("both nodes are at it", lambda: reads[0] >= 3 and len(actors()) == 2)
            processes.runner()  # another, which finds nothing to do yet
            ray.kill(nodes[0])
            before = reads[0]
            wait_until("it goes on without the node", lambda: reads[0] >= before + 4)
            assert len(actors()) == 1
            runner.send_signal(signal.SIGKILL)
            processes.processes[0].send_signal(signal.SIGKILL)
            processes.processes[0].wait()
            with pytest.raises(EndpointConnectionError):
                first.describe_speaker_enrollment_job(DomainId=domain_id, JobId=job_id)
            job = second.describe_speaker_enrollment_job(DomainId=domain_id, JobId=job_id)["Job"]
            assert job["JobStatus"] == "IN_PROGRESS"
            assert job["JobProgress"]["PercentComplete"] < 100

            assert ended(second, domain_id, job_id) == "COMPLETED_WITH_ERRORS", processes.log()
            result = (recorded / "results" / job_id / "manifest.json.out").read_bytes()
            found, found_speakers = told(result), speakers(second, domain_id)
        finally:
            processes.close()
            ray.close()
    assert found == expected
    assert found_speakers == expected_speakers
    assert not (settings.data / "buckets").exists()
    assert not (tmp_path / "none").exists()
