"""More of AWS's clients, old ones and those of other languages, each of which runs the main job.

They are fetched when the slow tests run: AWS CLI 2 and the SDKs for Go as Debian packages, the second SDK for
JavaScript by npm, the first boto3 that knows Voice ID by pip. One that cannot be had is skipped and says why.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import debian_programs
import pytest
from npm_packages import npm_folder
from service_process import KEY_ALIAS, REGION, ROLE, ServiceProcess, environment

from sonant.demo.recordings import ManifestEntry, write_manifest
from sonant.errors import SetupError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("other clients")]

HERE = Path(__file__).parent / "other_clients"
CACHE = Path(__file__).parents[2] / ".cache" / "clients"
FETCH_S, BUILD_S, RUN_S = 600, 900, 300
OLD_BOTO3 = "boto3==1.18.49"  # the first with the model


@pytest.fixture
def manifest(service: ServiceProcess, make_call: Any, voices: Any) -> dict[str, str]:
    """What every client is told of the job, for two speakers: of the second there is no recording."""
    bucket = service.data / "buckets" / "calls"
    (bucket / "ada.wav").write_bytes(make_call(next(iter(voices)), 1, channels=1))
    entries = [
        ManifestEntry(request_id=name, speaker_id=name, audio=((f"s3://calls/{name}.wav", 0),))
        for name in ("ada", "absent")
    ]
    (bucket / "two.json").write_bytes(write_manifest(entries))
    return {
        "MANIFEST": "s3://calls/two.json",
        "RESULTS": "s3://calls/results",
        "KEY": KEY_ALIAS,
        "ROLE": ROLE,
    }


def client_environment(service: ServiceProcess, **more: str) -> dict[str, str]:
    return environment(
        AWS_ACCESS_KEY_ID=service.credentials.access_key,
        AWS_SECRET_ACCESS_KEY=service.credentials.secret_key,
        AWS_REGION=REGION,
        AWS_DEFAULT_REGION=REGION,
        AWS_EC2_METADATA_DISABLED="true",
        VOICE_ID_ENDPOINT=service.url,
        **more,
    )


def run(command: Sequence[str | Path], env: dict[str, str], time_limit_s: float = RUN_S) -> str:
    """A program's output, from one that must succeed."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=time_limit_s, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_job(service: ServiceProcess, told: str) -> None:
    """The job ended as it must, and its result is what its manifest asked for."""
    job_id, status = told.split()
    assert status == "COMPLETED_WITH_ERRORS"
    read = service.sonant("object", "get", f"s3://calls/results/{job_id}/two.json.out")
    result = json.loads(read.out)
    assert [one["RequestId"] for one in result["SuccessfulEnrollments"]] == ["ada"]
    assert [(one["RequestId"], one["ErrorCode"]) for one in result["Errors"]] == [("absent", 404)]


@contextmanager
def cache(name: str) -> Iterator[Path]:
    """A folder that test processes and runs share; one at a time fills it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (CACHE / name).mkdir(exist_ok=True)
        yield CACHE / name


def debian_root(*packages: str, suite: str = "") -> Path:
    try:
        return debian_programs.root_of(set(packages), suite)
    except SetupError as why:
        pytest.skip(f"no {' and no '.join(packages)}: {why}")


# --- AWS CLI 2 ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cli_2() -> tuple[list[str], dict[str, str]]:
    """AWS CLI 2 as a command, and what its environment needs; skipped where Debian's is another."""
    root = debian_root("awscli")
    python = shutil.which("python3", path="/usr/bin")
    if python is None:
        pytest.skip("no AWS CLI 2: Debian's needs Debian's own Python")
    env = {} if root == Path("/") else {"PYTHONPATH": str(root / "usr/lib/python3/dist-packages")}
    command = [python, str(root / "usr/bin/aws")]
    version = run([*command, "--version"], environment(**env))
    if not version.startswith("aws-cli/2."):
        pytest.skip(f"no AWS CLI 2: Debian's is {version.split()[0]}")
    return command, env


def test_aws_cli_2(service: ServiceProcess, manifest: dict[str, str], cli_2: Any) -> None:
    command, env = cli_2
    known = client_environment(service, **env)
    ask = [*command, "voice-id", "--endpoint-url", service.url, "--output", "json", "--no-cli-pager"]

    def asked(*arguments: str) -> Any:
        return json.loads(run([*ask, *arguments], known))

    key = f"KmsKeyId={manifest['KEY']}"
    made = asked("create-domain", "--name", "cli-2", "--server-side-encryption-configuration", key)
    at = ("--domain-id", made["Domain"]["DomainId"])
    output = f"S3Uri={manifest['RESULTS']},{key}"
    where = ("--input-data-config", f"S3Uri={manifest['MANIFEST']}", "--output-data-config", output)
    job = asked("start-speaker-enrollment-job", *at, "--data-access-role-arn", manifest["ROLE"], *where)[
        "Job"
    ]
    while "EndedAt" not in job:
        job = asked("describe-speaker-enrollment-job", *at, "--job-id", job["JobId"])["Job"]
    assert job["CreatedAt"] < job["EndedAt"]  # ISO 8601
    check_job(service, f"{job['JobId']} {job['JobStatus']}")


# --- Go -----------------------------------------------------------------------------------------------


SDK_1, SDK_2 = "golang-github-aws-aws-sdk-go-dev", "golang-github-aws-aws-sdk-go-v2-dev"
#: The first Debian release whose second SDK knows watchlists.
TRIXIE = "trixie"


def go_program(name: str, sdk: str, suite: str = "") -> Path:
    """A program of ours, built with Go and an SDK as Debian has them in this release or another."""
    root = debian_root("golang-go", sdk, suite=suite)
    # What golang-go needs is installed where golang-go is, and fetched with it elsewhere.
    go = next((found for top in (root, Path("/")) for found in (top / "usr/lib").glob("go-*/bin/go")), None)
    if go is None:
        pytest.skip("no Go: Debian's package has it in another place")
    with cache(f"go{suite}") as folder:
        env = environment(
            CGO_ENABLED="0",
            GO111MODULE="off",
            GOCACHE=str(folder / "cache"),
            GOFLAGS="-p=1",
            GOPATH=str(root / "usr/share/gocode"),
            GOROOT=str(go.parents[1]),
            GOTOOLCHAIN="local",
        )
        source, program = HERE / name / "main.go", folder / name
        run([go, "build", "-o", program, source], env, BUILD_S)
    return program


def test_the_first_sdk_for_go(service: ServiceProcess, manifest: dict[str, str]) -> None:
    check_job(service, run([go_program("go1", SDK_1)], client_environment(service, **manifest)))


def test_the_second_sdk_for_go(service: ServiceProcess, manifest: dict[str, str]) -> None:
    check_job(service, run([go_program("go2", SDK_2)], client_environment(service, **manifest)))


def test_the_second_sdk_for_go_reads_watchlists(service: ServiceProcess) -> None:
    program = go_program("go2_watchlists", SDK_2, TRIXIE)
    assert run([program], client_environment(service, KEY=KEY_ALIAS)).split() == ["false", "true"]


# --- JavaScript ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def javascript_2() -> Path:
    """A folder with the second SDK for JavaScript in its node_modules."""
    return npm_folder("javascript2", HERE / "javascript2" / "package.json")


def test_the_second_sdk_for_javascript(
    service: ServiceProcess, manifest: dict[str, str], javascript_2: Path
) -> None:
    env = client_environment(service, NODE_MODULES_OF=str(javascript_2), **manifest)
    check_job(service, run(["node", HERE / "javascript2" / "main.js"], env))


# --- Python -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def old_boto3() -> Path:
    """A Python with a boto3 of the week in which Voice ID began."""
    if sys.version_info >= (3, 12):
        pytest.skip(f"{OLD_BOTO3} imports modules that Python 3.12 no longer has")
    with cache("boto3") as folder:
        python, done = folder / "bin" / "python", folder / "installed"
        if not done.exists() or done.read_text() != OLD_BOTO3:
            venv.create(folder, with_pip=True, clear=True)
            command = [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                OLD_BOTO3,
            ]
            fetched = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
            if fetched.returncode:
                pytest.skip(f"pip could not fetch {OLD_BOTO3}: {fetched.stderr[-300:]}")
            done.write_text(OLD_BOTO3)
    return python


def test_a_boto3_of_2021(service: ServiceProcess, manifest: dict[str, str], old_boto3: Path) -> None:
    check_job(service, run([old_boto3, HERE / "boto3_job.py"], client_environment(service, **manifest)))


def test_the_boto3_of_today(service: ServiceProcess, manifest: dict[str, str]) -> None:
    """The same program, so that it is the version that is tried and not the program."""
    check_job(service, run([sys.executable, HERE / "boto3_job.py"], client_environment(service, **manifest)))
