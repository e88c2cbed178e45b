"""The worker pool of calls: what is urgent first, and an answer to everything."""

from __future__ import annotations

import os
import signal

import engine_parts
import pytest
from waiting import PATIENCE_S, wait_until

from sonant.cpu_affinity import CpuAffinity
from sonant.jobs.entry import Role, Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.workers import local
from sonant.jobs.workers.local import MAX_STILLBORN, LocalEngine
from sonant.sessions import worker_pool as live_pool
from sonant.sessions.worker_pool import Pool, Urgency

AUTHENTICATION, FRAUD, ENROLLMENT = Urgency


class Answers:
    """What came back, in order; may be waited for."""

    def __init__(self):
        self.found = []

    def __call__(self, result):
        self.found.append(result.sample.model_id if isinstance(result, TaskResult) else result)

    def first(self, count):
        """As soon as there are so many."""
        wait_until(lambda: f"{count} answers, not {self.found}", lambda: len(self.found) >= count)
        return self.found


class Gates:
    """What the tasks of `engine_parts.answer` wait for."""

    def __init__(self, folder):
        self.folder = str(folder)
        self._folder = folder

    def begun(self, mark):
        wait_until(f"{mark} is begun", (self._folder / f"{mark}.begun").exists)

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

    def make(main, *arguments, workers=1):
        engine = LocalEngine(main, arguments, workers=workers, time_limit_s=PATIENCE_S)
        made.append(Pool(engine, workers, CpuAffinity()))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def test_nothing_runs_before_it_is_warmed(pool_of):
    pool = pool_of(engine_parts.answer, workers=2)
    assert pool.pids() == []
    pool.warm()
    wait_until("its workers start", lambda: len(pool.pids()) == 2)


def test_what_is_urgent_goes_first(pool_of, gates):
    # Given: a worker that has something in hand
    pool, answers = pool_of(engine_parts.answer, gates.folder), Answers()
    pool.submit(task("first"), AUTHENTICATION, answers)
    gates.begun("first")

    # When: the rest comes in the wrong order
    for mark, urgency in (("enroll", ENROLLMENT), ("fraud", FRAUD), ("who", AUTHENTICATION)):
        pool.submit(task(mark), urgency, answers)

    # Then
    gates.open("enroll", "fraud", "who", "first")
    assert answers.first(4) == ["first", "who", "fraud", "enroll"]


def test_long_tasks_leave_a_worker_to_authentication(pool_of, gates):
    pool, slow, quick = pool_of(engine_parts.answer, gates.folder, workers=2), Answers(), Answers()
    gates.open("warm", "who")
    pool.submit(task("warm"), AUTHENTICATION, quick)
    quick.first(1)
    marks = [f"fraud-{number}" for number in range(4)]
    for mark in marks:
        pool.submit(task(mark), FRAUD, slow)
    gates.begun("fraud-0")

    pool.submit(task("who"), AUTHENTICATION, quick)

    quick.first(2)
    assert slow.found == [], "authentication waited behind fraud detection"
    gates.open(*marks)
    slow.first(4)


def test_a_killed_worker_is_replaced_and_its_task_done(pool_of, gates):
    pool, answers = pool_of(engine_parts.answer, gates.folder), Answers()
    gates.open("first")
    pool.submit(task("first"), AUTHENTICATION, answers)
    answers.first(1)
    pool.submit(task("second"), AUTHENTICATION, answers)
    gates.begun("second")

    os.kill(pool.pids()[0], signal.SIGKILL)

    gates.open("second")
    assert answers.first(2) == ["first", "second"]


def test_workers_that_never_get_ready_are_given_up_with_a_reason(pool_of, monkeypatch):
    monkeypatch.setattr(live_pool, "PATIENCE_S", 0.0)
    monkeypatch.setattr(live_pool, "LOOK_S", 0.1)
    pool, answers = pool_of(engine_parts.never_ready), Answers()
    for mark in ("in hand", "waits"):
        pool.submit(task(mark), AUTHENTICATION, answers)
    for refusal in answers.first(2):
        assert refusal.code == 500
        assert "sonant doctor" in refusal.message
    assert pool.lost >= MAX_STILLBORN


def test_tasks_wait_for_workers_that_are_killed_before_they_are_ready(pool_of, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "PAUSE_MOST_S", 0.01)
    monkeypatch.setattr(live_pool, "LOOK_S", 0.1)
    may_be_ready = tmp_path / "models"
    pool, answers = pool_of(engine_parts.die_unless, str(may_be_ready)), Answers()
    pool.submit(task("who"), AUTHENTICATION, answers)
    wait_until("workers end", lambda: pool.lost > MAX_STILLBORN)
    assert answers.found == []
    may_be_ready.touch()
    assert answers.first(1) == ["who"]


def test_a_pool_whose_engine_fails_in_its_own_repair_goes_on(pool_of, monkeypatch):
    monkeypatch.setattr(live_pool, "PAUSE_S", 0.01)
    pool, answers = pool_of(engine_parts.answer), Answers()
    engine, left = pool._engine, {"warm": 2, "discard": 1}

    def breaking(name, real):
        def step():
            if left[name]:
                left[name] -= 1
                raise OSError(24, "Too many open files")
            real()

        return step

    for name in left:
        monkeypatch.setattr(engine, name, breaking(name, getattr(engine, name)))
    pool.submit(task("who"), AUTHENTICATION, answers)
    assert answers.first(1) == ["who"]


def test_a_closed_pool_answers_everything_that_it_has_not_done(pool_of, gates):
    pool, answers = pool_of(engine_parts.answer, gates.folder), Answers()
    for number in range(3):
        pool.submit(task(str(number)), FRAUD, answers)
    gates.begun("0")
    pool.close()
    pool.submit(task("late"), FRAUD, answers)
    assert answers.first(4) == [Refusal(500, "the service stopped")] * 4


def test_an_answer_that_cannot_be_taken_hurts_no_other(pool_of, caplog):
    pool, answers = pool_of(engine_parts.answer), Answers()

    def broken(_result):
        raise RuntimeError("taken badly")

    pool.submit(task("one"), AUTHENTICATION, broken)
    pool.submit(task("two"), AUTHENTICATION, answers)
    assert answers.first(1) == ["two"]
    assert "a result could not be taken" in caplog.text
