"""The wheel, in an empty environment of each Python that is there, does the README's main job."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import REPOSITORY, blocks, typed
from waiting import PATIENCE_S, wait_until

README = REPOSITORY / "README.md"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SPEAKER = "ada-4711"


def readme_blocks() -> tuple[list[str], str]:
    """The commands that enroll a caller, and the manifest."""
    after = README.read_text("utf-8").splitlines().index("## Enroll your own callers") + 1
    found = [block for block in blocks(README) if block.line > after]
    commands = next(block for block in found if "create-domain" in block.text)
    manifest = next(block for block in found if "SpeakerEnrollmentRequests" in block.text)
    return typed(commands), manifest.text


def usable(version: str) -> str | None:
    """The interpreter of a version, if it runs."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    found = shutil.which(f"python{version}")
    if (
        found
        and subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode == 0
    ):
        return found
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a release is."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(params=PYTHONS)
def environment(request: pytest.FixtureRequest, wheel: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables for commands in an environment that has the wheel and nothing else."""
    python = usable(request.param)
    if python is None:
        pytest.skip(f"Python {request.param} is not installed")
    venv = tmp_path / "venv"
    subprocess.run([python, "-m", "venv", venv], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
    subprocess.run([*pip, f"{wheel}[cli]"], check=True)
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("SONANT_", "AWS_", "PYTHON"))
    }
    yield {**kept, "PATH": f"{venv / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}


@pytest.mark.slow
def test_wheel_does_the_main_job_by_the_commands_of_the_readme(
    environment: dict[str, str], make_call, voices, tmp_path: Path
) -> None:
    commands, manifest = readme_blocks()
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "2024-07-15-ada.wav").write_bytes(make_call(next(iter(voices)), 1))
    known: dict[str, str] = {}
    serving = subprocess.Popen(["sonant", "serve"], cwd=tmp_path, env=environment)
    try:
        wait_until("the service answers", lambda: (tmp_path / "sonant-data" / "endpoint").exists())
        for command in commands:
            line = re.sub(r"\b(DOMAIN_ID|JOB_ID)\b", lambda name: known[name.group()], command)
            done = subprocess.run(
                line,
                shell=True,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            for operation, name in (("create-domain", "DOMAIN_ID"), ("start-speaker", "JOB_ID")):
                if operation in line:
                    known[name] = done.stdout.strip()
        result = json.loads(done.stdout)
        enrolled = [
            (one["CustomerSpeakerId"], one["EnrollmentStatus"]) for one in result["SuccessfulEnrollments"]
        ]
        assert (enrolled, result["Errors"]) == ([(SPEAKER, "NEW_ENROLLMENT")], [])
    finally:
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(PATIENCE_S) == 0
