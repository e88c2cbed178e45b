"""Database work of calls in its thread: in order, again when the database fails, never in anybody's way."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy.exc import OperationalError
from waiting import PATIENCE_S, wait_until

from sonant.errors import DatabaseUnavailable, KeysUnreachable
from sonant.sessions import retry_queue as live_errands
from sonant.sessions.retry_queue import ATTEMPTS, RetryQueue


class Database:
    """Fails so many times."""

    def __init__(self, failures=0, fault=None):
        self.failures, self.asked = failures, 0
        self.fault = fault or OperationalError("SELECT", {}, Exception("disk I/O error"))
        self.done, self.given_up = threading.Event(), threading.Event()

    def __call__(self):
        self.asked += 1
        if self.asked <= self.failures:
            raise self.fault
        self.done.set()


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setattr(live_errands, "RETRY_FIRST_S", 0.01)
    made = []

    def build(turn=None):
        made.append(RetryQueue("test", turn))
        return made[-1]

    yield build
    for one in made:
        one.close(PATIENCE_S)


def test_errands_are_run_in_order(make):
    errands, found, end = make(), [], threading.Event()
    for number in range(20):
        errands.put("one", lambda number=number: found.append(number), end.set)
    errands.put("last", end.set, end.set)
    assert end.wait(PATIENCE_S)
    assert found == list(range(20))


@pytest.mark.parametrize("fault", [None, DatabaseUnavailable("restarted"), KeysUnreachable("away")])
def test_what_fails_is_tried_again_while_others_go_ahead(make, fault):
    errands, weak, strong = make(), Database(3, fault), Database()
    errands.put("weak", weak, weak.given_up.set)
    errands.put("strong", strong, strong.given_up.set)

    assert strong.done.wait(PATIENCE_S)
    assert not weak.done.is_set()
    assert weak.done.wait(PATIENCE_S)
    assert weak.asked == 4
    assert not weak.given_up.is_set()


def test_what_fails_for_good_is_given_up_once(make, caplog):
    errands, database = make(), Database(failures=1000)
    errands.put("a hearing", database, database.given_up.set)
    assert database.given_up.wait(PATIENCE_S)
    assert database.asked == ATTEMPTS
    assert "a hearing: the database cannot be used: disk I/O error; given up" in caplog.text


def test_a_fault_of_ours_is_not_tried_again(make):
    errands, asked, given_up = make(), [], threading.Event()

    def broken():
        asked.append(1)
        raise RuntimeError

    errands.put("broken", broken, given_up.set)
    assert given_up.wait(PATIENCE_S)
    assert asked == [1]


def test_a_turn_is_done_when_it_is_asked_for_and_once_for_many_askings(make, monkeypatch):
    monkeypatch.setattr(live_errands, "TURN_LEAST_S", 3600.0)
    turns, end = [], threading.Event()
    errands = make(lambda: turns.append(1))
    for _ in range(50):
        errands.hurry()
    wait_until("a turn", lambda: turns)
    errands.hurry()
    errands.put("end", end.set, end.set)
    assert end.wait(PATIENCE_S)
    assert turns == [1]


def test_a_turn_that_fails_comes_again(make):
    turns, twice = [], threading.Event()

    def turn():
        turns.append(1)
        errands.again(0.01)
        if len(turns) == 2:
            twice.set()
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    errands = make(turn)
    errands.hurry()
    assert twice.wait(PATIENCE_S)


def test_closing_does_what_was_put_before(make):
    errands, database = make(), Database()
    errands.put("last", database, database.given_up.set)
    errands.close(PATIENCE_S)
    assert database.done.is_set()
