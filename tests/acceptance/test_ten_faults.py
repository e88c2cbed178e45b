"""Ten things broken by hand on a running installation: doctor names each, and readiness agrees."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from aws_servers import certificate, free_port
from service_process import ServiceProcess, ended, environment, running
from waiting import PATIENCE_S, dawdle, wait_until

from sonant.storage.repositories import access, jobs
from sonant.storage.times import now

pytestmark = pytest.mark.slow

CLOCK = Path(__file__).parents[1] / "support" / "chaos_clock"
TOKEN = "a token of the metrics"
#: The disk of the installation: doctor asks for 1 GiB of free space.
DISK_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system of its own, whose size can be changed."""

    folder: Path

    def mount(self, *options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", ",".join((*options, "mode=0700")), "tmpfs", str(self.folder)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def leave(self, free_bytes: int) -> None:
        self.mount("remount", f"size={self._used_bytes() + free_bytes}")

    def _used_bytes(self) -> int:
        status = os.statvfs(self.folder)
        return (status.f_blocks - status.f_bfree) * status.f_frsize


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    made = Disk(tmp_path_factory.mktemp("disk"))
    if os.geteuid() != 0 or not made.mount(f"size={DISK_BYTES}"):
        pytest.skip("mounting a small disk needs root")
    yield made
    subprocess.run(["umount", "-l", made.folder], check=True)


@pytest.fixture(scope="module")
def service(disk: Disk) -> Iterator[ServiceProcess]:
    with running(disk.folder / "data", METRICS_TOKEN=TOKEN, JOBS_POLL_S="0.1") as service:
        service.domain()
        made = service.sonant(
            "backup", str(disk.folder / "first.backup"), SONANT_BACKUP_PASSPHRASE="a long passphrase"
        )
        assert made.code == 0, made.err
        yield service


def faults_of(service: ServiceProcess, **env: str) -> dict[str, str]:
    """What doctor finds wrong, by the name of the check."""
    done = service.sonant("doctor", "--output", "json", **{"SONANT_METRICS_TOKEN": TOKEN, **env})
    return faults_in(done.out, done.code)


def faults_at(service: ServiceProcess, moved: timedelta, folder: Path) -> dict[str, str]:
    """The same with a clock that is moved."""
    (folder / "clock").write_text(str(moved.total_seconds()))
    env = environment(
        SONANT_DATA=str(service.data),
        SONANT_METRICS_TOKEN=TOKEN,
        CHAOS_CLOCK=str(folder / "clock"),
        PYTHONPATH=str(CLOCK),
    )
    command = [sys.executable, "-m", "sonant", "doctor", "--output", "json"]
    done = ended(command, env, folder)
    return faults_in(done.out, done.code)


def faults_in(document: str, code: int) -> dict[str, str]:
    found = json.loads(document)
    assert found["Healthy"] is (code == 0)
    return {one["Name"]: one["Message"] for one in found["Checks"] if not one["Passed"]}


def readiness(service: ServiceProcess) -> tuple[int, str]:
    """Status and reason of /health/ready, as an operator asks for them."""
    request = urllib.request.Request(
        f"{service.url}/health/ready", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S, context=context) as answer:
            return answer.status, json.loads(answer.read()).get("reason", "")
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read()).get("reason", "")


@contextmanager
def not_ready(service: ServiceProcess, reason: str) -> Iterator[None]:
    """Wait until the service says why it is not ready; at the end, until it is ready again."""

    def refused() -> bool:
        status, told = readiness(service)
        return status == 503 and reason in told

    wait_until(lambda: f"not ready: {reason}; now {readiness(service)}", refused, look_s=0.5)
    yield
    wait_until(
        lambda: f"ready again; now {readiness(service)}", lambda: readiness(service)[0] == 200, look_s=0.5
    )


def test_an_installation_that_is_well_has_no_fault(service: ServiceProcess) -> None:
    wait_until("the runner works", lambda: readiness(service)[0] == 200)
    assert faults_of(service) == {}


def test_lost_keys_are_named_and_make_the_service_not_ready(service: ServiceProcess, disk: Disk) -> None:
    aside = disk.folder / "aside"
    aside.mkdir()
    files = list((service.data / "keys").glob("*-*.json"))
    assert files
    for file in files:
        file.rename(aside / file.name)
    with not_ready(service, "missing"):
        found = faults_of(service)
        assert {"keys", "domain keys", "service"} <= set(found)
        assert "restore" in found["keys"] or "backup" in found["keys"], found["keys"]
        assert "missing" in found["service"]
        for file in aside.iterdir():
            file.rename(service.data / "keys" / file.name)
    assert faults_of(service) == {}


def test_a_full_disk_is_named_and_makes_the_service_not_ready(service: ServiceProcess, disk: Disk) -> None:
    disk.leave(8 << 20)
    try:
        with not_ready(service, "MiB free: give it more space"):
            found = faults_of(service)
            assert "give it more space" in found["data folder"]
            assert "give it more space" in found["service"]
            disk.leave(DISK_BYTES)
    finally:
        disk.leave(DISK_BYTES)
    assert faults_of(service) == {}


def test_wrong_modes_are_named_and_requests_are_answered(service: ServiceProcess) -> None:
    service.data.chmod(0o755)
    found = faults_of(service)
    assert set(found) == {"modes"}
    assert "run chmod -R go= " in found["modes"]
    assert readiness(service) == (200, "")
    service.data.chmod(0o700)
    assert faults_of(service) == {}


def test_a_runner_that_keeps_dying_makes_the_service_not_ready(service: ServiceProcess) -> None:
    repaired = threading.Event()

    def kill_each() -> None:
        while not repaired.is_set():
            dawdle(0.2)
            try:
                os.kill(int((service.data / "runner.lock").read_text()), signal.SIGKILL)
            except (OSError, ValueError):
                continue

    killing = threading.Thread(target=kill_each)
    killing.start()
    try:
        with not_ready(service, "runner"):
            found = faults_of(service)
            assert set(found) == {"runner", "service"}
            assert "see the service's log" in found["runner"]
            repaired.set()
            killing.join()
    finally:
        repaired.set()
    assert faults_of(service) == {}


def test_a_stale_lease_is_named_and_requests_are_answered(disk: Disk) -> None:
    with running(disk.folder / "alone", METRICS_TOKEN=TOKEN, JOBS_BESIDE_SERVICE="false") as service:
        job_id = service.start_job(service.domain())["JobId"]
        assert faults_of(service) == {}
        with service.store.database.write() as connection:
            # By a runner that is gone, whose clock was a month ahead.
            lease, ahead = timedelta(seconds=20), now() + timedelta(days=30)
            assert jobs.claim(connection, [jobs.ENROLLMENT], "gone", ahead, lease) is not None
        found = faults_of(service)
        assert set(found) == {"jobs"}
        assert job_id in found["jobs"]
        assert "Start `sonant serve` or `sonant worker`" in found["jobs"]
        assert readiness(service) == (200, "")
        stopped = service.sonant("job", "cancel", job_id, "--yes")
        assert stopped.code == 0, stopped.err
        assert faults_of(service) == {}


def test_s3_out_of_reach_is_named_and_other_requests_are_answered(tmp_path: Path) -> None:
    remote = {"OBJECTS": "s3", "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with running(tmp_path / "data", METRICS_TOKEN=TOKEN, JOBS_BESIDE_SERVICE="false", **remote) as service:
        found = faults_of(service, **{f"SONANT_{name}": value for name, value in remote.items()})
        assert "check s3.endpoint" in found["remote stores"]
        assert set(found) <= {"remote stores", "data folder"}  # the machine's own disk may be full
        assert readiness(service) == (200, "")


def test_an_expired_certificate_is_named(service: ServiceProcess, tmp_path: Path) -> None:
    file = certificate(tmp_path / "certificate.pem", now() - timedelta(days=90), now() - timedelta(days=1))
    tls = {"GATEWAY_TLS_CERTIFICATE": str(file), "GATEWAY_TLS_KEY": str(file)}
    with running(
        tmp_path / "data", METRICS_TOKEN=TOKEN, JOBS_BESIDE_SERVICE="false", RATES_FACTOR="0", **tls
    ) as expired:
        found = faults_of(expired, **{f"SONANT_{name}": value for name, value in tls.items()})
        assert "has expired on" in found["certificate"]
        assert "put a valid one in its place" in found["certificate"]
        assert readiness(expired) == (200, "")


def test_a_lost_administrator_is_named(service: ServiceProcess) -> None:
    with service.store.database.write() as connection:
        keys = [one for one in access.list_access_keys(connection) if one.principal_arn.endswith("/sonant")]
        for key in keys:
            access.set_active(connection, key.access_key_id, False)
    found = faults_of(service)
    assert set(found) == {"administrators"}
    assert "sonant access enable KEY" in found["administrators"]
    assert readiness(service) == (200, "")
    enabled = service.sonant("access", "enable", keys[0].access_key_id)
    assert enabled.code == 0, enabled.err
    assert faults_of(service) == {}


def test_a_skewed_clock_is_named(service: ServiceProcess, tmp_path: Path) -> None:
    found = faults_at(service, -timedelta(hours=3), tmp_path)
    assert "set it, and see that it is synchronized" in found["clock"]
    assert readiness(service) == (200, "")


def test_an_old_backup_is_named(service: ServiceProcess, tmp_path: Path) -> None:
    found = faults_at(service, timedelta(days=9), tmp_path)
    assert set(found) == {"backup"}
    assert "make one with `sonant backup FILE`" in found["backup"]
    assert readiness(service) == (200, "")
