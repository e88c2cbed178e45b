"""docs/coming-from-voice-id.md, followed word by word: its own commands take an integration over."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from service_process import BIN, ServiceProcess, environment

from sonant.demo.recordings import ManifestEntry, write_manifest

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-voice-id.md"
#: What the page has in place of the reader's own.
REGION, ACCOUNT = "eu-west-2", "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/VoiceIdJobs"
PORT = "8180"
LONGEST_S = 600

#: Runs the service beside the other commands, as a second terminal would, and ends it by its process id.
_SERVE = """\
{command} &
serving=$!
trap 'kill $serving; wait $serving' EXIT
until [ -e sonant-data/endpoint ]; do kill -0 $serving || exit 70; sleep 0.1; done
"""


def page_commands(before: str = "## What differs") -> list[str]:
    """What follows a `$` in the console blocks of the page, in its order."""
    blocks = re.findall(
        r"^( *)```console\n(.*?)^ *```$", PAGE.read_text("utf-8").split(before)[0], re.M | re.S
    )
    found: list[str] = []
    for indent, block in blocks:
        for line in block.splitlines():
            text = line.removeprefix(indent)
            if text.startswith("$ "):
                found.append(text[2:])
            else:
                assert found[-1].endswith("\\"), f"neither a command nor more of one: {line}"
                found[-1] += "\n" + text
    return found


def script(commands: list[str], port: int) -> str:
    """The commands as one terminal runs them; each one's exit code follows its output."""
    parts = []
    for command in commands:
        served = command.startswith("sonant serve")
        parts.append(_SERVE.format(command=command.partition("#")[0]) if served else command)
        parts.append('echo "exit code $?"')
    return "\n".join(parts).replace(f"127.0.0.1:{PORT}", f"127.0.0.1:{port}")


def terminal(commands: str, folder: Path, **env: str) -> tuple[str, str]:
    """Run commands in a shell of their own: what they wrote to standard output and to standard error."""
    shell = subprocess.Popen(
        ["bash", "-u", "-c", commands],
        env=environment(PATH=f"{BIN}:/usr/bin:/bin", **env),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        return shell.communicate(timeout=LONGEST_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)  # the service too, if the shell did not come to its end


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def manifest(*speakers: str) -> bytes:
    entries = [
        ManifestEntry(request_id=name, speaker_id=name, audio=(("s3://calls/2024/ada.wav", 0),))
        for name in speakers
    ]
    return write_manifest(entries)


@pytest.fixture
def call(make_call: Any, voices: Any) -> bytes:
    return bytes(make_call(next(iter(voices)), 1, channels=1))


@pytest.mark.timeout(2 * LONGEST_S)
def test_the_pages_commands_run_the_main_job_under_the_readers_own_role(tmp_path: Path, call: bytes) -> None:
    (tmp_path / "ada.wav").write_bytes(call)
    (tmp_path / "manifest.json").write_bytes(manifest("ada", "refuser"))
    old = [{"CustomerSpeakerId": "refuser", "Status": "OPTED_OUT", "DomainId": "a"}]
    (tmp_path / "list-speakers.json").write_text(json.dumps({"SpeakerSummaries": old}))
    commands, port = page_commands(), free_port()
    out, errors = terminal(script(commands, port), tmp_path, SONANT_GATEWAY_PORT=str(port))
    codes = re.findall(r"^exit code (\d+)$", out, re.M)
    # `job watch` says by 3 that a request failed: the one of the speaker who had refused.
    wanted = ["3" if command.startswith("sonant job watch") else "0" for command in commands]
    assert codes == wanted, out + errors
    assert "COMPLETED_WITH_ERRORS" in out
    result = json.loads(out[out.index("\n{") :].rpartition("exit code")[0])
    assert [one["RequestId"] for one in result["SuccessfulEnrollments"]] == ["ada"]
    assert [(one["RequestId"], one["ErrorCode"]) for one in result["Errors"]] == [("refuser", 409)]


def test_the_page_names_every_command_that_the_way_needs() -> None:
    words = [" ".join(command.split()[:2]) for command in page_commands()]
    assert {"sonant serve", "sonant access", "export AWS_ENDPOINT_URL_VOICE_ID=http://127.0.0.1:8180"} <= set(
        words
    )
    assert (
        sum("start-speaker-enrollment-job" in command and ROLE in command for command in page_commands()) == 1
    )


def test_service_that_has_run_before_serves_the_roles_account_too(
    service: ServiceProcess, call: bytes, tmp_path: Path
) -> None:
    def sonant(*arguments: str, code: int = 0) -> str:
        done = service.sonant(*arguments, AWS_PROFILE=ACCOUNT)
        assert done.code == code, done.err
        return done.out.strip()

    sonant("access", "import-role", ROLE, "--bucket", "calls")
    for name, content in (("ada.wav", call), ("manifest.json", manifest("ada", "refuser"))):
        (tmp_path / name).write_bytes(content)
    sonant("object", "put", str(tmp_path / "ada.wav"), "s3://calls/2024/", "--account", ACCOUNT)
    sonant("object", "put", str(tmp_path / "manifest.json"), "s3://calls/", "--account", ACCOUNT)
    key = ("--server-side-encryption-configuration", "KmsKeyId=alias/sonant")
    domain = json.loads(sonant("voice-id", "create-domain", "--name", "calls", *key))["Domain"]
    assert f":{ACCOUNT}:" in domain["Arn"]
    old = [{"CustomerSpeakerId": "refuser", "Status": "OPTED_OUT", "DomainId": "a"}]
    (tmp_path / "old.json").write_text(json.dumps({"SpeakerSummaries": old}))
    sonant("domain", "import-opt-outs", "--yes", domain["DomainId"], str(tmp_path / "old.json"))
    started = sonant(
        *("voice-id", "start-speaker-enrollment-job", "--domain-id", domain["DomainId"]),
        *("--data-access-role-arn", ROLE, "--input-data-config", "S3Uri=s3://calls/manifest.json"),
        *("--output-data-config", "S3Uri=s3://calls/results,KmsKeyId=alias/sonant"),
    )
    job_id = json.loads(started)["Job"]["JobId"]
    watched = sonant("job", "watch", job_id, code=3)
    assert watched.splitlines()[0] == f"{job_id} COMPLETED_WITH_ERRORS"
    result = f"s3://calls/results/{job_id}/manifest.json.out"
    found = json.loads(sonant("object", "get", result, "--account", ACCOUNT))
    assert [one["RequestId"] for one in found["SuccessfulEnrollments"]] == ["ada"]
    assert [one["ErrorCode"] for one in found["Errors"]] == [409]


def test_buckets_of_an_unknown_account_are_refused(service: ServiceProcess) -> None:
    done = service.sonant("object", "ls", "--account", "1" * 12)
    assert done.code == 1
    assert done.err.startswith(f"sonant: this installation has no account {'1' * 12}; it has ")
