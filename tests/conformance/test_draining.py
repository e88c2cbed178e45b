"""Graceful shutdown: the service is not ready at once, and answers requests until the end."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from carried_calls import messages_until_closed, opened
from service_process import BIN, NO_JOBS, ServiceProcess, environment, running
from waiting import PATIENCE_S, dawdle, wait_until


def probe(service: ServiceProcess, path: str) -> tuple[int, dict[str, Any], str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.getheader("connection")
    finally:
        connection.close()


def test_a_running_service_is_alive_and_ready(service: ServiceProcess) -> None:
    assert probe(service, "/health")[:2] == (200, {"status": "ok"})
    assert probe(service, "/health/ready")[:2] == (200, {"status": "ready"})


def test_a_draining_service_answers_requests_and_is_not_ready(tmp_path: Path) -> None:
    with running(tmp_path / "data", GATEWAY_DRAIN_S="3600", **NO_JOBS) as service:
        domain_id = service.domain("kept")
        faults: list[Exception] = []
        answered: list[int] = []

        def call() -> None:
            while service.process.poll() is None and not enough.is_set():
                try:
                    service.voice_id.describe_domain(DomainId=domain_id)
                    answered.append(len(answered))
                except Exception as fault:  # noqa: BLE001
                    faults.append(fault)
                    return

        enough = threading.Event()
        caller = threading.Thread(target=call)
        caller.start()
        wait_until("some are answered", lambda: answered)
        service.process.send_signal(signal.SIGTERM)
        wait_until("it says so", lambda: probe(service, "/health/ready")[0] == 503)
        assert probe(service, "/health/ready") == (503, {"status": "draining"}, "close")
        assert probe(service, "/health")[0] == 200
        before = len(answered)
        wait_until("more are answered", lambda: faults or len(answered) > before + 20)
        enough.set()
        caller.join()
        assert not faults
        assert service.process.poll() is None


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_the_service_at_once(tmp_path: Path, second: signal.Signals) -> None:
    with running(tmp_path / "data", GATEWAY_DRAIN_S="3600", **NO_JOBS) as service:
        service.voice_id.list_domains()
        service.process.send_signal(signal.SIGTERM)
        wait_until("it drains", lambda: probe(service, "/health/ready")[0] == 503)
        service.process.send_signal(second)
        assert service.process.wait(PATIENCE_S) in (0, 130)


def test_draining_waits_for_the_end_of_a_live_call(tmp_path: Path) -> None:
    settings = {"LIVE_DRAIN_S": "3600", "GATEWAY_DRAIN_S": "0.1"}
    with running(tmp_path / "data", **settings, **NO_JOBS) as service:
        domain_id = service.domain("kept")
        service.sonant("session", "start", "call-1", "--domain", domain_id)
        url = service.sonant("session", "url", "call-1", "--domain", domain_id).out.strip()
        with opened(url) as connection:
            connection.send(bytes(320))
            log = tmp_path / "data.log"
            wait_until("the stream begins", lambda: "stream 1 has begun" in log.read_text())
            service.process.send_signal(signal.SIGTERM)
            wait_until("it drains", lambda: probe(service, "/health/ready")[0] == 503)
            dawdle(1.5)  # says nothing for longer than calls of the API are waited for
            connection.send(bytes(320))
            connection.send('{"type": "end"}')
            assert messages_until_closed(connection)[1:] == (1000, "CALL_ENDED")
        assert service.process.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_a_worker_touches_its_heartbeat_file_while_it_runs(tmp_path: Path) -> None:
    with running(tmp_path / "data", **NO_JOBS) as service:
        beat = tmp_path / "beat"
        worker = subprocess.Popen(
            [BIN / "sonant", "worker", "--heartbeat", str(beat)],
            env=environment(SONANT_DATA=str(service.data)),
            cwd=tmp_path,
        )
        try:
            wait_until("it beats", beat.exists)
            first = beat.stat().st_mtime
            wait_until("it goes on beating", lambda: beat.stat().st_mtime > first)
        finally:
            worker.terminate()
            assert worker.wait(PATIENCE_S) == 0
