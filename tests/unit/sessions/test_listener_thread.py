"""The listener thread's loop, run once at a time, with listeners of the tests."""

from __future__ import annotations

import os
import sys
import threading
from queue import Queue
from typing import Any

import pytest
from waiting import PATIENCE_S

from sonant.sessions.listener import StreamKey
from sonant.sessions.listener_thread import LISTENER_NICE, ListenerThread
from sonant.voice.models import load_models


class Script:
    """A listener that makes the requests of its script, one a step; an exception is raised."""

    key = StreamKey(domain_id="d" * 22, session_id="id#" + "s" * 22, number=1)

    def __init__(self, *script):
        self.script, self.requests = list(script), []
        self.finished = self.aborted = False

    def step(self, _models):
        request = self.script.pop(0)
        self.requests.append(request)
        self.finished = not self.script
        if request == "bug":
            raise RuntimeError("a bug")

    def take_requests(self):
        requests, self.requests = self.requests, []
        return requests

    def abort(self):
        self.aborted = self.finished = True
        self.requests.append("aborted")


def scripted(*script) -> Any:
    return Script(*script)


@pytest.fixture
def performed():
    return []


@pytest.fixture
def thread(performed):
    """A thread that is not started."""
    return ListenerThread(load_models, lambda listener, request: performed.append((listener, request)))


def test_requests_of_each_step_are_performed_until_the_listener_ends(thread, performed):
    one, other = scripted("a", "b"), scripted("c")
    thread.add(one)
    thread.add(other)
    for _ in range(4):
        thread.run_once()
    assert [request for listener, request in performed if listener is one] == ["a", "b"]
    assert [request for listener, request in performed if listener is other] == ["c"]


def test_posted_tasks_run_in_order_and_a_failing_one_stops_no_other(thread, caplog):
    order: list[str] = []
    thread.post(lambda: order.append("first"))
    thread.post(lambda: [][0])
    thread.post(lambda: order.append("last"))
    thread.run_once()
    assert order == ["first", "last"]
    assert "internal failure" in caplog.text


def test_failing_listener_is_aborted_with_its_requests_and_others_go_on(thread, performed, caplog):
    failing, other = scripted("bug", "never"), scripted("a", "b")
    thread.add(failing)
    thread.add(other)
    for _ in range(3):
        thread.run_once()
    assert failing.aborted
    assert [request for listener, request in performed if listener is failing] == ["bug", "aborted"]
    assert [request for listener, request in performed if listener is other] == ["a", "b"]
    assert "internal failure" in caplog.text


def test_request_that_cannot_be_performed_aborts_its_listener(caplog):
    def perform(_listener, request):
        if request == "a":
            raise RuntimeError("no thread")

    thread, listener = ListenerThread(load_models, perform), scripted("a", "b")
    thread.add(listener)
    thread.run_once()
    assert listener.aborted
    assert "internal failure" in caplog.text


def test_models_that_cannot_be_loaded_end_the_stream(performed):
    def fail():
        raise OSError("no such file")

    thread, listener = ListenerThread(fail, lambda *_: performed.append("end")), scripted("a")
    thread.add(listener)
    thread.run_once()
    assert listener.aborted
    assert performed == ["end"]


def test_closed_thread_has_ended():
    thread, done = ListenerThread(load_models, lambda *_: None), []
    thread.start()
    thread.post(lambda: done.append(1))
    thread.close()
    thread.run_once()
    assert done == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has a priority of its own on Linux alone")
def test_detection_of_speech_yields_to_calls_of_the_api():
    before = os.getpriority(os.PRIO_PROCESS, os.getpid())
    seen: Queue[int] = Queue()
    thread = ListenerThread(load_models, lambda _listener, _request: None)
    thread.start()
    thread.post(lambda: seen.put(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    assert seen.get(timeout=PATIENCE_S) == min(before + LISTENER_NICE, 19)
    thread.close()
    assert os.getpriority(os.PRIO_PROCESS, os.getpid()) == before
