"""Sonant served by a process of its own for one test, asked through boto3, and jobs carried to their end."""

from __future__ import annotations

import configparser
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from strict_files import read_result
from waiting import PATIENCE_S, wait_until

REGION = "us-east-1"
#: Enough speech for the short recordings of tests, one worker, and no waits that a test would only sit out.
_COMMON = {
    "RATES_FACTOR": "0",
    "ENROLLMENT_NET_SPEECH_S": "6",
    "FRAUD_SPOOFING_MAX_S": "0",
    "JOBS_WORKERS": "1",
    "ENCODER": "ge2e",
}


def environment(**settings: str) -> dict[str, str]:
    """For a process with these settings (names without SONANT_) and none of this one's."""
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("SONANT_", "AWS_", "PYTEST"))
    }
    mine = {f"SONANT_{name}": text for name, text in {**_COMMON, **settings}.items()}
    return {**kept, **mine, "AWS_EC2_METADATA_DISABLED": "true", "HOME": os.devnull}


@contextmanager
def serving(data: Path, env: Mapping[str, str]) -> Iterator[tuple[Any, int]]:
    """A boto3 client of a service on a data folder of its own, and the service's process id."""
    with data.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sonant", "serve", "--port", "0", "--data", str(data)],
            env=dict(env), cwd=data.parent, stdout=log, stderr=log,
        )  # fmt: skip
    try:

        def there() -> bool:
            assert process.poll() is None, data.with_suffix(".log").read_text()
            return (data / "endpoint").exists()

        wait_until("the service starts", there)
        credentials = configparser.ConfigParser()
        credentials.read(data / "credentials.administrator")
        client = boto3.Session().client(
            "voice-id",
            region_name=REGION,
            endpoint_url=(data / "endpoint").read_text().strip(),
            aws_access_key_id=credentials["administrator"]["aws_access_key_id"],
            aws_secret_access_key=credentials["administrator"]["aws_secret_access_key"],
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        yield client, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ended_job(voice_id: Any, **request: Any) -> dict[str, Any]:
    """What DescribeSpeakerEnrollmentJob tells of a started job once it has ended."""
    asked = {
        "DomainId": request["DomainId"],
        "JobId": voice_id.start_speaker_enrollment_job(**request)["Job"]["JobId"],
    }

    def ended() -> dict[str, Any] | None:
        job = dict(voice_id.describe_speaker_enrollment_job(**asked)["Job"])
        return job if "EndedAt" in job else None

    return wait_until(f"{asked} ends", ended) or {}


def comparable(result: bytes) -> Any:
    """A result file without the ids that every run draws anew."""
    found = read_result(result)
    for entries in found.values():
        for entry in entries if isinstance(entries, list) else ():
            for name in [name for name in entry if name.startswith("Generated")]:
                entry[name] = "drawn"
            entry.pop("SpeakerId", None)
    return found
