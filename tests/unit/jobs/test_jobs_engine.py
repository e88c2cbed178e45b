"""The local engine with real worker processes that do simple things, or die, or hang."""

import os
import random
import resource
import signal
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import engine_mains
import pytest
from waiting import PATIENCE_S, alive, in_time, wait_until

from sonant.jobs.entry import Role, Task
from sonant.jobs.faults import Refusal
from sonant.jobs.manifest import AudioFile
from sonant.jobs.workers.engines import local
from sonant.jobs.workers.engines.local import DEPTH, MAX_CRASHES, MAX_FAILED_STARTS, LocalEngine
from sonant.jobs.workers.process import serve_tasks
from sonant.settings import Audio
from sonant.voice.models import load_models

ROLE = Role(arn="arn:aws:iam::000000000000:role/sonant", policies=())


def task(task_id, name="a.wav"):
    audio = (AudioFile(s3_uri=f"s3://calls/{name}", channel=0),)
    return Task(task_id=task_id, role=ROLE, audio=audio, need_s=1.5, keep_audio=False)


@contextmanager
def engine(main, *arguments, workers=2, time_limit_s=PATIENCE_S, message_most=1):
    built = LocalEngine(
        main, arguments, workers=workers, time_limit_s=time_limit_s, message_most=message_most
    )
    try:
        yield built
    finally:
        built.close()


def run(built, tasks, more=0):
    """Give tasks as there is room; what came back, in the order it came, with `more` given before."""
    waiting: list[Any] = list(tasks)
    found: list[Any] = []
    total = len(waiting) + more

    def all_there():
        while waiting and built.free_slots:
            built.submit(waiting.pop(0))
        found.extend(built.results(0.2))
        return len(found) == total

    wait_until(lambda: f"{total - len(found)} results", all_there)
    return found


def squares(found):
    return {task_id: int(heard.sample.vector[0]) for task_id, heard in found}


def test_every_task_comes_back_once_with_its_own_result_from_all_workers():
    with engine(engine_mains.answer) as built:
        found = run(built, [task(n) for n in range(200)])
        assert len(found) == 200
        assert squares(found) == {n: n * n for n in range(200)}
        assert {int(heard.sample.model_id) for _, heard in found} <= set(built.pids())


def test_it_takes_as_many_tasks_as_its_workers_can_hold():
    with engine(engine_mains.hang, 0, workers=2) as built:
        assert built.free_slots == 2 * DEPTH
        for n in range(2 * DEPTH):
            built.submit(task(n))
            assert built.free_slots == 2 * DEPTH - n - 1


def test_without_tasks_there_is_no_process_and_nothing_to_wait_for():
    with engine(engine_mains.answer) as built:
        assert in_time("no results", lambda: built.results(3600.0)) == []
        assert built.pids() == []


def test_workers_that_die_at_random_lose_nothing_and_double_nothing(tmp_path):
    chance = random.Random(4)
    deaths = {n: chance.choice([0, 0, 0, 1, 2]) for n in range(16)}
    assert sum(deaths.values()) >= 5
    with engine(engine_mains.die_often, str(tmp_path), deaths) as built:
        found = run(built, [task(n) for n in range(16)])
    assert sorted(task_id for task_id, _ in found) == list(range(16))
    assert squares(found) == {n: n * n for n in range(16)}
    assert len(list(tmp_path.iterdir())) == sum(deaths.values())


def test_task_that_always_kills_its_worker_is_refused(tmp_path):
    with engine(engine_mains.die_often, str(tmp_path), {2: 10**6}) as built:
        found = dict(run(built, [task(n) for n in range(6)]))
    assert found.pop(2) == Refusal(500, "the recording could not be processed: the worker process died")
    assert squares(found.items()) == {n: n * n for n in (0, 1, 3, 4, 5)}
    assert len(list(tmp_path.iterdir())) == MAX_CRASHES


def test_quick_tasks_are_sent_several_in_a_message():
    """The workers here say that they take no time."""
    with engine(engine_mains.answer, message_most=8) as built:
        assert built.capacity == 2 * DEPTH
        assert squares(run(built, [task(n) for n in range(100)])) == {n: n * n for n in range(100)}
        assert built.capacity == 2 * DEPTH * 8
        built.submit_all([task(n) for n in range(20)])
        assert built.free_slots == 2 * DEPTH * 8 - 20
        assert squares(run(built, [], more=20)) == {n: n * n for n in range(20)}


def test_tasks_that_killed_a_worker_together_are_sent_alone(tmp_path):
    with engine(engine_mains.die_often, str(tmp_path), {45: 10**6}, message_most=8) as built:
        found = dict(run(built, [task(n) for n in range(60)]))
    assert found.pop(45) == Refusal(500, "the recording could not be processed: the worker process died")
    assert squares(found.items()) == {n: n * n for n in range(60) if n != 45}
    assert len(list(tmp_path.iterdir())) in (MAX_CRASHES, MAX_CRASHES + 1), "only its own deaths count"


def test_task_that_hangs_is_refused_after_the_time_limit(monkeypatch):
    passed_s, found = 0.0, {}
    monkeypatch.setattr(local, "time", SimpleNamespace(monotonic=lambda: passed_s))
    with engine(engine_mains.hang, 1, time_limit_s=4.0) as built:

        def stuck():
            return next(worker for worker in built.states() if worker.task_ids[:1] == (1,))

        def only_it_is_left():
            found.update(built.results(0.2))
            return stuck().ready and built.free_slots == 2 * DEPTH - len(stuck().task_ids)

        for n in (1, 2, 3):
            built.submit(task(n))
        wait_until("it is at work and the others are done", only_it_is_left)
        passed_s = 4.1
        found |= dict(run(built, [task(n) for n in (4, 5)], more=len(stuck().task_ids)))
    assert found.pop(1) == Refusal(
        500,
        "the recording could not be processed: the worker process worked on one request for more than 4 s",
    )
    assert squares(found.items()) == {n: n * n for n in (2, 3, 4, 5)}


def test_close_leaves_no_process_even_when_one_hangs():
    with engine(engine_mains.hang, 0, workers=2) as built:
        built.submit(task(0))
        built.submit(task(1))
        pids = built.pids()
        assert len(pids) == 2
        assert all(map(alive, pids))
    assert built.pids() == []
    assert not any(map(alive, pids))


def test_discard_forgets_what_is_in_hand_and_keeps_idle_workers():
    with engine(engine_mains.hang, 1, workers=1) as built:
        run(built, [task(0)])
        (idle,) = built.pids()
        built.discard()
        assert built.pids() == [idle]
        built.submit(task(1))
        built.submit(task(2))
        built.discard()
        assert built.pids() == []
        assert not alive(idle)
        assert built.free_slots == DEPTH
        assert squares(run(built, [task(3)])) == {3: 9}


@pytest.mark.slow
def test_a_crash_count_does_not_outlive_its_job(tmp_path):
    with engine(engine_mains.die_often, str(tmp_path), {0: 2 * (MAX_CRASHES - 2)}, workers=1) as built:
        built.submit(task(0))

        def has_died():
            assert built.results(0.1) == []
            return len(list(tmp_path.iterdir())) >= MAX_CRASHES - 2

        wait_until("the worker has died", has_died)
        built.discard()
        assert squares(run(built, [task(0)])) == {0: 0}


@pytest.fixture
def listening():
    with engine(serve_tasks, engine_mains.fetch, load_models, (), Audio(), workers=1) as built:
        yield built


def test_unforeseen_fault_refuses_its_own_request_without_details(listening):
    found = dict(run(listening, [task(0, "gone"), task(1, "odd"), task(2, "gone")]))
    assert found == {
        0: Refusal(404, "s3://calls/gone: there is no such object"),
        1: Refusal(500, "internal failure while the recording was processed; see the service's log"),
        2: Refusal(404, "s3://calls/gone: there is no such object"),
    }
    assert len(listening.pids()) == 1


def test_the_worker_ends_with_the_process_that_gave_it_work():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        built = LocalEngine(engine_mains.hang, (0,), workers=2, time_limit_s=PATIENCE_S)
        built.submit(task(1))
        built.submit(task(2))
        while len(built.results(0.2)) == 0:
            pass
        os.write(write, " ".join(map(str, built.pids())).encode())
        signal.pause()
        os._exit(1)
    try:
        pids = [int(pid) for pid in os.read(read, 100).split()]
        assert pids
        assert all(map(alive, pids))
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
    wait_until("the workers end with the runner", lambda: not any(map(alive, pids)))


@pytest.fixture
def quick(monkeypatch):
    """Short pauses between workers that do not get ready."""
    monkeypatch.setattr(local, "PAUSE_LEAST_S", 0.001)
    monkeypatch.setattr(local, "PAUSE_MOST_S", 0.002)


def until(condition, built):
    """Let the engine go on; nothing may come of it until the condition holds."""

    def held():
        assert built.results(0.1) == []
        return condition()

    wait_until("the engine gets there", held)


def test_tasks_wait_while_no_worker_is_ready_and_the_problem_is_named(tmp_path, quick):
    may_be_ready = tmp_path / "models"
    with engine(engine_mains.die_unless, str(may_be_ready), workers=1) as built:
        tasks = [task(0), task(1)]
        for one in tasks:
            built.submit(one)
        until(lambda: built.workers_lost > MAX_FAILED_STARTS, built)
        assert built.problem == (
            "recordings cannot be processed: worker processes end with code 1 before they are ready; "
            "run `sonant doctor` and see the service's log"
        )
        may_be_ready.touch()
        assert squares(run(built, [task(2)], more=2)) == {0: 0, 1: 1, 2: 4}
        assert built.problem == ""


def test_one_worker_that_dies_before_it_is_ready_costs_nothing(tmp_path):
    with engine(engine_mains.die_unready_once, str(tmp_path), workers=1) as built:
        assert squares(run(built, [task(n) for n in range(3)])) == {n: n * n for n in range(3)}
        assert (built.workers_lost, built.problem) == (1, "")


def test_worker_that_hangs_before_it_is_ready_is_replaced(tmp_path, quick):
    may_be_ready = tmp_path / "models"
    with engine(engine_mains.hang_unless, str(may_be_ready), workers=1, time_limit_s=0.5) as built:
        built.submit(task(3))
        until(lambda: built.workers_lost >= MAX_FAILED_STARTS, built)
        assert "worker processes hang for 0 s before they are ready" in built.problem
        built.time_limit_s = PATIENCE_S
        may_be_ready.touch()
        assert squares(run(built, [], more=1)) == {3: 9}


@pytest.mark.slow
def test_workers_killed_before_they_are_ready_cost_no_task_however_often(tmp_path, quick):
    may_be_ready = tmp_path / "models"
    with engine(engine_mains.hang_unless, str(may_be_ready), workers=2) as built:
        tasks = [task(n) for n in range(2 * DEPTH)]
        for one in tasks:
            built.submit(one)
        for kills in range(2 * DEPTH * MAX_CRASHES):
            for pid in built.pids()[:1]:
                os.kill(pid, 9)
            until(lambda kills=kills: built.workers_lost > kills and built.pids(), built)
        may_be_ready.touch()
        for pid in built.pids():
            os.kill(pid, 9)
        assert squares(run(built, [], more=len(tasks))) == {n: n * n for n in range(2 * DEPTH)}


def test_workers_that_cannot_be_started_cost_no_task(quick):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with engine(engine_mains.answer, workers=1) as built:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            built.submit(task(5))
            until(lambda: built.workers_lost > MAX_CRASHES, built)
            assert "worker processes cannot be started: " in built.problem
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert squares(run(built, [], more=1)) == {5: 25}
        assert built.problem == ""


def test_while_nothing_can_be_started_nothing_is_done_in_a_hurry(monkeypatch):
    monkeypatch.setattr(local, "PAUSE_LEAST_S", 60.0)
    monkeypatch.setattr(local, "PAUSE_MOST_S", 60.0)
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with engine(engine_mains.answer, workers=1) as built:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            built.submit(task(0))
            assert built.results(0.25) == []
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert waits == [0.25], "it waits as long as it may"
        assert built.workers_lost == 1


def test_one_worker_that_is_ready_is_no_problem(tmp_path, quick):
    with engine(engine_mains.one_ready, str(tmp_path / "claimed"), workers=2) as built:
        until(lambda: built.warm() or built.workers_lost >= MAX_FAILED_STARTS, built)
        assert built.problem == ""
        assert squares(run(built, [task(n) for n in range(4)])) == {n: n * n for n in range(4)}
