"""What is heard in a call, and when."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
import soxr
from live_testbed import customer
from voice_models import voice_models
from waiting import PATIENCE_S

from sonant.evaluation.channels import parse
from sonant.sessions.calls import EndReason
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD
from sonant.storage.repositories.sessions import ENDED, ONGOING
from sonant.voice.audio.flac import decode_flac
from sonant.voice.collector import SpeechCollector
from sonant.voice.enrollment import RecordingSource, collect_speech

EXACT = timedelta(microseconds=2)


@pytest.fixture(scope="module")
def models():
    return voice_models()


@pytest.fixture(scope="module")
def call(make_call):
    return make_call("english", 11, net_speech_s=14, channels=1)


@pytest.fixture(scope="module")
def talk(call):
    return customer(call)


#: One step of 16-bit samples, as which speech is stored.
STEP = 1 / 32768


def in_batch(call, need_s, models):
    source = RecordingSource(name="call", data=call, channel=0)
    return collect_speech([source], need_s=need_s, models=models, strict=False, max_duration_s=600).samples


def test_call_is_analyzed_from_the_speech_that_batch_finds(live, domain, call, talk, models):
    # Given: a session, and a call of one voice
    name = live.start(domain).name

    # When
    session = live.run_call(domain, name, talk)

    # Then
    assert (session.stream_status, session.stream_end_reason) == (ENDED, EndReason.CALL_ENDED)
    assert session.net_speech_s == 10, "nobody can want more here, so no more is collected"
    assert 10 < session.heard_s < len(talk) / 8000
    heard = live.analyzed(domain, name)
    assert set(heard) == {AUTHENTICATION, FRAUD}
    for hearing in heard.values():
        np.testing.assert_allclose(decode_flac(hearing.audio), in_batch(call, 10.0, models), atol=STEP / 2)
        assert hearing.sample.quality.net_speech_s == 10
        assert hearing.sample.quality.snr_db > 15
        assert not hearing.sample.quality.highpass_300hz
    assert heard[AUTHENTICATION].sample == heard[FRAUD].sample
    assert (heard[AUTHENTICATION].fingerprint, heard[AUTHENTICATION].spoofing_score) == (None, None)
    assert heard[FRAUD].fingerprint is not None


def test_window_is_the_speechs_place_in_the_call(live, domain, talk, models):
    name = live.start(domain).name
    session = live.run_call(domain, name, talk)

    collector = SpeechCollector(models, 80_000)
    collector.push(talk.astype(np.float32) / 32768)
    window = collector.window(80_000)
    hearing = live.analyzed(domain, name)[AUTHENTICATION]
    for moment, sample in ((hearing.started_at, window.start), (hearing.ended_at, window.end)):
        assert abs(moment - session.stream_started_at - timedelta(seconds=sample / 8000)) < EXACT


def test_each_purpose_gets_the_speech_that_the_session_sets(live, domain, call, talk, models):
    name = live.start(domain, StreamingConfiguration={"AuthenticationMinimumSpeechInSeconds": 5}).name

    live.run_call(domain, name, talk)

    heard = live.analyzed(domain, name)
    assert heard[AUTHENTICATION].sample.quality.net_speech_s == 5
    assert heard[FRAUD].sample.quality.net_speech_s == 10
    np.testing.assert_allclose(
        decode_flac(heard[AUTHENTICATION].audio), in_batch(call, 5.0, models), atol=STEP / 2
    )


def test_disabled_purpose_is_not_analyzed(live, domain, talk):
    name = live.start(domain, IsFraudDetectionEnabled=False).name
    live.run_call(domain, name, talk)
    assert set(live.analyzed(domain, name)) == {AUTHENTICATION}


def test_fraud_is_found_the_same_with_and_without_authentication(live, domain, talk):
    # Given: with both, the voice is taken from the speech once
    both, alone = live.start(domain).name, live.start(domain, IsVoiceAuthenticationEnabled=False).name
    for name in (both, alone):
        live.run_call(domain, name, talk)

    one, two = (live.analyzed(domain, name)[FRAUD] for name in (both, alone))
    assert one.sample.vector.tobytes() == two.sample.vector.tobytes()
    assert one.sample.quality == two.sample.quality
    assert (one.fingerprint, one.spoofing_score) == (two.fingerprint, two.spoofing_score)
    assert one.parts == two.parts == ()


def test_purpose_enabled_during_the_call_uses_the_earlier_speech(live, domain, talk):
    # Given: a call without authentication, heard to the end
    name = live.start(domain, IsVoiceAuthenticationEnabled=False).name
    stream = live.open(domain, name)
    live.push(stream, talk)
    assert set(live.analyzed(domain, name)) == {FRAUD}

    # When: authentication is switched on, and no word more is spoken
    live.call("UpdateSession", DomainId=domain, SessionNameOrId=name, IsVoiceAuthenticationEnabled=True)

    # Then
    for _ in range(100):
        assert stream.wait_drained(PATIENCE_S)
        stream.push(np.zeros(160, np.int16), 8000)  # the line stays open
        if AUTHENTICATION in live.analyzed(domain, name):
            break
    first, second = (live.analyzed(domain, name)[one] for one in (AUTHENTICATION, FRAUD))
    assert (first.started_at, first.ended_at) == (second.started_at, second.ended_at)
    live.hang_up(stream)


def test_16_khz_line_gives_the_embedding_of_8_khz(live, domain, talk):
    narrow, wide = live.start(domain).name, live.start(domain).name
    live.run_call(domain, narrow, talk)

    stream = live.open(domain, wide)
    live.push(stream, soxr.resample(talk, 8000, 16000), 16000)
    live.hang_up(stream)

    one, two = (live.analyzed(domain, n)[FRAUD].sample.vector for n in (narrow, wide))
    assert one.dot(two) > 0.98


def test_line_with_a_300_hz_highpass_is_marked(live, domain, talk):
    name = live.start(domain).name
    narrow = parse("narrow+g711").apply(talk.astype(np.float32) / 32768, seed=(1,))
    live.run_call(domain, name, (narrow * 32768).astype(np.int16))
    heard = live.analyzed(domain, name)
    assert [hearing.sample.quality.highpass_300hz for hearing in heard.values()] == [True, True]


def test_too_little_speech_is_shown_and_not_analyzed(live, domain, talk):
    name = live.start(domain).name
    session = live.run_call(domain, name, talk[: 8 * 8000])
    assert live.analyzed(domain, name) == {}
    assert 0 < session.net_speech_s < 8
    assert session.heard_s == pytest.approx(8.0)


def test_next_stream_starts_without_results(live, domain, talk):
    name = live.start(domain).name
    live.run_call(domain, name, talk)

    live.start(domain, name)
    session = live.run_call(domain, name, talk[: 8 * 8000])

    assert session.stream == 2
    assert live.analyzed(domain, name) == {}


def test_progress_is_stored_while_the_call_goes_on(live, domain, talk):
    name = live.start(domain).name
    stream = live.open(domain, name)
    live.push(stream, talk[: 9 * 8000])
    told = live.until(domain, name, heard_s=pytest.approx(9.0, abs=0.04))
    assert told.stream_status == ONGOING
    assert 0 < told.net_speech_s < 9
    live.hang_up(stream)


def test_start_and_end_of_a_stream_are_events(live, domain, talk):
    name = live.start(domain).name
    session = live.run_call(domain, name, talk)
    begun, ended = live.events(domain, "VoiceId Start Session Action")
    assert (begun["status"], ended["status"]) == ("STREAMING_STARTED", "STREAMING_ENDED")
    assert begun["session"]["sessionId"] == ended["session"]["sessionId"] == session.session_id
    before, after = (one["session"]["authenticationAudioProgress"] for one in (begun, ended))
    assert before["audioAggregationStartedAt"] is not None
    assert before["audioAggregationEndedAt"] is None
    assert after["audioAggregationEndedAt"] is not None


@pytest.mark.parametrize(("seconds", "status"), [(4, "NOT_ENOUGH_SPEECH"), (None, "READY_FOR_ENROLLMENT")])
def test_events_show_whether_speech_suffices_to_enroll(live, domain, talk, seconds, status):
    name = live.start(domain).name
    session = live.run_call(domain, name, talk if seconds is None else talk[: seconds * 8000])
    *_, ended = live.events(domain, "VoiceId Start Session Action")
    progress = ended["session"]["enrollmentAudioProgress"]
    assert progress["audioAggregationStatus"] == status
    assert (progress["audioAggregationEndedAt"] is None) == (session.enrollment_speech_at is None)
    assert (session.enrollment_speech_at is None) == (status == "NOT_ENOUGH_SPEECH")
