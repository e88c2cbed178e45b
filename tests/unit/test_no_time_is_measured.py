"""The tests themselves: none measures time, sleeps, or gives up before something hangs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from waiting import PATIENCE_S

TESTS = Path(__file__).parents[1]

#: Where time is the subject: the helper itself, and slow tests that disturb a service for a while.
EXCEPT = {
    "support/waiting.py",
    "support/chaos_checks.py",
    "support/chaos_clock/sitecustomize.py",
    "support/chaos_faults.py",
    "support/chaos_load.py",
    "support/chaos_world.py",
    "acceptance/test_chaos.py",
    "acceptance/test_killed_runners.py",
    "conformance/other_clients/boto3_job.py",  # a program of its own, which asks as its users' would
}
CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "time"}
CLOCKS |= {f"{clock}_ns" for clock in CLOCKS}
TIMEOUTS = {"timeout", "open_timeout", "close_timeout", "read_timeout", "connect_timeout"}
WAITS = {"wait", "join", "result", "communicate", "wait_for", "settimeout", "timeout"}


def faults(source: str) -> Iterator[str]:
    """What stands in a test and hangs on how fast the machine is, each with what to use."""
    for node in ast.walk(ast.parse(source)):
        for fault in _faults(node):
            yield f"line {node.lineno}: {fault}"  # type: ignore[attr-defined]


def _faults(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute(value=ast.Name(id="time"), attr="sleep") | ast.ImportFrom(module="time"):
            yield "use waiting.wait_until, or waiting.dawdle in a peer that is made up"
        case ast.Attribute(value=ast.Name(id="time"), attr=clock) if clock in CLOCKS:
            yield f"time.{clock}: use waiting.wait_until or in_time, count (counting.py), or give a clock"
        case ast.ImportFrom(module="timeit") | ast.Import(names=[ast.alias(name="timeit")]):
            yield "count calls: counting.counted_calls"
        case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep"), args=[argument]):
            if not (isinstance(argument, ast.Constant) and argument.value == 0):
                yield "use waiting.until, or asyncio.sleep(0)"
        case ast.Call(func=ast.Name(id="settings"), keywords=named) if any(
            one.arg == "deadline" for one in named
        ):
            yield "conftest.py's profile has no deadline for all"
        case ast.Call(func=ast.Attribute(attr=wait), args=arguments, keywords=named):
            given = [one.value for one in named if one.arg in TIMEOUTS]
            given += arguments[-1:] if wait in WAITS else []
            if any(map(_short, given)):
                yield "waiting.PATIENCE_S is the ceiling of every wait"
        case ast.Call(keywords=named) if any(one.arg in TIMEOUTS and _short(one.value) for one in named):
            yield "waiting.PATIENCE_S is the ceiling of every wait"


def _short(value: ast.expr) -> bool:
    """A ceiling in plain figures, and lower than the one that all share; 0 does not wait at all."""
    return (
        isinstance(value, ast.Constant)
        and isinstance(value.value, int | float)
        and 0 < value.value < PATIENCE_S
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("time.sleep(0.1)", "dawdle"),
        ("from time import sleep", "wait_until"),
        ("assert time.monotonic() - begun < 1", "in_time"),
        ("begun = time.perf_counter_ns()", "count"),
        ("begun = time.process_time()", "count"),
        ("import timeit", "counted_calls"),
        ("asyncio.sleep(0.05)", "waiting.until"),
        ("settings(max_examples=5, deadline=500)", "profile"),
        ("process.wait(5)", "PATIENCE_S"),
        ("thread.join(timeout=5.0)", "PATIENCE_S"),
        ("asyncio.wait_for(work, 10)", "PATIENCE_S"),
        ("subprocess.run(command, timeout=60)", "PATIENCE_S"),
        ("connect(url, open_timeout=20)", "PATIENCE_S"),
        ("pytest.mark.timeout(10)", "PATIENCE_S"),
    ],
)
def test_what_measures_time_is_found_and_what_to_use_is_reported(line: str, told: str) -> None:
    (fault,) = faults(line)
    assert told in fault


@pytest.mark.parametrize(
    "line",
    [
        "asyncio.sleep(0)",
        "process.wait(PATIENCE_S)",
        "', '.join(names)",
        "stream.wait_drained(0)",
        "settings(max_examples=5)",
        "stream.started_at - begun",
    ],
)
def test_what_waits_for_a_condition_is_not_found(line: str) -> None:
    assert list(faults(line)) == []


def test_no_test_measures_time() -> None:
    found = [
        f"{path.relative_to(TESTS)}, {fault}"
        for path in sorted(TESTS.rglob("*.py"))
        if path.relative_to(TESTS).as_posix() not in EXCEPT
        for fault in faults(path.read_text())
    ]
    assert not found, "\n".join(found)


def test_the_exceptions_are_there() -> None:
    assert [name for name in EXCEPT if not (TESTS / name).is_file()] == []


def test_no_example_has_a_deadline(request: pytest.FixtureRequest) -> None:
    """Whatever a test sets for itself; of those that this process has collected."""
    hasty = []
    for item in request.session.items:
        used = getattr(getattr(item, "obj", None), "_hypothesis_internal_use_settings", None)
        if used is not None and (
            used.deadline is not None or HealthCheck.too_slow not in used.suppress_health_check
        ):
            hasty.append(item.nodeid)
    assert hasty == []
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
