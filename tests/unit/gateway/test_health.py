"""Readiness while the check of the database succeeds, fails, or hangs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from sonant.errors import DatabaseUnavailable, SetupError
from sonant.gateway import health as health_of
from sonant.gateway.health import Health

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

    def begin(answer_s: float = LONG_S) -> Callable[[], tuple[int, str]]:
        client = TestClient(Starlette(routes=Health(check, clock, answer_s=answer_s).routes()))
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
    assert warnings == ["not ready: the check of the database took more than 0.05 s"]


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
