"""Several services and several runners on one PostgreSQL, each a process of its own, and boto3 for each."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.request
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import boto3
from batch_testbed import Testbed
from botocore.config import Config
from forked_processes import ForkedProcess, sonant_command
from sqlalchemy import select
from waiting import PATIENCE_S, wait_until

from sonant.cli.credentials import read_credentials
from sonant.storage.database.schema import jobs
from sonant.storage.times import from_us

ENVIRONMENT = {
    "SONANT_ENCODER": "ge2e",
    "SONANT_JOBS_WORKERS": "1",
    "SONANT_LIVE_WORKERS": "1",
    "SONANT_JOBS_BESIDE_SERVICE": "false",
    "SONANT_ENROLLMENT_NET_SPEECH_S": "6",
    "SONANT_FRAUD_SPOOFING_MAX_S": "0",
    "SONANT_GATEWAY_THREADS": "4",
}


class Cluster:
    """What is started here ends with `close`."""

    def __init__(self, testbed: Testbed, **environment: str) -> None:
        """`testbed` is another process on the same database and data folder: this one."""
        self.testbed = testbed
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SONANT_")}
        self._environment = {
            **kept,
            **ENVIRONMENT,
            "SONANT_DATABASE": testbed.settings.database,
            "SONANT_DATA": str(testbed.settings.data),
            **environment,
        }
        self.folder = testbed.settings.data.parent
        self._stack = ExitStack()
        self.processes: list[ForkedProcess] = []
        """In the order they were started."""

    def service(self, **environment: str) -> Any:
        """Start an API process; a boto3 client of it."""
        port = _free_port()
        process = self._start("serve", "--port", str(port), **environment)
        url = f"http://127.0.0.1:{port}"

        def healthy() -> bool:
            assert process.poll() is None, self.log()
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=PATIENCE_S) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_until("the service answers", healthy)
        return self.client(url)

    def client(self, url: str) -> Any:
        key_id, secret = read_credentials(self.testbed.settings)
        return boto3.client(
            "voice-id",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE_S, proxies={}),
        )

    def runner(self, **environment: str) -> ForkedProcess:
        """Start a runner."""
        return self._start("worker", **environment)

    def log(self) -> str:
        return (self.folder / "cluster.log").read_text(errors="replace")[-3000:]

    def close(self) -> None:
        self._stack.close()

    def _start(self, *command: str, **environment: str) -> ForkedProcess:
        process = ForkedProcess(
            sonant_command,
            command,
            env={**self._environment, **environment},
            cwd=self.folder,
            output=self.folder / "cluster.log",
        )
        self._stack.callback(_end, process)
        self.processes.append(process)
        return process


def owner_of(testbed: Testbed, job_id: str) -> str | None:
    """The runner that has a job."""
    with testbed.store.database.read() as connection:
        query = select(jobs.c.lease_owner).where(jobs.c.job_id == job_id)
        owner: str | None = connection.execute(query).scalar_one()
    return owner


def leased_until(testbed: Testbed, job_id: str) -> datetime:
    """Until when the job is its runner's, whatever becomes of that."""
    with testbed.store.database.read() as connection:
        held = connection.execute(select(jobs.c.lease_until).where(jobs.c.job_id == job_id)).scalar_one()
    return from_us(held)


def _end(process: ForkedProcess) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
