"""Readiness while the check of the database succeeds, fails, or hangs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from sonant.errors import DatabaseUnavailable, SetupError
from sonant.gateway import health as health_of
from sonant.gateway.health import Health
from sonant.gateway.metrics_route import may_know_reasons
from sonant.runner_state import RunnerState
from sonant.settings import Gateway, Metrics, Settings

LONG_S = 3600.0


class Clock:
    """A clock that a test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pass_cache(self) -> None:
        self.now_s += health_of.CACHE_S


class Check:
    """A check whose outcome is set, and which hangs while `gate` is closed."""

    def __init__(self) -> None:
        self.count = 0
        self.fault: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.left = threading.Semaphore(0)

    def __call__(self) -> None:
        self.count += 1
        self.entered.release()
        self.gate.wait()
        self.left.release()
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def check() -> Iterator[Check]:
    made = Check()
    yield made
    made.gate.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serve(check: Check, clock: Clock) -> Iterator[Callable[..., Callable[[], tuple[int, str]]]]:
    clients = []

    def begin(answer_s: float = LONG_S, **more: Any) -> Callable[[], tuple[int, str]]:
        client = TestClient(Starlette(routes=Health(check, clock, answer_s=answer_s, **more).routes()))
        client.__enter__()
        clients.append(client)

        def ask() -> tuple[int, str]:
            answer = client.get("/health/ready")
            return answer.status_code, answer.json()["status"]

        return ask

    yield begin
    check.gate.set()
    for client in clients:
        client.__exit__(None, None, None)


def test_a_result_is_reused_until_it_is_too_old(serve, check: Check, clock: Clock) -> None:
    ask = serve()
    assert [ask(), ask()] == [(200, "ready")] * 2
    assert check.count == 1
    clock.pass_cache()
    assert ask() == (200, "ready")
    assert check.count == 2


@pytest.mark.parametrize("fault", [DatabaseUnavailable("away"), SetupError("damaged"), RuntimeError("odd")])
def test_a_failed_check_is_not_ready_and_is_repeated(
    serve, check: Check, clock: Clock, fault: Exception
) -> None:
    ask = serve()
    check.fault = fault
    assert ask() == (503, "unavailable")
    check.fault = None
    clock.pass_cache()
    assert ask() == (200, "ready")


def test_a_hanging_check_is_not_ready_and_is_not_repeated(
    serve, check: Check, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ask = serve(0.05)
    assert ask() == (200, "ready")
    check.gate.clear()
    for _ in range(3):
        clock.pass_cache()
        assert ask() == (503, "unavailable")
    assert check.count == 2, "no second check begins while one hangs"
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["not ready: the check of the database took more than 0.05 s"], "said once"


def test_a_check_that_ends_late_counts_and_the_next_is_new(serve, check: Check, clock: Clock) -> None:
    ask = serve(0.05)
    check.gate.clear()
    assert ask() == (503, "unavailable")
    check.entered.acquire()
    check.gate.set()
    check.left.acquire()
    answers = []
    for _ in range(1000):  # the outcome reaches the loop at some time after the look has ended
        clock.pass_cache()
        answers.append(ask())
        if check.count > 1:
            break
    assert answers[-1] == (200, "ready")
    assert check.count > 1


# --- the reason


def readiness(check: Check, clock: Clock, **more: Any) -> TestClient:
    return TestClient(Starlette(routes=Health(check, clock, **more).routes()), client=("127.0.0.1", 50_000))


def test_the_reason_is_told_to_those_who_may_know_alone(check: Check, clock: Clock) -> None:
    check.fault = SetupError("the keys are gone")
    with readiness(check, clock) as client:
        assert client.get("/health/ready").json() == {"status": "unavailable"}
    with readiness(check, clock, may_know=lambda _: True) as client:
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert answer.json() == {"status": "unavailable", "reason": "the keys are gone"}


def test_the_reason_of_a_missing_runner_is_told(check: Check, clock: Clock) -> None:
    state = RunnerState(pid=None, restarts=3, down_s=61.0, problem="cannot be started: no room")
    with readiness(check, clock, runner=lambda: state, may_know=lambda _: True) as client:
        assert client.get("/health/ready").json()["reason"] == (
            "no runner has been able to do jobs for 61 s: cannot be started: no room"
        )


def test_each_new_reason_and_the_end_of_it_are_logged(
    check: Check, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with readiness(check, clock) as client:
        for fault in (SetupError("one"), SetupError("one"), SetupError("two"), None):
            check.fault = fault
            client.get("/health/ready")
            clock.pass_cache()
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["not ready: one", "not ready: two", "ready again"]


LOCAL, PUBLIC = Gateway(host="127.0.0.1"), Gateway(host="0.0.0.0", plain_http=True)


@pytest.mark.parametrize(
    ("gateway", "token", "headers", "told"),
    [
        (LOCAL, "", {}, True),
        (LOCAL, "", {"X-Forwarded-For": "203.0.113.7"}, False),
        (LOCAL, "", {"Forwarded": "for=203.0.113.7"}, False),
        (Gateway(host="127.0.0.1", trusted_proxies="127.0.0.1"), "", {}, False),
        (PUBLIC, "", {}, False),
        (PUBLIC, "secret of sixteen", {}, False),
        (PUBLIC, "secret of sixteen", {"Authorization": "Bearer secret of sixteem"}, False),
        (PUBLIC, "secret of sixteen", {"Authorization": "Bearer secret of sixteen"}, True),
        (LOCAL, "secret of sixteen", {}, False),
    ],
)
def test_who_may_know_reasons(
    check: Check, clock: Clock, gateway: Gateway, token: str, headers: dict[str, str], told: bool
) -> None:
    check.fault = SetupError("a reason")
    settings = Settings(gateway=gateway, metrics=Metrics(token=token))
    with readiness(check, clock, may_know=may_know_reasons(settings)) as client:
        assert ("reason" in client.get("/health/ready", headers=headers).json()) == told
