"""Data folders of earlier releases are opened by today's code, and earlier code refuses those of today.

The folders are made by the earlier code itself, out of this repository's history.
"""

from __future__ import annotations

import configparser
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from documents import REPOSITORY
from service_process import KEY_ALIAS, REGION, ROLE, ServiceProcess, environment, first_running
from waiting import PATIENCE_S, wait_until

from sonant.demo.recordings import ManifestEntry, write_manifest

pytestmark = pytest.mark.slow

#: What landed on the main branch at the end of each round of work, with its newest migration.
RELEASES = {
    "341807cb8": 10,
    "1afcc9fcc": 10,
    "66f259777": 14,
    "d84002ed4": 15,
    "6ccb02423": 19,
    "68f75bf3a": 24,
}


@dataclass(frozen=True, slots=True)
class Release:
    """The source of an earlier release."""

    commit: str
    source: Path

    def environment(self) -> dict[str, str]:
        return environment(
            PYTHONPATH=str(self.source / "src"),
            SONANT_JOBS_WORKERS="1",
            SONANT_LIVE_WORKERS="1",
            SONANT_RATES_FACTOR="0",
        )

    def serve(self, data: Path, log: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "sonant", "serve", "--port", "0", "--data", str(data)]
        with log.open("wb") as output:
            return subprocess.Popen(
                command, env=self.environment(), cwd=data.parent, stdout=output, stderr=output
            )


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Release:
    found = subprocess.run(["git", "archive", request.param, "src"], cwd=REPOSITORY, capture_output=True)
    if found.returncode:
        pytest.skip("the history of the repository is not here (a shallow clone, or no clone at all)")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(tmp_path / "release", filter="data")
    return Release(request.param, tmp_path / "release")


@contextmanager
def served(release: Release, data: Path) -> Iterator[Any]:
    """The earlier release at work on a data folder: a client of it."""
    log = data.with_name("release.log")
    process = release.serve(data, log)
    try:

        def there() -> bool:
            assert process.poll() is None, log.read_text()
            return (data / "endpoint").exists() and (data / "endpoint").read_text().startswith("http")

        wait_until("the earlier release serves", there)
        lines = (data / "credentials").read_text().splitlines()
        key = dict(line.replace(" ", "").split("=", 1) for line in lines if "=" in line)
        yield boto3.client(
            "voice-id",
            region_name=REGION,
            endpoint_url=(data / "endpoint").read_text().strip(),
            aws_access_key_id=key["aws_access_key_id"],
            aws_secret_access_key=key["aws_secret_access_key"],
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) is not None


def fill(client: Any, data: Path, recording: bytes) -> str:
    """Enroll one speaker, have another opt out, tag the domain: the domain's id."""
    bucket = data / "buckets" / "calls"
    bucket.mkdir(parents=True, exist_ok=True)
    (bucket / "ada.wav").write_bytes(recording)
    entry = ManifestEntry(request_id="1", speaker_id="ada", audio=(("s3://calls/ada.wav", 0),))
    (bucket / "manifest.json").write_bytes(write_manifest([entry]))
    sealed_by = {"KmsKeyId": KEY_ALIAS}
    made = client.create_domain(
        Name="before", ServerSideEncryptionConfiguration=sealed_by, Tags=[{"Key": "team", "Value": "one"}]
    )
    domain_id = str(made["Domain"]["DomainId"])
    job = client.start_speaker_enrollment_job(
        DomainId=domain_id,
        JobName="first",
        DataAccessRoleArn=ROLE,
        InputDataConfig={"S3Uri": "s3://calls/manifest.json"},
        OutputDataConfig={"S3Uri": "s3://calls/results"},
    )["Job"]

    def status() -> str:
        found = client.describe_speaker_enrollment_job(DomainId=domain_id, JobId=job["JobId"])
        return str(found["Job"]["JobStatus"])

    wait_until(lambda: f"the job's end, not {status()}", lambda: status() == "COMPLETED", look_s=0.5)
    client.opt_out_speaker(DomainId=domain_id, SpeakerId="bob")
    return domain_id


def check_content(service: ServiceProcess, domain_id: str, recordings: tuple[Path, Path]) -> None:
    """Everything is as it was, and the speaker's voice is known."""
    client = client_of(service)
    (domain,) = client.list_domains()["DomainSummaries"]
    assert (domain["DomainId"], domain["Name"]) == (domain_id, "before")
    tags = client.list_tags_for_resource(ResourceArn=domain["Arn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "one"}]
    (job,) = client.list_speaker_enrollment_jobs(DomainId=domain_id)["JobSummaries"]
    assert (job["JobName"], job["JobStatus"]) == ("first", "COMPLETED")
    states = {
        name: client.describe_speaker(DomainId=domain_id, SpeakerId=name)["Speaker"]["Status"]
        for name in ("ada", "bob")
    }
    assert states == {"ada": "ENROLLED", "bob": "OPTED_OUT"}
    decisions = [decision(service, domain_id, file) for file in recordings]
    assert decisions == ["ACCEPT", "REJECT"]


def client_of(service: ServiceProcess) -> Any:
    """A client with the key that the earlier release made, who is the administrator there."""
    profiles = configparser.ConfigParser()
    profiles.read([service.data / "credentials", service.data / "credentials.administrator"])
    name = "administrator" if "administrator" in profiles else "default"
    return service.client(service.profile(name))


def decision(service: ServiceProcess, domain_id: str, recording: Path) -> str:
    name = uuid.uuid4().hex
    for command in (
        ("start", name, "--speaker", "ada"),
        ("stream", str(recording), "--session", name, "--speed", "full"),
    ):
        done = service.sonant("session", *command)
        assert done.code == 0, done.err
    found = client_of(service).evaluate_session(DomainId=domain_id, SessionNameOrId=name)
    return str(found["AuthenticationResult"]["Decision"])


def test_folder_of_an_earlier_release_is_opened_and_refused_by_it_later(
    release: Release, tmp_path: Path, make_call, voices
) -> None:
    (one, two, *_), data = voices, tmp_path / "data"
    data.mkdir(mode=0o700)
    with served(release, data) as client:
        domain_id = fill(client, data, make_call(one, 1))
    recordings = tmp_path / "same.wav", tmp_path / "other.wav"
    for file, voice in zip(recordings, (one, two), strict=True):
        speech = {"net_speech_s": 14.0, "duration_s": 20.0}
        file.write_bytes(make_call(voice, 2, fresh=True, channels=1, **speech))
    with first_running(data) as service:
        check_content(service, domain_id, recordings)
        found = service.sonant("doctor", "--output", "json", "--integrity")
        faults = [one for one in json.loads(found.out)["Checks"] if not one["Passed"]]
        assert {one["Name"] for one in faults} <= {"data folder"}, faults  # the machine's disk may be full
    if RELEASES[release.commit] < max(RELEASES.values()):
        refuse(release, data)
    with first_running(data) as service:
        check_content(service, domain_id, recordings)


def refuse(release: Release, data: Path) -> None:
    """The earlier release ends with a sentence, and changes no table."""
    before = (data / "sonant.db").read_bytes()
    process = release.serve(data, log := data.with_name("refused.log"))
    try:
        assert process.wait(PATIENCE_S) != 0
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    said = log.read_text()
    assert "Traceback" not in said, said
    assert "sonant: " in said, said
    assert (data / "sonant.db").read_bytes() == before
