"""`sonant serve` itself, `sonant job watch`, and what happens when two want the same place."""

from __future__ import annotations

import configparser
import os
import signal
import socket
from functools import partial
from pathlib import Path

import pytest
from service_process import (
    BIN,
    NO_JOBS,
    ServiceProcess,
    ended,
    environment,
    first_running,
    running,
    running_with_children,
)
from waiting import PATIENCE_S, alive, wait_until

from sonant.demo.recordings import ManifestEntry, write_manifest


def workers_of(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    lists = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    found = [int(child) for text in lists for child in text.split()]
    return found + [grandchild for child in found for grandchild in workers_of(child)]


# --- starting -----------------------------------------------------------------------------------------


def test_first_start_creates_and_second_start_keeps(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with first_running(data) as first:
        domain_id = first.domain("kept")
        secret = first.credentials.secret_key
    greeting = (tmp_path / "data.log").read_text()
    assert f"Sonant serves the Voice ID API at {first.url} (region us-east-1)" in greeting
    assert first.credentials.access_key in greeting
    assert secret not in greeting
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "keys").stat().st_mode & 0o777 == 0o700
    assert (data / "credentials").stat().st_mode & 0o777 == 0o600
    parser = configparser.ConfigParser()
    parser.read(data / "credentials")
    assert set(parser["default"]) == {"aws_access_key_id", "aws_secret_access_key", "region"}

    with running(data, "--quiet") as second:
        assert second.credentials.secret_key == secret
        assert second.voice_id.describe_domain(DomainId=domain_id)["Domain"]["Name"] == "kept"
    assert (tmp_path / "data.log").read_text() == ""


def test_second_service_on_a_folder_is_refused(service: ServiceProcess) -> None:
    done = service.sonant("serve", "--port", "0")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"sonant: another Sonant service (process {service.process.pid}) uses the data folder "
        f"{service.data}; stop it or choose another folder with --data\n"
    )
    assert service.voice_id.list_domains(MaxResults=1)


def test_taken_port_error_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = ended(
            [str(BIN / "sonant"), "serve", "--port", str(port), "--data", str(tmp_path / "data")],
            environment(),
            cwd=tmp_path,
        )
    assert (done.code, done.out) == (1, "")
    assert done.err.strip().splitlines()[-1] == (
        f"sonant: cannot listen on 127.0.0.1:{port}: Address already in use; choose another with --host and "
        "--port"
    )


# --- stopping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_service_cleanly(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with running_with_children(tmp_path / "data") as service:
        wait_until("the runner starts", lambda: workers_of(service.process.pid))
        service.voice_id.list_domains()  # it serves
        # One client is connected and idle, another is in the middle of a request.
        with (
            socket.create_connection(("127.0.0.1", service.port)),
            socket.create_connection(("127.0.0.1", service.port)) as halfway,
        ):
            halfway.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n")
            helpers = workers_of(service.process.pid)
            service.process.send_signal(number)
            assert service.process.wait(PATIENCE_S) == code
        wait_until("its helpers end", lambda: not any(map(alive, helpers)))
        assert not (service.data / "endpoint").exists()
    assert "Traceback" not in (tmp_path / "data.log").read_text()


def test_killed_service_leaves_no_runner_and_no_lock(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_with_children(data) as service:
        wait_until("the runner starts", lambda: workers_of(service.process.pid))
        helpers = workers_of(service.process.pid)
        domain_id = service.domain("kept")
        service.process.kill()
        service.process.wait(PATIENCE_S)
        wait_until("its helpers end", lambda: not any(map(alive, helpers)))
        (data / "endpoint").unlink()
        with running(data) as again:
            assert again.voice_id.describe_domain(DomainId=domain_id)


@pytest.mark.slow
def test_a_runner_that_dies_is_replaced(tmp_path: Path) -> None:
    with running_with_children(tmp_path / "data", JOBS_POLL_S="0.05") as service:
        domain_id = service.domain()
        wait_until("the runner starts", lambda: workers_of(service.process.pid))
        (runner, *_) = workers_of(service.process.pid)
        os.kill(runner, signal.SIGKILL)
        job = service.ended_job(domain_id, service.start_job(domain_id)["JobId"])
        assert job["JobStatus"] == "FAILED"


# --- job watch ----------------------------------------------------------------------------------------


def manifest(service: ServiceProcess, name: str) -> str:
    entry = ManifestEntry(request_id="r", speaker_id="caller", audio=(("s3://calls/absent.wav", 0),))
    (service.data / "buckets" / "calls" / name).write_bytes(write_manifest([entry]))
    return f"s3://calls/{name}"


def test_watch_failed_job_prints_reason_and_exits_1(service: ServiceProcess, domain_id: str) -> None:
    job_id = service.start_job(domain_id)["JobId"]
    done = service.sonant("job", "watch", job_id, "--domain-id", domain_id)
    assert (done.code, done.err) == (1, "")
    reason = "404 the manifest cannot be read: s3://calls/absent.json: there is no such object"
    assert done.out == f"{job_id} FAILED: {reason}\n"


def test_watch_job_with_errors_finds_domain_and_exits_3(service: ServiceProcess, domain_id: str) -> None:
    job_id = service.start_job(domain_id, manifest(service, "watched.json"))["JobId"]
    done = service.sonant("job", "watch", job_id)
    assert (done.code, done.out.splitlines()[0], done.err) == (3, f"{job_id} COMPLETED_WITH_ERRORS", "")


def test_aws_profile_of_the_user_does_not_apply_to_commands(service: ServiceProcess, domain_id: str) -> None:
    done = service.sonant("session", "list", "--domain", domain_id, AWS_PROFILE="nobody")
    assert (done.code, done.err) == (0, "")


def test_watch_without_service_says_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, **NO_JOBS) as service:
        pass
    done = service.sonant("job", "watch", "AbCdEfGhIjKlMnOpQrStUv", SONANT_GATEWAY_PORT="1")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("sonant: Could not connect to the endpoint URL")
    assert done.err.endswith("is `sonant serve` running?\n")


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs Linux's /proc")
def test_no_process_of_a_service_writes_core_dumps(tmp_path: Path) -> None:
    def is_limited(pid: int) -> bool:
        (line,) = [one for one in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in one]
        return line.split()[4:6] == ["0", "0"]

    with running_with_children(tmp_path / "data") as service:
        wait_until("the runner works", lambda: len(workers_of(service.process.pid)) >= 1)
        for pid in (service.process.pid, *workers_of(service.process.pid)):
            wait_until("the process has its keys", partial(is_limited, pid))
