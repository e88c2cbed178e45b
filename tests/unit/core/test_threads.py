"""Threads: an exception never ends one silently, and no module starts one in another way."""

from __future__ import annotations

import ast
import threading
from pathlib import Path

import pytest

import sonant
from sonant import threads
from sonant.threads import start_loop, start_once

PATIENCE_S = 30.0
SOURCES = sorted(Path(sonant.__file__).parent.rglob("*.py"))
#: Names of calls that start a thread.
STARTERS = {"Thread", "Timer", "start_new_thread", "start_joinable_thread"}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(threads, "PAUSE_LEAST_S", 0.001)
    monkeypatch.setattr(threads, "PAUSE_MOST_S", 0.002)


@pytest.mark.parametrize(
    "fault", [OSError(24, "Too many open files"), RuntimeError("odd"), MemoryError(), KeyError("x")]
)
def test_loop_that_fails_is_logged_and_goes_on(fault, quick, caplog):
    turns, done = [], threading.Event()

    def work():
        turns.append(1)
        if len(turns) < 3:
            raise fault
        done.set()

    thread = start_loop(work, "the work")
    assert done.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "a loop that returns has ended"
    assert len(turns) == 3
    assert caplog.text.count("the thread 'the work' failed; it goes on in") == 2


def test_failure_of_work_done_once_is_passed_on(caplog):
    faults: list[Exception] = []
    passed_on = threading.Event()

    def failed(fault):
        faults.append(fault)
        passed_on.set()

    start_once(lambda: 1 // 0, "the work", failed=failed)
    assert passed_on.wait(PATIENCE_S)
    assert isinstance(faults[0], ZeroDivisionError)
    assert "the thread 'the work' failed" in caplog.text


def test_success_of_work_done_once_calls_nothing():
    faults: list[Exception] = []
    start_once(lambda: None, "the work", failed=faults.append).join(PATIENCE_S)
    assert faults == []


def thread_starts(tree: ast.AST) -> list[int]:
    """Find the lines that start a thread, whatever the module or class was imported as."""
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
def test_thread_started_without_the_helper_is_found(code):
    assert thread_starts(ast.parse(code)) == [2]


def test_every_thread_is_started_by_the_helper():
    found = {
        f"{path.relative_to(Path(sonant.__file__).parent)}:{line}"
        for path in SOURCES
        if path.name != "threads.py"
        for line in thread_starts(ast.parse(path.read_text("utf-8")))
    }
    assert not found, "start threads with sonant.threads, so that an exception does not end them silently"
