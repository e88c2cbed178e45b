"""Threads: none ends unseen by a fault, and none is started any other way."""

from __future__ import annotations

import ast
import threading
from pathlib import Path

import pytest

import sonant
from sonant import threads
from sonant.threads import Backoff, start_loop, start_once

PATIENCE_S = 30.0
SOURCES = sorted(Path(sonant.__file__).parent.rglob("*.py"))
#: What starts a thread, by the name it is called with.
STARTERS = {"Thread", "Timer", "start_new_thread", "start_joinable_thread"}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(threads, "PAUSE_LEAST_S", 0.001)
    monkeypatch.setattr(threads, "PAUSE_MOST_S", 0.002)


@pytest.mark.parametrize(
    "fault", [OSError(24, "Too many open files"), RuntimeError("odd"), MemoryError(), KeyError("x")]
)
def test_a_loop_that_fails_is_told_and_goes_on(fault, quick, caplog):
    turns, done = [], threading.Event()

    def work():
        turns.append(1)
        if len(turns) < 3:
            raise fault
        done.set()

    thread = start_loop(work, "the work")
    assert done.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "a loop that returns has come to its end"
    assert len(turns) == 3
    assert caplog.text.count("the thread 'the work' failed; it goes on in") == 2


def test_work_done_once_that_fails_tells_who_waits_for_it(caplog):
    waiting: list[Exception] = []
    told = threading.Event()

    def failed(fault):
        waiting.append(fault)
        told.set()

    start_once(lambda: 1 // 0, "the work", failed=failed)
    assert told.wait(PATIENCE_S)
    assert isinstance(waiting[0], ZeroDivisionError)
    assert "the thread 'the work' failed" in caplog.text


def test_work_done_once_that_goes_well_tells_nothing():
    failed: list[Exception] = []
    start_once(lambda: None, "the work", failed=failed.append).join(PATIENCE_S)
    assert failed == []


def test_pauses_double_up_to_the_longest_and_begin_again():
    pauses = Backoff(0.5, 4.0)
    for whole_s in (0.5, 1.0, 2.0, 4.0, 4.0, 4.0):
        assert whole_s / 2 <= pauses.next_s() <= whole_s
    pauses.reset()
    assert pauses.next_s() <= 0.5


def test_pauses_of_two_that_failed_together_differ():
    one, other = Backoff(1.0, 8.0), Backoff(1.0, 8.0)
    assert [one.next_s() for _ in range(8)] != [other.next_s() for _ in range(8)]


def started_in(tree: ast.AST) -> list[int]:
    """Lines that start a thread, whatever the module or the class was imported as."""
    aliases = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("threading", "_thread")
        for name in node.names
        if name.name in STARTERS
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in STARTERS:
                found.append(node.lineno)
            if isinstance(called, ast.Name) and called.id in aliases:
                found.append(node.lineno)
        if isinstance(node, ast.ClassDef):
            bases = {
                base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
                for base in node.bases
            }
            if bases & (STARTERS | aliases):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import threading\nthreading.Thread(target=print).start()",
        "import threading as t\nt.Timer(1, print).start()",
        "from threading import Thread as T\nT(target=print)",
        "import _thread\n_thread.start_new_thread(print, ())",
        "import threading\nclass Mine(threading.Thread): pass",
    ],
)
def test_a_thread_started_past_the_helper_would_be_found(code):
    assert started_in(ast.parse(code)) == [2]


def test_every_thread_is_started_by_the_helper():
    found = {
        f"{path.relative_to(Path(sonant.__file__).parent)}:{line}"
        for path in SOURCES
        if path.name != "threads.py"
        for line in started_in(ast.parse(path.read_text("utf-8")))
    }
    assert not found, "start threads with sonant.threads: a fault must not end them unseen"
