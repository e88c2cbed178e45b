"""The runner beside a service: it comes back whatever goes wrong, and who asks is told when there is none."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlite_template import put_tables
from starlette.applications import Starlette
from starlette.testclient import TestClient
from waiting import PATIENCE_S, wait_until

from sonant.assembly import installation, supervisor
from sonant.assembly.supervisor import STATE_FILE, Supervisor, stored_state
from sonant.cli import doctor
from sonant.cpu_affinity import CpuAffinity
from sonant.errors import SetupError
from sonant.gateway.health import Health
from sonant.metrics import MetricsRegistry
from sonant.runner_state import GRACE_S, RunnerState
from sonant.settings import Settings
from sonant.storage.times import now


@contextmanager
def no_files_left() -> Iterator[None]:
    """Nothing more can be opened in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data=tmp_path / "data")
    put_tables(made.data / "sonant.db")
    installation.open_store(made, create=True).database.close()
    return made


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watched(settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(supervisor, "PAUSE_MOST_S", 0.3)
    made = Supervisor(settings, CpuAffinity(), clock)
    yield made
    made.stop()


def ready(state: Callable[[], RunnerState]) -> int:
    """What a load balancer gets from a service whose database is well."""
    health = Health(lambda: None, lambda: 0.0, state)
    return TestClient(Starlette(routes=health.routes())).get("/health/ready").status_code


def works(watched: Supervisor) -> bool:
    return watched.state().down_s is None


@pytest.mark.slow
def test_runner_starts_once_open_files_allow_it(watched, caplog):
    with no_files_left():
        watched.start()
        wait_until("several attempts", lambda: watched.state().restarts >= 3)
        assert watched.state().pid is None
        assert "Too many open files" in watched.state().problem
    wait_until("the runner works", lambda: works(watched))
    assert watched.state().problem == ""
    lines = [record for record in caplog.records if "Too many open files" in record.message]
    assert len(lines) >= 3
    assert all(record.exc_info is None for record in lines), "one sentence each"


@pytest.mark.parametrize(
    "fault", [BlockingIOError(11, "Resource temporarily unavailable"), MemoryError("none")]
)
def test_failed_start_is_tried_again(watched, monkeypatch, fault):
    # EAGAIN and ENOMEM cannot be had for one process alone without taking the whole machine's.
    real, failures = subprocess.Popen, iter([fault] * 2)

    def popen(*arguments, **named):
        for failure in failures:
            raise failure
        return real(*arguments, **named)

    monkeypatch.setattr(subprocess, "Popen", popen)
    watched.start()
    wait_until("the runner works", lambda: works(watched))
    assert watched.state().restarts == 2


def test_a_runner_that_is_killed_is_replaced(watched):
    watched.start()
    wait_until("the runner works", lambda: works(watched))
    first = watched.state().pid
    os.kill(first, 9)
    wait_until("another works", lambda: works(watched) and watched.state().pid != first)
    assert watched.state().restarts == 1


def test_a_service_without_a_runner_is_not_ready_after_a_grace(watched, clock):
    with no_files_left():
        watched.start()
        wait_until("an attempt", lambda: watched.state().restarts)
    clock.now_s = GRACE_S
    watched.stop()
    assert ready(watched.state) == 200
    clock.now_s = GRACE_S + 1
    assert ready(watched.state) == 503


@pytest.mark.slow
def test_runners_that_keep_ending_count_as_missing(watched, settings, clock):
    (settings.data / "sonant.db").write_bytes(b"not a database" * 1000)
    watched.start()
    wait_until("two have ended", lambda: watched.state().restarts >= 2)
    clock.now_s += GRACE_S + 1
    assert watched.state().missing
    assert watched.state().problem.startswith("ended with code")


def test_a_service_whose_runner_works_stays_ready(watched, clock):
    watched.start()
    wait_until("the runner works", lambda: works(watched))
    clock.now_s += 100 * GRACE_S
    assert ready(watched.state) == 200


def state(**other: object) -> RunnerState:
    values = {"pid": 17, "restarts": 4, "down_s": None, "problem": "", **other}
    return RunnerState(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("down_s", "up"), [(None, 1), (42.0, 0)])
def test_metrics_show_runner_state_and_replacements(settings, down_s, up):
    store = installation.open_store(settings)
    page = MetricsRegistry(store.database, 0.0, lambda: False, lambda: state(down_s=down_s), lambda: 7)
    text = page.render().decode()
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    store.database.close()
    assert found["sonant_runner_up"] == up
    assert found["sonant_runner_down_seconds"] == (down_s or 0)
    assert found["sonant_runner_restarts_total"] == 4
    assert found["sonant_live_workers_lost_at_start_total"] == 7


# --- what others on the same folder are told


def note(settings: Settings, **told: object) -> None:
    values = {
        "service": os.getpid(),
        "changed": now().timestamp(),
        "down_since": None,
        "pid": os.getpid(),
        "restarts": 2,
        "down_s": None,
        "problem": "",
        **told,
    }
    (settings.data / STATE_FILE).write_text(json.dumps(values))


@pytest.fixture
def dead_pid() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait(PATIENCE_S)
    return done.pid


def test_doctor_describes_a_working_runner(watched, settings):
    assert doctor.check_runner(settings) == "no service with a runner of its own runs on this folder"
    watched.start()
    wait_until("it is noted down", lambda: (noted := stored_state(settings)) and noted.pid)
    wait_until("the runner works", lambda: works(watched))
    assert doctor.check_runner(settings) == f"process {watched.state().pid}, never started again"
    watched.stop()
    assert doctor.check_runner(settings) == "no service with a runner of its own runs on this folder"


def test_doctor_fails_without_a_working_runner(settings):
    note(settings, pid=None, problem="cannot be started: no room", down_since=1_700_000_000.0)
    with pytest.raises(SetupError) as told:
        doctor.check_runner(settings)
    assert str(told.value) == (
        "none has been able to do jobs since 2023-11-14T22:13:20Z: cannot be started: no room; "
        "started again 2 times; see the service's log"
    )


def test_doctor_finds_a_runner_that_ended_without_a_note(settings, dead_pid):
    note(settings, pid=dead_pid, changed=now().timestamp() - GRACE_S - 5)
    with pytest.raises(SetupError, match="it ended"):
        doctor.check_runner(settings)


def test_note_of_a_killed_service_is_ignored(settings, dead_pid):
    note(settings, service=dead_pid, down_since=1_700_000_000.0)
    assert stored_state(settings) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"service": 1}'])
def test_damaged_note_is_ignored(settings, text):
    (settings.data / STATE_FILE).write_text(text)
    assert stored_state(settings) is None
