"""`sonant serve` in a process of its own, as a user starts it, with a data folder that is thrown away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes
from report import CACHE
from sonant.cli.service_client import client, service_url
from sonant.settings import Settings

BUCKET = "calls"
START_LIMIT_S = 60.0
POLL_S = 0.5
_FINAL = ("COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A service that answers."""

    settings: Settings
    pid: int

    @property
    def url(self) -> str:
        return service_url(self.settings)

    def client(self, model: str = "voice-id") -> Any:
        return client(self.settings, model)

    def create_domain(self) -> str:
        answer = self.client().create_domain(
            Name="bench", ServerSideEncryptionConfiguration={"KmsKeyId": "alias/sonant"}
        )
        return str(answer["Domain"]["DomainId"])

    def start_job(self, domain_id: str, manifest: str, fraud_action: str = "IGNORE") -> str:
        """Start an enrollment job over `s3://calls/<manifest>`; its id."""
        answer = self.client().start_speaker_enrollment_job(
            DomainId=domain_id,
            DataAccessRoleArn=f"arn:aws:iam::{self.settings.account}:role/sonant",
            InputDataConfig={"S3Uri": f"s3://{BUCKET}/{manifest}"},
            OutputDataConfig={"S3Uri": f"s3://{BUCKET}/results"},
            EnrollmentConfig={"FraudDetectionConfig": {"FraudDetectionAction": fraud_action}},
        )
        return str(answer["Job"]["JobId"])

    def finished(self, domain_id: str, job_id: str, *, limit_s: float) -> Job:
        """Wait for a job's end. Raises TimeoutError."""
        service = self.client()
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            job = service.describe_speaker_enrollment_job(DomainId=domain_id, JobId=job_id)["Job"]
            if job["JobStatus"] in _FINAL:
                return Job(
                    status=job["JobStatus"],
                    duration_s=(job["EndedAt"] - job["CreatedAt"]).total_seconds(),
                )
            time.sleep(POLL_S)
        raise TimeoutError(f"job {job_id} did not end within {limit_s:.0f} s")

    def runner_pid(self) -> int:
        """The process that runs jobs: a child of the service, started a moment after it answers."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            for pid in processes.children(self.pid):
                if "--supervised" in processes.command_line(pid):
                    return pid
            time.sleep(0.05)
        raise RuntimeError("the service has no runner process")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How a job ended. `duration_s` runs from StartSpeakerEnrollmentJob to the end, as the service says."""

    status: str
    duration_s: float


@contextmanager
def data_folder() -> Iterator[Path]:
    """An empty data folder with the bucket in it; gone afterwards."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="data-", dir=CACHE) as folder:
        data = Path(folder)
        (data / "buckets" / BUCKET).mkdir(parents=True)
        yield data


@contextmanager
def serving(
    data: Path, environment: Mapping[str, str] | None = None, *, command: Path | None = None
) -> Iterator[Running]:
    """A running service on a free port. `command` is the `sonant` to use, else this environment's own.

    The process sees no setting but those in `environment`, and of an installed `command` nothing else either.
    Raises RuntimeError with the service's own words
    when it does not start.
    """
    program = [str(command)] if command else [sys.executable, "-m", "sonant"]
    kept = () if command else ("PATH", "PYTHONPATH")
    bare = {name: os.environ[name] for name in kept if name in os.environ}
    if "PYTHONPATH" in bare:  # the service runs in another folder: a relative path would give other code
        bare["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, bare["PYTHONPATH"].split(os.pathsep)))
    CACHE.mkdir(parents=True, exist_ok=True)
    log = CACHE / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*program, "serve", "--port", "0", "--data", str(data)],
            stdout=output,
            stderr=output,
            env={**bare, "SONANT_RATES_FACTOR": "0", **(environment or {})},
            cwd=data,
        )
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not (data / "endpoint").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start: {log.read_text('utf-8')[-2000:]}")
            time.sleep(0.05)
        yield Running(settings=Settings(data=data), pid=process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
