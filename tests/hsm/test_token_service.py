"""A service whose keys are in a token, called through boto3."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from forked_commands import run_sonant
from job_service import ended_job, environment, serving
from softhsm import PIN, SoftHsm
from waiting import PATIENCE_S, wait_until

from sonant.demo.recordings import ManifestEntry, write_manifest

pytestmark = pytest.mark.xdist_group("hsm")


def settings(hsm: SoftHsm, token: str, folder: Path) -> dict[str, str]:
    pin_file = folder / "pin"
    pin_file.write_text(PIN + "\n")
    mine = {
        "KEYS": "pkcs11",
        "PKCS11_MODULE": str(hsm.module),
        "PKCS11_TOKEN": token,
        "PKCS11_PIN_FILE": str(pin_file),
        "KMS_CACHE_S": "0.2",
    }
    return {**environment(**mine), "SOFTHSM2_CONF": str(hsm.conf)}


def sonant(data: Path, env: dict[str, str], *arguments: str) -> str:
    code, out, told = run_sonant([*arguments, "--data", str(data)], env, data.parent)
    assert code == 0, told
    return out


def code_of(call: Any, **arguments: Any) -> str:
    try:
        call(**arguments)
    except ClientError as fault:
        return str(fault.response["Error"]["Code"])
    return ""


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


@pytest.mark.slow
def test_enrollment_with_a_disabled_key_and_an_absent_token(
    hsm: SoftHsm, token: str, tmp_path: Path, make_call: Any
) -> None:
    data, env = tmp_path / "data", settings(hsm, token, tmp_path)
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
        found = ended_job(
            voice_id,
            DomainId=domain_id,
            DataAccessRoleArn="arn:aws:iam::000000000000:role/sonant",
            InputDataConfig={"S3Uri": "s3://calls/manifest.json"},
            OutputDataConfig={"S3Uri": "s3://results/out", "KmsKeyId": "alias/calls"},
        )
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
            for _ in range(3):
                assert code_of(voice_id.list_speakers, DomainId=domain_id) == "InternalServerException"
        finally:
            away.rename(hsm.tokens)

        def there_again() -> bool:
            code = code_of(voice_id.list_speakers, DomainId=domain_id)
            assert code in ("", None, "InternalServerException")
            return not code

        wait_until("the token is found again", there_again)
        assert speakers() == [enrolled]

    held = [path.read_bytes() for path in data.rglob("*") if path.is_file()]
    assert not any(PIN.encode() in content for content in [data.with_suffix(".log").read_bytes(), *held])


def test_a_first_start_without_its_token_ends_with_one_sentence(
    hsm: SoftHsm, token: str, tmp_path: Path
) -> None:
    env = {**settings(hsm, token, tmp_path), "SONANT_PKCS11_TOKEN": "no-such-token"}
    done = subprocess.run(
        [sys.executable, "-m", "sonant", "serve", "--port", "0", "--data", str(tmp_path / "data")],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == "sonant: the PKCS#11 token cannot be opened (NoSuchToken)"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_lost_token_objects_are_reported_and_an_absent_token_awaited(
    hsm: SoftHsm, token: str, tmp_path: Path
) -> None:
    data, env = tmp_path / "data", settings(hsm, token, tmp_path)
    with serving(data, env) as (voice_id, _):
        voice_id.create_domain(Name="calls", ServerSideEncryptionConfiguration={"KmsKeyId": "alias/sonant"})
    (key_file,) = (data / "keys").glob("*-*.json")

    with serving(data, {**env, "SONANT_PKCS11_TOKEN": "no-such-token"}):
        pass  # it may come back: nothing is known to be lost

    empty = f"{token}-new"
    hsm.make_token(empty)
    for command in (["serve", "--port", "0"], ["worker"], ["doctor"]):
        done = subprocess.run(
            [sys.executable, "-m", "sonant", *command, "--data", str(data)],
            env={**env, "SONANT_PKCS11_TOKEN": empty},
            cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert (
            f"the token does not hold the material of key {key_file.stem}, and 1 domains cannot be opened "
            "without it: restore the token by its vendor's means"
        ) in done.stdout + done.stderr
