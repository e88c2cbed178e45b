"""Requests carried out step by step: queues without threads, a pool and a store of the tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_samples import made_result
from manual_clock import ManualClock
from sqlalchemy.exc import OperationalError

from sonant.errors import PoorQuality
from sonant.jobs.entry import quality_floors
from sonant.jobs.faults import Refusal
from sonant.sessions import enrollment, records
from sonant.sessions.actions import MAX_MODELS, StreamActions
from sonant.sessions.calls import EndReason
from sonant.sessions.context import DomainUnavailable
from sonant.sessions.listener import ENROLLMENT, ClaimStream, EmbedSpeech, EndStream, StreamKey
from sonant.sessions.retry_queue import ATTEMPTS, RetryQueue
from sonant.sessions.worker_pool import Priority
from sonant.settings import Settings
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD
from sonant.storage.repositories.session_streams import Progress
from sonant.voice.call_voices import Voices
from sonant.voice.collector import SpeechWindow
from sonant.voice.quality import Quality

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINDOW = SpeechWindow(
    samples=np.zeros(8000, np.float32),
    start=800,
    end=16_800,
    quality=Quality(net_speech_s=1.0, duration_s=2.1, snr_db=20.0, clipping_share=0.0, highpass_300hz=False),
)
RESULT = made_result(net_speech_s=1.0, snr_db=20.0)
DISK_ERROR = OperationalError("SELECT", {}, Exception("disk I/O error"))


class Listener:
    """Notes what is reported to it."""

    key = StreamKey(domain_id="d" * 22, session_id="id#" + "s" * 22, number=1)

    def __init__(self):
        self.reports: list[Any] = []
        self.stream = SimpleNamespace(close=lambda: self.reports.append("closed"))

    def claimed(self):
        self.reports.append("claimed")

    def request_done(self):
        self.reports.append("done")

    def more_speech_needed(self, purpose, missing):
        self.reports.append((purpose, missing))

    def request_failed(self, reason):
        self.reports.append(reason)


class ActionsTestbed:
    """Actions whose queues, pool and listener thread the test steps; results come from the test."""

    def __init__(self):
        self.clock, self.listener = ManualClock(), Listener()
        self.tasks: list[Any] = []
        self.ended: list[Any] = []
        self.queues = [
            RetryQueue("records", monotonic=self.clock),
            RetryQueue("enrollments", monotonic=self.clock),
        ]
        pool: Any = SimpleNamespace(submit=lambda *task: self.tasks.append(task))
        context: Any = SimpleNamespace(settings=Settings())
        self.actions = StreamActions(
            context, lambda task: task(), pool, self.queues[0], self.queues[1], self.ended.append
        )

    def perform(self, request):
        listener: Any = self.listener
        self.actions.perform(listener, request)

    def run_queues(self, times=1):
        for _ in range(times):
            for queue in self.queues:
                queue.run_due()
            self.clock.advance(60)

    def deliver(self, result=RESULT):
        _task, _priority, on_result = self.tasks.pop(0)
        on_result(result)
        self.run_queues()


@pytest.fixture
def testbed():
    return ActionsTestbed()


def embed(purpose, **changes):
    request: dict[str, Any] = {
        "purpose": purpose, "window": WINDOW, "need": 8000, "model_id": None, "risk_threshold": 50,
        "started_at": NOON,
    }  # fmt: skip
    return EmbedSpeech(**{**request, **changes})


def returning(value):
    return lambda *_arguments, **_more: value


def raising(fault):
    def fail(*_arguments, **_more):
        raise fault

    return fail


# --- audio that cannot be scored


@pytest.mark.parametrize("purpose", [AUTHENTICATION, FRAUD])
def test_audio_that_cannot_be_scored_waits_for_other_speech(testbed, purpose):
    testbed.perform(embed(purpose))
    testbed.deliver(Refusal.of(PoorQuality(["the speech plays too slowly for a person"])))

    assert testbed.listener.reports == [(purpose, 8000)], "the stream goes on, and nothing is stored"


def test_tasks_of_calls_have_the_limits_of_the_settings(testbed):
    testbed.perform(embed(AUTHENTICATION))
    assert testbed.tasks[0][0].floors == quality_floors(Settings())


# --- two purposes of the same speech


def chained(**changes):
    return embed(AUTHENTICATION, then=embed(FRAUD), **changes)


def test_the_voice_of_the_same_speech_is_not_looked_for_twice(testbed, monkeypatch):
    stored = []

    def save(_context, _key, speech, **_more):
        stored.append(speech)
        return True

    monkeypatch.setattr(records, "save", save)

    testbed.perform(chained())
    assert [priority for _task, priority, _on_result in testbed.tasks] == [Priority.AUTHENTICATION]
    testbed.deliver()
    ((task, priority, _on_result),) = testbed.tasks
    assert (priority, task.call_voice) == (Priority.FRAUD, RESULT.sample)
    testbed.deliver()

    assert [speech.purpose for speech in stored] == [AUTHENTICATION, FRAUD]
    assert testbed.listener.reports == ["done", "done"]


@pytest.mark.parametrize(
    "first",
    [
        replace(RESULT, voices=Voices(count=2)),
        replace(RESULT, voices=Voices(count=2, missing=4000)),
        Refusal.of(PoorQuality(["the speech plays too slowly for a person"])),
    ],
    ids=["two voices", "two voices, too little of one", "refused"],
)
def test_speech_that_may_not_be_one_persons_is_analyzed_anew_for_fraud(testbed, monkeypatch, first):
    monkeypatch.setattr(records, "save", returning(True))
    testbed.perform(chained())
    testbed.deliver(first)
    ((task, priority, _on_result),) = testbed.tasks
    assert (priority, task.call_voice) == (Priority.FRAUD, None)


# --- claims


@pytest.mark.parametrize(
    ("claim", "report"),
    [
        (returning(None), "claimed"),
        (returning(EndReason.OVERRUN), EndReason.OVERRUN),
        (raising(DomainUnavailable("suspended")), EndReason.DOMAIN_GONE),
        (raising(DISK_ERROR), EndReason.SERVICE_STOPPED),
    ],
)
def test_claim_is_reported(testbed, monkeypatch, claim, report):
    monkeypatch.setattr(records, "claim", claim)
    testbed.perform(ClaimStream(started_at=NOON))
    assert testbed.listener.reports == [], "nothing waits for the store"
    testbed.run_queues(ATTEMPTS)
    assert testbed.listener.reports == [report]


# --- results


@pytest.mark.parametrize(
    ("save", "report"),
    [
        (returning(True), "done"),
        (returning(False), EndReason.OVERRUN),
        (raising(DomainUnavailable("suspended")), EndReason.DOMAIN_GONE),
        (raising(DISK_ERROR), EndReason.SERVICE_STOPPED),
    ],
)
def test_result_is_stored_and_reported(testbed, monkeypatch, save, report):
    monkeypatch.setattr(records, "save", save)
    testbed.perform(embed(AUTHENTICATION))
    testbed.deliver()
    testbed.run_queues(ATTEMPTS)
    assert testbed.listener.reports == [report]


def test_stored_speech_has_its_place_in_the_call(testbed, monkeypatch):
    saved: list[Any] = []

    def save(_context, _key, speech, **_more):
        saved.append(speech)
        return True

    monkeypatch.setattr(records, "save", save)
    testbed.perform(embed(FRAUD))
    testbed.deliver()
    (speech,) = saved
    assert (speech.purpose, speech.stream) == (FRAUD, 1)
    assert (speech.started_at - NOON).total_seconds() == 0.1
    assert (speech.ended_at - NOON).total_seconds() == 2.1


def record_saves(monkeypatch):
    """Each speech sample that is saved, with the facts beside it."""
    saved: list[Any] = []

    def save(*positional, **more):
        saved.append((positional[-1], more))
        return True

    monkeypatch.setattr(records, "save", save)
    return saved


def test_speech_of_several_voices_is_reported_and_not_stored(testbed, monkeypatch):
    saved = record_saves(monkeypatch)
    testbed.perform(embed(AUTHENTICATION))
    testbed.deliver(replace(RESULT, voices=Voices(count=2, missing=2400)))
    assert saved == [(None, {"multiple_speakers": True, "erasures": 0})]
    assert testbed.listener.reports == [(AUTHENTICATION, 2400)]


@pytest.mark.parametrize("purpose", [AUTHENTICATION, FRAUD])
def test_voice_with_enough_speech_is_stored_with_the_fact_of_others(testbed, monkeypatch, purpose):
    saved = record_saves(monkeypatch)
    testbed.perform(embed(purpose))
    testbed.deliver(replace(RESULT, voices=Voices(count=2)))
    ((speech, more),) = saved
    assert (speech.sample, more) == (RESULT.sample, {"multiple_speakers": True, "erasures": 0})
    assert testbed.listener.reports == ["done"]


def test_refused_task_fails_the_request(testbed, caplog):
    testbed.perform(embed(AUTHENTICATION))
    testbed.deliver(Refusal(500, "the model is not there"))
    assert testbed.listener.reports == [EndReason.SERVICE_STOPPED]
    assert "AUTHENTICATION failed: the model is not there" in caplog.text


@pytest.mark.parametrize(
    ("purpose", "priority", "detect"),
    [(AUTHENTICATION, Priority.AUTHENTICATION, False), (FRAUD, Priority.FRAUD, True)],
)
def test_only_fraud_detection_looks_for_spoofing(testbed, purpose, priority, detect):
    testbed.perform(embed(purpose))
    task, given, _ = testbed.tasks[0]
    assert (given, task.detect, task.fingerprint) == (priority, detect, detect)


# --- ends


@pytest.mark.parametrize("end", [returning(None), raising(DISK_ERROR), raising(RuntimeError("a bug"))])
def test_stream_is_closed_once_even_if_its_end_cannot_be_stored(testbed, monkeypatch, end):
    monkeypatch.setattr(records, "end", end)
    progress = Progress(session_id=Listener.key.session_id, stream=1, heard_s=1.0, net_speech_s=1.0)
    testbed.perform(EndStream(reason=EndReason.CALL_ENDED, progress=progress))
    testbed.run_queues(ATTEMPTS)
    assert testbed.listener.reports == ["closed"]
    assert testbed.ended == [testbed.listener]


# --- enrollment


@pytest.fixture
def enrolling(testbed, monkeypatch):
    """An enrollment that has started; its failures are noted."""
    failures: list[str] = []
    monkeypatch.setattr(enrollment, "start", returning(SimpleNamespace(risk_threshold=70)))
    monkeypatch.setattr(enrollment, "fail", lambda _context, _key, why: failures.append(why.message))
    testbed.perform(embed(ENROLLMENT))
    testbed.run_queues()
    return testbed, failures


def test_unwanted_enrollment_is_done_without_a_task(testbed, monkeypatch):
    monkeypatch.setattr(enrollment, "start", returning(None))
    testbed.perform(embed(ENROLLMENT))
    testbed.run_queues()
    assert (testbed.listener.reports, testbed.tasks) == (["done"], [])


def test_enrollment_uses_the_sessions_risk_threshold(enrolling):
    testbed, _ = enrolling
    task, priority, _ = testbed.tasks[0]
    assert (task.risk_threshold, priority) == (70, Priority.ENROLLMENT)


def test_enrollment_is_finished_with_the_result(enrolling, monkeypatch):
    testbed, failures = enrolling
    finished: list[Any] = []
    monkeypatch.setattr(enrollment, "finish", lambda _context, _key, *result: finished.append(result))
    testbed.deliver()
    ((result, speech),) = finished
    assert (result, speech.purpose) == (RESULT, ENROLLMENT)
    assert (testbed.listener.reports, failures) == (["done"], [])


def test_changed_model_analyzes_the_speech_again_a_few_times(enrolling, monkeypatch):
    testbed, failures = enrolling
    monkeypatch.setattr(enrollment, "finish", raising(enrollment.ModelChanged("another")))
    for _ in range(MAX_MODELS):
        testbed.deliver()
    assert testbed.tasks == []
    assert testbed.listener.reports == ["done"]
    assert failures == ["the domain's voice model was changed"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (DomainUnavailable("suspended"), "the domain was suspended or its key cannot be used"),
        (RuntimeError("a bug"), "the service failed before the voiceprint was stored"),
    ],
)
def test_enrollment_that_cannot_be_finished_fails_with_a_reason(enrolling, monkeypatch, fault, message):
    testbed, failures = enrolling
    monkeypatch.setattr(enrollment, "finish", raising(fault))
    testbed.deliver()
    assert (testbed.listener.reports, failures) == (["done"], [message])
