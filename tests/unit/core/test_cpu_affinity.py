"""CPU affinity: a service keeps its threads on one core, the processes that it starts get all."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from sonant.cpu_affinity import CpuAffinity

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")

PRINT_CORES = "import os; print(*sorted(os.sched_getaffinity(0)))"


@pytest.fixture(autouse=True)
def allowed():
    """The cores of the test's thread, restored after the test."""
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


def in_a_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def cores_of_child():
    return {int(core) for core in subprocess.check_output([sys.executable, "-c", PRINT_CORES]).split()}


def own_cores():
    return os.sched_getaffinity(0)


def test_thread_started_later_stays_on_the_one_core(allowed):
    CpuAffinity().keep_to_one()
    assert len(own_cores()) == 1
    assert own_cores() <= allowed
    assert in_a_thread(own_cores) == own_cores()


def test_process_started_within_all_gets_every_allowed_core(allowed):
    cores = CpuAffinity()
    cores.keep_to_one()
    with cores.all():
        assert cores_of_child() == allowed


def test_thread_returns_to_its_core_after_all():
    cores = CpuAffinity()
    cores.keep_to_one()
    kept = own_cores()
    with pytest.raises(RuntimeError), cores.all():
        raise RuntimeError
    assert own_cores() == kept


def test_other_thread_can_start_a_process_with_all_cores(allowed):
    cores = CpuAffinity()
    cores.keep_to_one()

    def start():
        with cores.all():
            return cores_of_child()

    assert in_a_thread(start) == allowed


def test_cores_taken_away_by_the_operator_are_never_used(allowed):
    one = min(allowed)
    os.sched_setaffinity(0, {one})
    cores = CpuAffinity()
    cores.keep_to_one()
    with cores.all():
        assert own_cores() == cores_of_child() == {one}


def test_release_gives_every_thread_all_cores_again(allowed):
    cores, found = CpuAffinity(), []
    go, waiting = threading.Event(), threading.Event()

    def look():
        waiting.set()
        go.wait()
        found.append(own_cores())

    cores.keep_to_one()
    thread = threading.Thread(target=look)
    thread.start()
    waiting.wait()
    cores.release()
    go.set()
    thread.join()
    assert found == [allowed]
    assert own_cores() == allowed
    assert in_a_thread(own_cores) == allowed


def test_thread_within_all_keeps_its_cores_after_release(allowed):
    cores = CpuAffinity()
    cores.keep_to_one()
    with cores.all():
        cores.release()
    assert own_cores() == allowed


def test_affinity_is_unchanged_without_keep_to_one(allowed):
    with CpuAffinity().all():
        assert own_cores() == allowed
    assert own_cores() == allowed


def test_system_without_affinity_is_left_alone(monkeypatch, allowed):
    monkeypatch.delattr(os, "sched_getaffinity")
    cores = CpuAffinity()
    cores.keep_to_one()
    with cores.all():
        pass
    monkeypatch.undo()
    assert own_cores() == allowed
