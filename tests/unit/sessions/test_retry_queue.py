"""The queue of database work, stepped with a clock moved by hand: order, repetition, the periodic task."""

from __future__ import annotations

import threading

import pytest
from manual_clock import ManualClock
from sqlalchemy.exc import OperationalError
from waiting import PATIENCE_S

from sonant.errors import DatabaseUnavailable, KeysUnreachable
from sonant.sessions.retry_queue import ATTEMPTS, PERIODIC_GAP_S, RETRY_FIRST_S, RetryQueue

DISK_ERROR = OperationalError("SELECT", {}, Exception("disk I/O error"))


class Work:
    """A task that fails so many times."""

    def __init__(self, failures=0, fault=DISK_ERROR):
        self.failures, self.fault = failures, fault
        self.runs, self.given_up = 0, 0
        self.done = threading.Event()

    def __call__(self):
        self.runs += 1
        if self.runs <= self.failures:
            raise self.fault
        self.done.set()

    def give_up(self):
        self.given_up += 1


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def queue(clock):
    """A queue without a thread: the test runs what is due."""
    return RetryQueue("test", monotonic=clock)


def put(queue, work, name="a task"):
    queue.put(name, work, work.give_up)


def test_tasks_run_in_order(queue):
    order: list[int] = []
    for number in range(20):
        queue.put("one", lambda number=number: order.append(number), pytest.fail)
    queue.run_due()
    assert order == list(range(20))


@pytest.mark.parametrize("fault", [DISK_ERROR, DatabaseUnavailable("restarted"), KeysUnreachable("away")])
def test_failing_task_is_repeated_and_blocks_no_other(queue, clock, fault):
    weak, strong = Work(3, fault), Work()
    put(queue, weak)
    put(queue, strong)

    queue.run_due()
    assert strong.done.is_set()
    assert weak.runs == 1

    for _ in range(3):
        clock.advance(RETRY_FIRST_S * 2**ATTEMPTS)
        queue.run_due()
    assert weak.done.is_set()
    assert (weak.runs, weak.given_up) == (4, 0)


def test_task_is_not_repeated_before_its_pause_is_over(queue, clock):
    work = Work(1)
    put(queue, work)
    queue.run_due()
    clock.advance(RETRY_FIRST_S / 2 - 0.001)  # the shortest pause is half of the longest
    queue.run_due()
    assert work.runs == 1
    clock.advance(RETRY_FIRST_S / 2 + 0.001)
    queue.run_due()
    assert work.runs == 2


def test_pauses_outlast_a_failure_of_six_seconds(queue, clock):
    work = Work(failures=1000)
    put(queue, work)
    while not work.given_up:
        queue.run_due()
        clock.advance(0.01)
    assert clock.now_s > 6


def test_task_that_fails_for_good_is_given_up_once(queue, clock, caplog):
    work = Work(failures=1000)
    put(queue, work, "analyzed speech")
    for _ in range(2 * ATTEMPTS):
        queue.run_due()
        clock.advance(60)
    assert (work.runs, work.given_up) == (ATTEMPTS, 1)
    assert "analyzed speech: the database cannot be used: disk I/O error; given up" in caplog.text


def test_internal_failure_is_not_repeated(queue, clock):
    work = Work(failures=1, fault=RuntimeError())
    put(queue, work)
    for _ in range(2):
        queue.run_due()
        clock.advance(60)
    assert (work.runs, work.given_up) == (1, 1)


def test_periodic_task_runs_once_for_many_requests(clock):
    runs: list[float] = []
    queue = RetryQueue("test", lambda: runs.append(clock.now_s), monotonic=clock)
    for _ in range(50):
        queue.schedule_periodic()
        queue.run_due()
    assert runs == [0.0]
    clock.advance(PERIODIC_GAP_S)
    queue.run_due()
    assert runs == [0.0, PERIODIC_GAP_S]
    clock.advance(60)
    queue.run_due()
    assert len(runs) == 2, "nothing asked for another"


def test_periodic_task_that_fails_runs_again(clock):
    runs: list[float] = []

    def fail():
        runs.append(clock.now_s)
        failing.schedule_periodic(1.0)
        raise DISK_ERROR

    failing = RetryQueue("test", fail, monotonic=clock)
    failing.schedule_periodic()
    for _ in range(3):
        failing.run_due()
        clock.advance(1.0)
    assert runs == [0.0, 1.0, 2.0]


def test_thread_runs_tasks_and_their_repetitions():
    queue, work = RetryQueue("test"), Work(1)
    queue.start()
    put(queue, work)
    assert work.done.wait(PATIENCE_S)
    queue.close(PATIENCE_S)


def test_close_runs_what_was_put_before_and_repeats_nothing(clock):
    queue, last, failing = RetryQueue("test", monotonic=clock), Work(), Work(1000)
    put(queue, failing)
    queue.run_due()
    put(queue, last)
    queue.close(0.0)
    queue.run_due()
    assert last.done.is_set()
    assert (failing.runs, failing.given_up) == (2, 1)


def test_close_ends_the_thread():
    queue, work = RetryQueue("test"), Work()
    queue.start()
    put(queue, work)
    queue.close(PATIENCE_S)
    assert work.done.is_set()
