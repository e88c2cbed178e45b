"""The worker pool of live calls: priorities, and a result for every task."""

from __future__ import annotations

import os
import signal

import engine_parts
import pytest
from waiting import PATIENCE_S, wait_until

from sonant.jobs.entry import Role, Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.workers.engines import local
from sonant.jobs.workers.engines.local import MAX_FAILED_STARTS, LocalEngine
from sonant.sessions import worker_pool
from sonant.sessions.worker_pool import Priority, WorkerPool

AUTHENTICATION, FRAUD, ENROLLMENT = Priority


class Results:
    """Results in the order in which they came."""

    def __init__(self):
        self.found = []

    def __call__(self, result):
        self.found.append(result.sample.model_id if isinstance(result, TaskResult) else result)

    def first(self, count):
        """Wait until there are so many results."""
        wait_until(lambda: f"{count} results, not {self.found}", lambda: len(self.found) >= count)
        return self.found


class Gates:
    """Files that the tasks of `engine_parts.answer` wait for."""

    def __init__(self, folder):
        self.folder = str(folder)
        self._folder = folder

    def wait_running(self, mark):
        wait_until(f"{mark} runs", (self._folder / f"{mark}.running").exists)

    def open(self, *marks):
        for mark in marks:
            (self._folder / f"{mark}.open").touch()


@pytest.fixture
def gates(tmp_path):
    return Gates(tmp_path)


def task(mark):
    role = Role(arn="", policies=())
    return Task(task_id=0, role=role, audio=(), need_s=0.0, keep_audio=False, model_id=mark)


@pytest.fixture
def pool_of():
    made = []

    def make(main, *arguments, workers=1, engine=None):
        engine = engine or LocalEngine(main, arguments, workers=workers, time_limit_s=PATIENCE_S)
        made.append(WorkerPool(engine, workers))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def test_no_worker_runs_before_warm(pool_of):
    pool = pool_of(engine_parts.answer, workers=2)
    assert pool.pids() == []
    pool.warm()
    wait_until("its workers start", lambda: len(pool.pids()) == 2)


def test_higher_priority_goes_first(pool_of, gates):
    # Given: a worker that is busy
    pool, results = pool_of(engine_parts.answer, gates.folder), Results()
    pool.submit(task("first"), AUTHENTICATION, results)
    gates.wait_running("first")

    # When: the rest comes in the wrong order
    for mark, priority in (("enroll", ENROLLMENT), ("fraud", FRAUD), ("who", AUTHENTICATION)):
        pool.submit(task(mark), priority, results)

    # Then
    gates.open("enroll", "fraud", "who", "first")
    assert results.first(4) == ["first", "who", "fraud", "enroll"]


def test_long_tasks_leave_a_worker_to_authentication(pool_of, gates):
    pool, slow, quick = pool_of(engine_parts.answer, gates.folder, workers=2), Results(), Results()
    gates.open("warm", "who")
    pool.submit(task("warm"), AUTHENTICATION, quick)
    quick.first(1)
    marks = [f"fraud-{number}" for number in range(4)]
    for mark in marks:
        pool.submit(task(mark), FRAUD, slow)
    gates.wait_running("fraud-0")

    pool.submit(task("who"), AUTHENTICATION, quick)

    quick.first(2)
    assert slow.found == [], "authentication waited behind fraud detection"
    gates.open(*marks)
    slow.first(4)


def test_killed_worker_is_replaced_and_its_task_done(pool_of, gates):
    pool, results = pool_of(engine_parts.answer, gates.folder), Results()
    gates.open("first")
    pool.submit(task("first"), AUTHENTICATION, results)
    results.first(1)
    pool.submit(task("second"), AUTHENTICATION, results)
    gates.wait_running("second")

    os.kill(pool.pids()[0], signal.SIGKILL)

    gates.open("second")
    assert results.first(2) == ["first", "second"]


def test_tasks_are_refused_when_no_worker_becomes_ready(pool_of, monkeypatch):
    monkeypatch.setattr(worker_pool, "MAX_WAIT_S", 0.0)
    monkeypatch.setattr(worker_pool, "POLL_S", 0.1)
    pool, results = pool_of(engine_parts.never_ready), Results()
    for mark in ("running", "waiting"):
        pool.submit(task(mark), AUTHENTICATION, results)
    for refusal in results.first(2):
        assert refusal.code == 500
        assert "sonant doctor" in refusal.message
    assert pool.lost >= MAX_FAILED_STARTS


@pytest.mark.slow
def test_tasks_wait_while_workers_die_before_they_are_ready(pool_of, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "PAUSE_MOST_S", 0.01)
    monkeypatch.setattr(worker_pool, "POLL_S", 0.1)
    may_be_ready = tmp_path / "models"
    pool, results = pool_of(engine_parts.die_unless, str(may_be_ready)), Results()
    pool.submit(task("who"), AUTHENTICATION, results)
    wait_until("workers end", lambda: pool.lost > MAX_FAILED_STARTS)
    assert results.found == []
    may_be_ready.touch()
    assert results.first(1) == ["who"]


def test_pool_survives_an_engine_that_fails_while_it_is_repaired(pool_of, monkeypatch):
    monkeypatch.setattr(worker_pool, "PAUSE_LEAST_S", 0.01)
    engine = LocalEngine(engine_parts.answer, (), workers=1, time_limit_s=PATIENCE_S)
    left = {"warm": 2, "discard": 1}

    def breaking(name, real):
        def step():
            if left[name]:
                left[name] -= 1
                raise OSError(24, "Too many open files")
            real()

        return step

    for name in left:
        monkeypatch.setattr(engine, name, breaking(name, getattr(engine, name)))
    pool, results = pool_of(None, engine=engine), Results()
    pool.submit(task("who"), AUTHENTICATION, results)
    assert results.first(1) == ["who"]


def test_a_closed_pool_results_everything_that_it_has_not_done(pool_of, gates):
    pool, results = pool_of(engine_parts.answer, gates.folder), Results()
    for number in range(3):
        pool.submit(task(str(number)), FRAUD, results)
    gates.wait_running("0")
    pool.close()
    pool.submit(task("late"), FRAUD, results)
    assert results.first(4) == [Refusal(500, "the service stopped")] * 4


def test_failing_callback_affects_no_other(pool_of, caplog):
    pool, results = pool_of(engine_parts.answer), Results()

    def broken(_result):
        raise RuntimeError("a bug")

    pool.submit(task("one"), AUTHENTICATION, broken)
    pool.submit(task("two"), AUTHENTICATION, results)
    assert results.first(1) == ["two"]
    assert "a result could not be delivered" in caplog.text
