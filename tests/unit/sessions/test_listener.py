"""One stream's listener, stepped by hand with a clock moved by hand: no thread, no store, no worker."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from live_testbed import customer
from manual_clock import ManualClock
from voice_models import voice_models

from sonant.sessions.calls import EndReason
from sonant.sessions.listener import (
    AGAIN,
    BLOCK_S,
    ENROLLMENT,
    ClaimStream,
    EmbedSpeech,
    EndStream,
    StreamKey,
    StreamListener,
    StreamRequirements,
)
from sonant.sessions.stream import Stream
from sonant.settings import Enrollment, Live, Settings
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = Settings(
    live=Live(idle_s=60.0, silence_s=300.0, max_stream_s=600.0), enrollment=Enrollment(net_speech_s=10.0)
)
KEY = StreamKey(domain_id="d" * 22, session_id="id#" + "s" * 22, number=1)
SECOND = 8000
SILENCE = np.zeros(SECOND, np.int16)


@pytest.fixture(scope="module")
def models():
    return voice_models()


@pytest.fixture(scope="module")
def talk(make_call):
    """Fourteen seconds of speech with pauses."""
    return customer(make_call("english", 11, net_speech_s=14, channels=1))


class Stepped:
    """A listener and its stream; audio comes in pieces of a second."""

    def __init__(self, models, **purposes_s):
        self.clock, self.models = ManualClock(), models
        self.stream = Stream(KEY.session_id, lambda: NOON, lambda: None, self.clock)
        requirements = StreamRequirements(
            purposes={name: round(need * SECOND) for name, need in purposes_s.items()},
            model_id=None,
            risk_threshold=50,
        )
        self.listener = StreamListener(self.stream, KEY, requirements, SETTINGS)
        self.wakes: list[EndReason] = []

    def step(self, times=1):
        """Step, and return the requests."""
        for _ in range(times):
            self.listener.step(self.models)
        return self.listener.take_requests()

    def push(self, samples):
        """Push audio in real time, stepping as the thread does; return the requests."""
        requests = []
        for start in range(0, len(samples), SECOND):
            self.stream.push(samples[start : start + SECOND], SECOND)
            self.clock.advance(1.0)
            requests += self.step()
        return requests

    def require(self, **purposes_s):
        needs = {name: round(need * SECOND) for name, need in purposes_s.items()}
        self.listener.requirements = replace(self.listener.requirements, purposes=needs)


@pytest.fixture
def idle(models):
    """A stream that nothing is needed of."""
    return Stepped(models)


@pytest.fixture
def claimed(models):
    """A stream with silence that belongs to this process and is to be authenticated."""
    stepped = Stepped(models, AUTHENTICATION=5.0)
    stepped.push(SILENCE)
    stepped.listener.claimed()
    return stepped


# --- requests


def test_first_audio_requests_one_claim(idle):
    assert idle.step(3) == []
    assert idle.push(SILENCE) == [ClaimStream(started_at=NOON)]
    assert idle.push(SILENCE) == []


def test_nothing_is_embedded_before_the_claim(models, talk):
    stepped = Stepped(models, AUTHENTICATION=5.0)
    assert [type(one) for one in stepped.push(talk)] == [ClaimStream]
    stepped.listener.claimed()
    assert [type(one) for one in stepped.step()] == [EmbedSpeech]


def test_speech_is_requested_once_when_there_is_enough(claimed, talk):
    (request,) = claimed.push(talk)
    assert (request.purpose, request.model_id, request.risk_threshold) == (AUTHENTICATION, None, 50)
    assert request.started_at == NOON
    assert len(request.window.samples) == 5 * SECOND
    assert request.window.quality.net_speech_s == 5.0
    assert claimed.push(SILENCE) == []


def test_each_purpose_gets_the_speech_that_it_needs(claimed, talk):
    claimed.require(AUTHENTICATION=5.0, FRAUD=8.0)
    requests = claimed.push(talk)
    needs = {one.purpose: len(one.window.samples) for one in requests}
    assert needs == {AUTHENTICATION: 5 * SECOND, FRAUD: 8 * SECOND}


def test_two_purposes_of_the_same_speech_are_analyzed_one_after_the_other(claimed, talk):
    claimed.require(AUTHENTICATION=5.0, FRAUD=5.0)
    (request,) = claimed.push(talk)
    assert (request.purpose, request.then.purpose) == (AUTHENTICATION, FRAUD)
    assert (request.window.start, request.window.end) == (request.then.window.start, request.then.window.end)

    claimed.stream.end(EndReason.CALL_ENDED)
    claimed.listener.request_done()
    assert claimed.step() == [], "the second result is not stored yet"
    claimed.listener.request_done()
    assert [type(one) for one in claimed.step()] == [EndStream]


def test_requirements_added_later_use_the_speech_there_was(claimed, talk):
    claimed.push(talk)
    claimed.require(AUTHENTICATION=5.0, FRAUD=8.0)
    (request,) = claimed.step()
    assert request.purpose == FRAUD


def test_more_speech_and_another_model_are_requested_again(claimed, talk):
    claimed.push(talk)
    claimed.require(AUTHENTICATION=8.0)
    assert [len(one.window.samples) for one in claimed.step()] == [8 * SECOND]
    claimed.require(AUTHENTICATION=5.0)
    assert claimed.step() == [], "less speech is covered by more"
    claimed.listener.requirements = replace(claimed.listener.requirements, model_id="another")
    assert [one.model_id for one in claimed.step()] == ["another"]


def test_enrollment_is_requested_once_whatever_the_model(claimed, talk):
    claimed.require(**{ENROLLMENT: 10.0})
    assert [one.purpose for one in claimed.push(talk)] == [ENROLLMENT]
    claimed.listener.requirements = replace(claimed.listener.requirements, model_id="another")
    assert claimed.step() == []


# --- speech of two voices


def test_speech_of_two_voices_is_analyzed_again_with_more(claimed, talk):
    # Given: five seconds, of which no voice has more than four
    (first,) = claimed.push(talk[: 10 * SECOND])

    # When
    claimed.listener.more_speech_needed(AUTHENTICATION, 1 * SECOND)
    requests = claimed.step() + claimed.push(talk[10 * SECOND :])

    # Then: the need is the same, the window is longer
    (second,) = requests
    assert (len(first.window.samples), len(second.window.samples)) == (5 * SECOND, 6 * SECOND)
    assert (first.need, second.need) == (5 * SECOND, 5 * SECOND)
    np.testing.assert_array_equal(second.window.samples[: 5 * SECOND], first.window.samples)


def test_little_missing_speech_waits_for_a_second_of_it(claimed, talk):
    claimed.push(talk[: 10 * SECOND])
    claimed.listener.more_speech_needed(AUTHENTICATION, 10)
    (second,) = claimed.step() + claimed.push(talk[10 * SECOND :])
    assert len(second.window.samples) == 6 * SECOND


def test_speech_of_two_voices_that_never_suffices_begins_anew(claimed, talk):
    # Given: a caller whose speech is never one voice's, up to twice the usual speech (10 s)
    requests = claimed.push(talk)
    lengths = []
    while requests:
        lengths.append(len(requests[0].window.samples) // SECOND)
        if len(lengths) == 5:
            break
        claimed.listener.more_speech_needed(AUTHENTICATION, 7 * SECOND)
        requests = claimed.step()
        while not requests:
            requests = claimed.push(talk)

    # Then: 5 s, 12 s, 19 s; then from the beginning
    assert lengths == [5, 12, 19, 5, 12]


def test_end_does_not_wait_for_more_speech(claimed, talk):
    claimed.push(talk[: 10 * SECOND])
    claimed.listener.more_speech_needed(AUTHENTICATION, 60 * SECOND)
    claimed.stream.end(EndReason.CALL_ENDED)
    (end,) = claimed.step()
    assert isinstance(end, EndStream)


# --- the end


def test_end_is_requested_when_all_results_are_stored(claimed, talk):
    claimed.push(talk)
    claimed.stream.end(EndReason.CALL_ENDED)
    assert claimed.step(3) == []
    assert not claimed.stream.wait_drained(0)

    claimed.listener.request_done()
    (end,) = claimed.step()

    assert isinstance(end, EndStream)
    assert end.reason == EndReason.CALL_ENDED
    assert end.progress.heard_s > 5
    assert claimed.listener.finished
    assert claimed.step() == []


def test_audio_before_the_end_is_still_processed(claimed, talk):
    for start in range(0, 9 * SECOND, SECOND):
        claimed.stream.push(talk[start : start + SECOND], SECOND)
    claimed.stream.end(EndReason.CALL_ENDED)
    (request,) = claimed.step()
    assert request.purpose == AUTHENTICATION


def test_stream_without_audio_ends_at_once(idle):
    idle.stream.end(EndReason.DISCONNECTED)
    (end,) = idle.step()
    assert (end.reason, end.progress.heard_s) == (EndReason.DISCONNECTED, 0.0)


def test_domain_that_is_gone_ends_the_stream_without_more_results(claimed, talk):
    claimed.stream.push(talk[: 9 * SECOND], SECOND)
    claimed.stream.stop(EndReason.DOMAIN_GONE)
    (end,) = claimed.step()
    assert end.reason == EndReason.DOMAIN_GONE


def test_failed_request_ends_the_stream_as_incomplete(claimed, talk):
    claimed.push(talk)
    informed: list[EndReason] = []
    claimed.stream.on_end(informed.append)
    claimed.listener.request_failed(EndReason.SERVICE_STOPPED)
    (end,) = claimed.step()
    assert end.reason == EndReason.SERVICE_STOPPED
    assert claimed.stream.results_lost
    assert informed == [EndReason.SERVICE_STOPPED]


def test_abort_ends_the_stream_and_keeps_earlier_requests(idle):
    idle.stream.push(SILENCE, SECOND)
    idle.listener.step(idle.models)
    idle.listener.abort()
    claim, end = idle.step()
    assert isinstance(claim, ClaimStream)
    assert end.reason == EndReason.SERVICE_STOPPED
    assert idle.listener.finished


# --- time


@pytest.mark.parametrize(("audio", "reason"), [(False, EndReason.NEVER_BEGAN), (True, EndReason.IDLE)])
def test_silent_connection_ends_after_the_idle_time(idle, audio, reason):
    if audio:
        idle.push(SILENCE)
        idle.listener.claimed()
    idle.clock.advance(59.0)
    idle.step()
    assert idle.stream.end_reason is None
    idle.clock.advance(1.5)
    *_, end = idle.step(2)
    assert end.reason == reason


@pytest.mark.parametrize(("audio", "reason"), [(False, EndReason.NEVER_BEGAN), (True, EndReason.IDLE)])
def test_paused_call_goes_on_while_its_connection_lives(idle, audio, reason):
    idle.stream.connected = True
    if audio:
        idle.push(SILENCE)
        idle.listener.claimed()
    idle.clock.advance(299.0)  # on hold, well beyond the 60 s without a connection
    idle.step()
    assert idle.stream.end_reason is None
    idle.clock.advance(1.5)
    *_, end = idle.step(2)
    assert end.reason == reason


def test_speech_before_and_after_a_pause_is_put_together(claimed, talk):
    claimed.stream.connected = True
    half = 4 * SECOND
    assert claimed.push(talk[:half]) == []
    claimed.clock.advance(120.0)
    (request,) = claimed.push(talk[half:])
    assert len(request.window.samples) == 5 * SECOND


def test_audio_is_counted_to_the_end_of_the_call(claimed, talk):
    """Not only as far as speech is looked for."""
    claimed.push(talk)
    claimed.listener.request_done()
    for _ in range(100):
        claimed.push(SILENCE)
    assert claimed.listener.progress.heard_s == 101 + len(talk) / SECOND


def test_call_longer_than_the_limit_ends(claimed):
    for _ in range(11):
        claimed.push(SILENCE)
        claimed.clock.advance(58.0)
    claimed.step()
    assert claimed.stream.end_reason == EndReason.TOO_LONG


def test_less_than_a_block_of_audio_waits_until_the_line_is_silent(claimed):
    claimed.stream.push(SILENCE[:800], SECOND)
    claimed.step()
    assert claimed.stream.waiting_s == 0.1
    claimed.clock.advance(BLOCK_S + 0.1)
    claimed.step()
    assert claimed.stream.waiting_s == 0


def test_progress_and_the_moment_of_enough_speech_to_enroll(claimed, talk):
    claimed.require()
    claimed.push(talk[: 5 * SECOND])
    assert claimed.listener.progress.enrollment_speech_at is None
    claimed.push(talk[5 * SECOND :])
    progress = claimed.listener.progress
    assert progress.net_speech_s == 10.0
    brought_s = 1 + len(talk) / SECOND
    assert NOON + timedelta(seconds=10) < progress.enrollment_speech_at < NOON + timedelta(seconds=brought_s)


# --- erasure


def forget(stepped):
    requirements = stepped.listener.requirements
    stepped.listener.requirements = replace(requirements, erasures=requirements.erasures + 1)


def test_erasure_drops_the_speech_that_was_collected(claimed, talk):
    claimed.require(AUTHENTICATION=12.0)
    first = talk[: 10 * SECOND]
    assert claimed.push(first) == []
    assert claimed.stream.net_speech_s > 1.0
    forget(claimed)
    claimed.step()
    assert claimed.stream.net_speech_s == 0.0
    claimed.require(AUTHENTICATION=8.0)
    (request,) = claimed.push(talk)
    assert request.erasures == 1
    assert request.window.start >= len(first)


def test_erasure_asks_anew_for_what_was_asked_before(claimed, talk):
    (before,) = claimed.push(talk)
    claimed.listener.request_done()
    forget(claimed)
    assert claimed.step() == []
    (after,) = claimed.push(talk)
    assert (before.erasures, after.erasures) == (0, 1)
    assert after.window.start >= len(talk)


def test_erasure_during_analysis_forgets_that_there_were_two_voices(claimed, talk):
    claimed.push(talk)
    forget(claimed)
    claimed.step()
    claimed.listener.more_speech_needed(AUTHENTICATION, SECOND)
    assert [one.erasures for one in claimed.push(talk)] == [1]


# --- the next stream over the same connection


def restart(stepped, number=2):
    requirements = stepped.listener.requirements
    stepped.listener.requirements = replace(requirements, erasures=requirements.erasures + 1, stream=number)


def test_restarted_stream_begins_without_speech_under_its_number(claimed, talk):
    (before,) = claimed.push(talk)
    claimed.listener.request_done()
    restart(claimed)
    assert claimed.step() == []
    progress = claimed.listener.progress
    assert (progress.stream, progress.heard_s, progress.net_speech_s) == (2, 0.0, 0.0)
    (after,) = claimed.push(talk)
    assert (before.erasures, after.erasures) == (0, 1)
    assert after.window.start >= len(talk)
    assert claimed.listener.progress.heard_s == len(talk) / SECOND


def test_end_of_a_restarted_stream_is_that_of_the_later_one(claimed):
    restart(claimed)
    claimed.step()
    claimed.stream.end(EndReason.CALL_ENDED)
    (end,) = claimed.step()
    assert end.progress.stream == 2
    assert claimed.listener.key.number == 2


# --- later looks at the voice


@pytest.fixture
def looked_at(claimed, talk):
    """A stream that was decided on with its first five seconds of speech, and is looked at every 20 s."""
    claimed.listener.requirements = replace(claimed.listener.requirements, again_s=20.0)
    claimed.push(talk)
    claimed.listener.request_done()
    return claimed


def test_voice_is_looked_at_again_with_later_speech(looked_at, talk):
    decided_s = 1 + len(talk) / SECOND
    (look,) = looked_at.push(np.concatenate([np.tile(SILENCE, 20), talk]))
    assert (look.purpose, len(look.window.samples)) == (AGAIN, 5 * SECOND)
    assert look.started_at + timedelta(seconds=look.window.start / SECOND) >= NOON + timedelta(
        seconds=decided_s
    )


def test_looks_follow_each_other(looked_at, talk):
    speech = np.concatenate([np.tile(SILENCE, 20), talk])
    places = []
    for _ in range(3):
        (look,) = looked_at.push(speech)
        looked_at.listener.request_done()
        places.append(look.started_at + timedelta(seconds=look.window.start / SECOND))
    assert places == sorted(set(places))


def test_voice_is_looked_at_once_by_default(claimed, talk):
    claimed.push(talk)
    claimed.listener.request_done()
    assert claimed.push(np.concatenate([np.tile(SILENCE, 120), talk])) == []


def test_no_look_before_the_decision(models, talk):
    stepped = Stepped(models, AUTHENTICATION=10.0, FRAUD=60.0)
    stepped.listener.requirements = replace(stepped.listener.requirements, again_s=1.0)
    stepped.push(SILENCE)
    stepped.listener.claimed()
    purposes = [one.purpose for one in stepped.push(talk)]
    assert purposes == [AUTHENTICATION]


def test_look_that_was_begun_is_given_up_with_the_speech(looked_at, talk):
    looked_at.push(np.concatenate([np.tile(SILENCE, 21), talk[: 2 * SECOND]]))
    forget(looked_at)
    (decided,) = looked_at.push(talk)
    assert decided.purpose == AUTHENTICATION
