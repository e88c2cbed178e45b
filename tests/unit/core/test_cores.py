"""Cores: a service keeps its threads on one, the processes that it starts get all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from sonant.cpu_affinity import CpuAffinity

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")

ASK = "import os; print(*sorted(os.sched_getaffinity(0)))"


@pytest.fixture(autouse=True)
def given():
    """The cores of the test's thread, which it gets back."""
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


def in_a_thread(function):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(function()))
    thread.start()
    thread.join()
    return answers[0]


def of_a_child():
    return {int(core) for core in subprocess.check_output([sys.executable, "-c", ASK]).split()}


def here():
    return os.sched_getaffinity(0)


def test_a_thread_started_later_stays_on_the_one_core(given):
    CpuAffinity().keep_to_one()
    assert len(here()) == 1
    assert here() <= given
    assert in_a_thread(here) == here()


def test_a_process_started_within_all_gets_every_core_that_was_given(given):
    cores = CpuAffinity()
    cores.keep_to_one()
    with cores.all():
        assert of_a_child() == given


def test_afterwards_the_thread_is_where_it_was():
    cores = CpuAffinity()
    cores.keep_to_one()
    kept = here()
    with pytest.raises(RuntimeError), cores.all():
        raise RuntimeError
    assert here() == kept


def test_another_thread_of_the_process_can_start_one_too(given):
    cores = CpuAffinity()
    cores.keep_to_one()

    def start():
        with cores.all():
            return of_a_child()

    assert in_a_thread(start) == given


def test_cores_that_the_operator_took_away_are_never_used(given):
    one = min(given)
    os.sched_setaffinity(0, {one})
    cores = CpuAffinity()
    cores.keep_to_one()
    with cores.all():
        assert here() == of_a_child() == {one}


def test_nothing_changes_unless_it_is_asked_for(given):
    with CpuAffinity().all():
        assert here() == given
    assert here() == given


def test_a_system_without_affinity_is_left_alone(monkeypatch, given):
    monkeypatch.delattr(os, "sched_getaffinity")
    cores = CpuAffinity()
    cores.keep_to_one()
    with cores.all():
        pass
    monkeypatch.undo()
    assert here() == given
