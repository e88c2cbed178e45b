"""AWS's own client for Node.js, fetched by npm into the cache: every operation that is served."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from client_faults import STATUS
from sample_requests import CLIENTS, NOBODY, NOT_YET, OWN, SERVED, furnish, put_recording
from service_process import REGION, ServiceProcess, environment
from waiting import PATIENCE_S

HERE = Path(__file__).parent / "node"
CACHE = Path(__file__).parents[2] / ".cache" / "node"
FETCH_S, RUN_S = 100, PATIENCE_S


@pytest.fixture(scope="module")
def node() -> str:
    """The path of Node.js, with the client beside it in the cache."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        pytest.skip("no Node.js or no npm: apt install nodejs npm")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes share the cache
        wanted = (HERE / "package.json").read_text()
        installed = CACHE / "installed.json"
        if not installed.exists() or installed.read_text() != wanted:
            (CACHE / "package.json").write_text(wanted)
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            try:
                done = subprocess.run(command, cwd=CACHE, capture_output=True, timeout=FETCH_S, check=False)
            except subprocess.TimeoutExpired:
                pytest.skip("npm did not fetch the client in time")
            if done.returncode:
                pytest.skip(f"npm could not fetch the client: {done.stderr.decode()[-300:]}")
            installed.write_text(wanted)
    return found


def calls_by_node(node: str, service: ServiceProcess, calls: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    env = environment(
        AWS_ACCESS_KEY_ID=service.credentials.access_key,
        AWS_SECRET_ACCESS_KEY=service.credentials.secret_key,
        AWS_REGION=REGION,
        NODE_MODULES_OF=str(CACHE),
        VOICE_ID_ENDPOINT=service.url,
    )
    text = json.dumps(
        [{"operation": operation, "input": given, "own": operation in OWN} for operation, given in calls]
    )
    done = subprocess.run(
        [node, str(HERE / "driver.js")],
        input=text.encode(),
        env=env,
        capture_output=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return list(json.loads(done.stdout))


def test_every_served_operation_is_answered(node: str, service: ServiceProcess, recording: bytes) -> None:
    put_recording(service, recording)
    calls = list(furnish(service).requests.items())
    assert {name for name, _ in calls} == CLIENTS["Node.js"]
    for (operation, _), answer in zip(calls, calls_by_node(node, service, calls), strict=True):
        assert (answer["ok"], answer["status"]) == (True, 200), (operation, answer)
        shape = SERVED[operation].output_shape
        wanted = set(shape.members if shape else ())
        absent = {"NextToken"} | NOT_YET.get(operation, frozenset())
        assert wanted - absent <= set(answer["members"]) <= wanted, operation


def test_errors_are_the_clients_own_classes(node: str, service: ServiceProcess, domain_id: str) -> None:
    suspended = service.domain("suspended")
    service.voice_id.delete_domain(DomainId=suspended)
    late = {"DomainId": suspended, "SpeakerId": "customer"}
    calls = [
        ("DescribeDomain", {"DomainId": NOBODY}, "ResourceNotFoundException", "DOMAIN"),
        ("DescribeDomain", {"DomainId": "short"}, "ValidationException", None),
        (
            "OptOutSpeaker",
            late,
            "ConflictException",
            "DOMAIN_NOT_ACTIVE",
        ),
        ("RestoreDomain", {"DomainId": NOBODY}, "ResourceNotFoundException", "DOMAIN"),
    ]
    answers = calls_by_node(node, service, [(operation, given) for operation, given, *_ in calls])
    for (*_, error, detail), answer in zip(calls, answers, strict=True):
        assert (answer["error"], answer["status"], answer["detail"]) == (error, STATUS[error], detail)
        assert answer["modelled"]
        assert answer["message"]
