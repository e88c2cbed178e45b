"""A served Sonant whose keys are in a token, asked through boto3."""

from __future__ import annotations

import configparser
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

from softhsm import PIN, SoftHsm
from sonant.commands.recordings import ManifestEntry, write_manifest

pytestmark = pytest.mark.xdist_group("hsm")

START_S, JOB_S, STOP_S, BACK_S = 60.0, 60.0, 20.0, 20.0


def environment(hsm: SoftHsm, token: str, folder: Path) -> dict[str, str]:
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("SONANT_", "AWS_", "PYTEST"))
    }
    pin_file = folder / "pin"
    pin_file.write_text(PIN + "\n")
    return {
        **kept,
        "HOME": os.devnull,
        "SOFTHSM2_CONF": str(hsm.conf),
        "SONANT_KEYS": "pkcs11",
        "SONANT_PKCS11_MODULE": str(hsm.module),
        "SONANT_PKCS11_TOKEN": token,
        "SONANT_PKCS11_PIN_FILE": str(pin_file),
        "SONANT_KMS_CACHE_S": "0.2",
        "SONANT_RATES_FACTOR": "0",
        "SONANT_ENROLLMENT_NET_SPEECH_S": "6",
        "SONANT_FRAUD_SPOOFING_MAX_S": "0",
        "SONANT_JOBS_WORKERS": "1",
    }


@contextmanager
def serving(data: Path, env: dict[str, str]) -> Iterator[tuple[Any, int]]:
    """A boto3 client of a real service, and the service's process id."""
    with data.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sonant", "serve", "--port", "0", "--data", str(data)],
            env=env, cwd=data.parent, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        give_up = time.monotonic() + START_S
        while not (data / "endpoint").exists():
            assert process.poll() is None, data.with_suffix(".log").read_text()
            assert time.monotonic() < give_up, "the service did not start"
            time.sleep(0.05)
        credentials = configparser.ConfigParser()
        credentials.read(data / "credentials")
        yield (
            boto3.Session().client(
                "voice-id",
                region_name="us-east-1",
                endpoint_url=(data / "endpoint").read_text().strip(),
                aws_access_key_id=credentials["default"]["aws_access_key_id"],
                aws_secret_access_key=credentials["default"]["aws_secret_access_key"],
                config=Config(retries={"total_max_attempts": 1}, proxies={}),
            ),
            process.pid,
        )
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def sonant(data: Path, env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sonant", *arguments, "--data", str(data)],
        env=env, cwd=data.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def code_of(call: Any, **arguments: Any) -> str:
    try:
        call(**arguments)
    except ClientError as fault:
        return str(fault.response["Error"]["Code"])
    return ""


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def test_a_speaker_is_enrolled_a_key_disabled_and_the_token_taken_away_and_brought_back(
    hsm: SoftHsm, token: str, tmp_path: Path, make_call: Any
) -> None:
    data, env = tmp_path / "data", environment(hsm, token, tmp_path)
    calls = data / "buckets" / "calls"
    calls.mkdir(parents=True)
    data.chmod(0o700)
    (data / "buckets" / "results").mkdir()
    (calls / "one.wav").write_bytes(make_call("english", 1, net_speech_s=9))
    entry = ManifestEntry(request_id="r1", speaker_id="c1", audio=(("s3://calls/one.wav", 0),))
    (calls / "manifest.json").write_bytes(write_manifest([entry]))

    with serving(data, env) as (voice_id, pid):
        sonant(data, env, "key", "create", "--alias", "alias/calls")
        domain_id = voice_id.create_domain(
            Name="calls", ServerSideEncryptionConfiguration={"KmsKeyId": "alias/calls"}
        )["Domain"]["DomainId"]
        job = {"DomainId": domain_id}
        job["JobId"] = voice_id.start_speaker_enrollment_job(
            DomainId=domain_id,
            DataAccessRoleArn="arn:aws:iam::000000000000:role/sonant",
            InputDataConfig={"S3Uri": "s3://calls/manifest.json"},
            OutputDataConfig={"S3Uri": "s3://results/out", "KmsKeyId": "alias/calls"},
        )["Job"]["JobId"]
        give_up = time.monotonic() + JOB_S
        while "EndedAt" not in (found := voice_id.describe_speaker_enrollment_job(**job)["Job"]):
            assert time.monotonic() < give_up, found
            time.sleep(0.1)
        assert found["JobStatus"] == "COMPLETED", found
        (result,) = (data / "buckets" / "results").rglob("manifest.json.out")
        assert b"r1" not in result.read_bytes()  # sealed under the token's key
        for one in family(pid):
            assert PIN.encode() not in Path(f"/proc/{one}/cmdline").read_bytes()

        def speakers() -> Any:
            return voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"]

        (enrolled,) = speakers()
        assert enrolled["Status"] == "ENROLLED"

        sonant(data, env, "key", "disable", "alias/calls")
        assert code_of(voice_id.list_speakers, DomainId=domain_id) == "AccessDeniedException"
        sonant(data, env, "key", "enable", "alias/calls")
        assert speakers() == [enrolled]

        sonant(data, env, "key", "rotate", "alias/calls")
        assert speakers() == [enrolled]

        assert "pkcs11: 2 keys, alias/sonant is Enabled" in sonant(data, env, "doctor")

        away = hsm.tokens.rename(hsm.folder / "away")
        try:
            time.sleep(0.3)
            for _ in range(3):
                assert code_of(voice_id.list_speakers, DomainId=domain_id) == "InternalServerException"
        finally:
            away.rename(hsm.tokens)
        give_up = time.monotonic() + BACK_S
        while code := code_of(voice_id.list_speakers, DomainId=domain_id):
            assert code == "InternalServerException"
            assert time.monotonic() < give_up, "the service did not find the token again"
            time.sleep(0.2)
        assert speakers() == [enrolled]

    held = [path.read_bytes() for path in data.rglob("*") if path.is_file()]
    assert not any(PIN.encode() in content for content in [data.with_suffix(".log").read_bytes(), *held])


def test_a_first_start_without_its_token_ends_with_one_sentence(
    hsm: SoftHsm, token: str, tmp_path: Path
) -> None:
    env = {**environment(hsm, token, tmp_path), "SONANT_PKCS11_TOKEN": "no-such-token"}
    done = subprocess.run(
        [sys.executable, "-m", "sonant", "serve", "--port", "0", "--data", str(tmp_path / "data")],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == "sonant: the PKCS#11 token cannot be opened (NoSuchToken)"
    assert "Traceback" not in done.stderr
