"""The Ray engine on a real cluster, with actors that do simple things, or die, or hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray_makers
from ray_cluster import actors, processes
from waiting import PATIENCE_S, in_time, wait_until

from sonant.errors import ClusterUnavailable
from sonant.jobs.entry import Role, Task
from sonant.jobs.faults import Refusal
from sonant.jobs.workers.engines.local import DEPTH, MAX_CRASHES
from sonant.jobs.workers.engines.ray import RayEngine
from sonant.jobs.workers.ray_pool import MAX_FAILED_STARTS, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

ROLE = Role(arn="arn:aws:iam::000000000000:role/sonant", policies=())
MARKER = b"planted: the voice of a customer " * 4096  # 135 kB: more than Ray passes on by itself


def task(task_id, stored_audio=None):
    return Task(task_id=task_id, role=ROLE, audio=(), need_s=1.5, keep_audio=False, stored_audio=stored_audio)


@contextmanager
def engine(cluster, maker, *arguments, time_limit_s=PATIENCE_S, **how):
    built = RayEngine(maker, arguments, Cluster(address=cluster.address, **how), time_limit_s=time_limit_s)
    try:
        yield built
    finally:
        built.close()
        wait_until("actors end with their engine", lambda: not actors())


def run(built, tasks, during=lambda done: None):
    """Give tasks as there is room; what came back, in the order it came."""
    waiting: list[Any] = list(tasks)
    found: list[Any] = []
    total = len(waiting)

    def all_there():
        while waiting and built.free_slots:
            built.submit(waiting.pop(0))
        found.extend(built.results(0.2))
        during(len(found))
        return len(found) == total

    wait_until(lambda: f"{total - len(found)} results", all_there)
    assert built.results(0.2) == []
    return found


def lost_more(built, kills):
    """Whether one more was lost; the engine must go on for that."""
    return built.results(0.1) or built.workers_lost > kills


def extended(found, more):
    """`found` with `more` in it."""
    found.extend(more)
    return found


def squares(found):
    return {task_id: int(heard.sample.vector[0]) for task_id, heard in found}


def workers(found):
    return {int(heard.sample.model_id) for _, heard in found}


def once(action):
    """An action for `during`: happens when a third of 60 is done."""
    happened: list[Any] = []

    def during(done):
        if done >= 20 and not happened:
            happened.append(action())

    return during


def test_every_task_comes_back_once_with_its_own_result_from_all_nodes(cluster):
    with engine(cluster, ray_makers.Squares, 0.01) as built:
        found = run(built, [task(n) for n in range(100)])
        assert len(found) == 100
        assert squares(found) == {n: n * n for n in range(100)}
        assert workers(found) == set(actors())
        assert len(actors()) == 2


def test_it_takes_as_many_tasks_as_the_clusters_actors_can_hold(cluster):
    with engine(cluster, ray_makers.Hanging, 0) as built:
        assert built.free_slots == DEPTH
        built.submit(task(0))
        wait_until(
            "the cluster's size is known", lambda: built.results(0.1) or built.free_slots == 2 * DEPTH - 1
        )
        built.submit(task(1))
        assert built.free_slots == 2 * DEPTH - 2


def test_engine_without_tasks_starts_no_worker(cluster):
    with engine(cluster, ray_makers.Squares) as built:
        assert in_time("no results", lambda: built.results(3600.0)) == []
        assert actors() == []


def test_no_more_actors_than_were_asked_for_and_than_there_is_work(cluster):
    with engine(cluster, ray_makers.Squares, workers=1) as built:
        assert len(workers(run(built, [task(n) for n in range(20)]))) == 1
    with engine(cluster, ray_makers.Squares) as built:
        run(built, [task(0)])
        assert len(actors()) == 1


def test_actors_without_tasks_give_their_cpus_back_and_are_hired_again(cluster):
    with engine(cluster, ray_makers.Squares, idle_s=1.0) as built:
        first = workers(run(built, [task(0)]))
        wait_until("the idle actor ends", lambda: not actors())
        second = workers(run(built, [task(1)]))
        assert first.isdisjoint(second)


def test_discarded_task_gives_no_result_to_a_new_task_of_the_same_id(cluster):
    with engine(cluster, ray_makers.Squares, 0.5) as built:
        run(built, [task(9)])
        for n in range(4):
            built.submit(task(n))
        built.discard()
        found = run(built, [Task(task_id=2, role=ROLE, audio=(), need_s=7.0, keep_audio=False)])
    assert [(task_id, heard.sample.quality.net_speech_s) for task_id, heard in found] == [(2, 7.0)]


def test_actors_that_are_killed_lose_nothing_and_double_nothing(cluster):
    with engine(cluster, ray_makers.Squares, 0.05) as built:
        found = run(built, [task(n) for n in range(60)], once(lambda: os.kill(actors()[0], signal.SIGKILL)))
    assert len(found) == 60
    assert squares(found) == {n: n * n for n in range(60)}
    assert len(workers(found)) == 3


def test_task_that_always_kills_its_actor_is_refused(cluster, tmp_path):
    with engine(cluster, ray_makers.Mortal, str(tmp_path), {2: 10**6, 4: 2}) as built:
        found = dict(run(built, [task(n) for n in range(6)]))
    assert found.pop(2) == Refusal(500, "the recording could not be processed: the worker process died")
    assert squares(found.items()) == {n: n * n for n in (0, 1, 3, 4, 5)}
    assert len(list(tmp_path.glob("2-*"))) == MAX_CRASHES
    assert len(list(tmp_path.glob("4-*"))) == 2


def test_task_that_hangs_is_refused_after_the_time_limit(cluster):
    with engine(cluster, ray_makers.Hanging, 1, time_limit_s=6.0) as built:
        found = dict(run(built, [task(n) for n in range(5)]))
    assert found.pop(1) == Refusal(
        500,
        "the recording could not be processed: the worker process worked on one request for more than 6 s",
    )
    assert squares(found.items()) == {n: n * n for n in (0, 2, 3, 4)}


def test_while_hosts_cannot_do_tasks_they_wait_and_the_engine_says_why(cluster, tmp_path):
    there = tmp_path / "models"
    with engine(cluster, ray_makers.with_models, str(there)) as built:
        built.submit(task(3))
        wait_until("the problem is told", lambda: built.results(1.0) or built.problem)
        assert "on the Ray cluster end (" in built.problem
        assert "voice model speaker-encoder.onnx is missing) before they are ready" in built.problem
        assert built.workers_lost >= MAX_FAILED_STARTS
        there.touch()
        found: list[Any] = []
        wait_until("the task is done", lambda: extended(found, built.results(1.0)))
        assert squares(found) == {3: 9}
        assert built.problem == ""


def test_actors_that_are_killed_before_they_are_ready_cost_no_task(cluster, tmp_path):
    there = tmp_path / "models"
    with engine(cluster, ray_makers.slow_to_begin, str(there), workers=1) as built:
        built.submit(task(3))
        for kills in range(MAX_CRASHES + 1):
            wait_until("an actor begins", lambda: built.results(0.1) or actors())
            for pid in actors():
                os.kill(pid, 9)
            wait_until("it is noticed", partial(lost_more, built, kills))
        there.touch()
        found: list[Any] = []
        wait_until("the task is done", lambda: extended(found, built.results(1.0)))
        assert squares(found) == {3: 9}


def test_a_node_that_joins_gets_actors_while_tasks_run(cluster):
    joined = []
    with engine(cluster, ray_makers.Squares, 0.3) as built:
        found = run(built, [task(n) for n in range(60)], once(lambda: joined.append(cluster.add())))
    assert squares(found) == {n: n * n for n in range(60)}
    assert len(workers(found)) == 3
    cluster.remove(joined[0])


def test_a_node_that_is_killed_loses_nothing_and_doubles_nothing(cluster):
    third = cluster.add()
    with engine(cluster, ray_makers.Squares, 0.2) as built:
        found = run(built, [task(n) for n in range(60)], once(lambda: cluster.kill(third)))
    assert len(found) == 60
    assert squares(found) == {n: n * n for n in range(60)}


def test_a_runner_that_is_killed_takes_its_actors_with_it(cluster):
    with engine(cluster, ray_makers.Squares) as built:
        run(built, [task(0)])
        os.kill(built.driver_pid, signal.SIGKILL)  # the driver, as the kernel's memory killer would
        with pytest.raises(ClusterUnavailable, match="the process that connects to it ended"):
            wait_until("the engine notices", lambda: built.results(1.0))
        wait_until("its actor ends", lambda: not actors())
        assert squares(run(built, [task(3)])) == {3: 9}, "the next task starts it anew"


def test_what_passes_through_ray_is_sealed_in_its_stores_and_files(cluster):
    text = MARKER[:33]
    with engine(cluster, ray_makers.Squares, 1.0) as built:
        for n in range(3):
            built.submit(task(n, stored_audio=MARKER))
        found = built.results(PATIENCE_S)
        while not found:
            found = built.results(1.0)
        # Object stores are memory of the raylets. An actor that is at work shows that the search finds it.
        assert any(_holds(pid, text) for pid in actors())
        assert [pid for pid in processes(b"raylet", b"gcs_server") if _holds(pid, text)] == []
        while len(found) < 3:
            found += built.results(0.2)
    assert [heard.audio for _, heard in found] == [MARKER] * 3
    assert not [path for path in cluster.folder.rglob("*") if path.is_file() and text in path.read_bytes()]


def _holds(pid, text):
    """Whether a text lies in what a process may write to."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            start, end = (int(edge, 16) for edge in place.split("-"))
            if rights.startswith("rw") and end - start < 1 << 30:
                with suppress(OSError):
                    memory.seek(start)
                    if text in memory.read(end - start):
                        return True
    return False


class TestAClusterThatIsAway:
    def test_it_is_said_at_once_when_nothing_listens(self, cluster):
        built = RayEngine(ray_makers.Squares, (), Cluster(address="127.0.0.1:1"), time_limit_s=60)
        built.submit(task(0))
        with pytest.raises(
            ClusterUnavailable, match=r"127\.0\.0\.1:1 cannot be used: .*refused.*ray\.address"
        ):
            wait_until("the engine gives up", lambda: built.results(1.0))
        assert built.free_slots == DEPTH, "nothing is in hand any more"
        built.close()

    def test_tasks_that_find_no_place_are_given_back(self, cluster):
        with engine(cluster, ray_makers.Squares, gpus_per_worker=1.0, workers=1, patience_s=3.0) as built:
            built.submit(task(0))
            with pytest.raises(ClusterUnavailable, match=r"no actor got a place in 3 s; it has 2 CPUs"):
                wait_until("the engine gives up", lambda: built.results(1.0))


def test_no_call_starts_a_cluster_of_its_own(inside, tmp_path):
    code = "from sonant.jobs.workers.ray_driver import load_ray; load_ray().put(1)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "RAY_TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Ray has not been started yet" in done.stderr
    assert not (tmp_path / "ray").exists()
