"""The speech of one stream: how much is collected, what is held, and when it is collected anew."""

from __future__ import annotations

import numpy as np
import pytest
from live_testbed import customer
from voice_models import voice_models

from sonant.sessions.call_speech import MOST_EXTENSION, CallSpeech
from sonant.voice.collector import SpeechCollector

SECOND = 8000
NEED = 4 * SECOND


@pytest.fixture(scope="module")
def models():
    return voice_models()


@pytest.fixture(scope="module")
def talk(make_call):
    """Fourteen seconds of speech with pauses."""
    return customer(make_call("english", 11, net_speech_s=14, channels=1))


@pytest.fixture
def speech(models):
    return CallSpeech(models, SECOND, NEED)


def push(speech, samples, *, hold=False):
    for start in range(0, len(samples), SECOND // 5):
        speech.push(samples[start : start + SECOND // 5], hold=hold)


def collected(models, samples, need):
    """What a collector finds that is given all at once."""
    collector = SpeechCollector(models, need)
    collector.push(samples.astype(np.float32) / 32768)
    return collector.window(need)


def test_audio_after_enough_speech_is_not_analyzed(speech, talk):
    push(speech, talk)
    assert NEED <= speech.count < NEED + SECOND
    assert speech.analyzed < len(talk)


def test_extension_uses_the_audio_that_was_held(speech, talk, models):
    # Given: enough speech, and a result that is awaited while the caller goes on
    push(speech, talk, hold=True)

    # When
    assert speech.extend(6 * SECOND)

    # Then: nothing is missing
    expected = collected(models, talk, 6 * SECOND)
    window = speech.window(6 * SECOND)
    np.testing.assert_array_equal(window.samples, expected.samples)
    assert (window.start, window.end) == (expected.start, expected.end)


def test_extension_goes_on_with_later_audio(speech, talk, models):
    push(speech, talk[: 9 * SECOND], hold=True)
    speech.extend(6 * SECOND)
    push(speech, talk[9 * SECOND :])
    np.testing.assert_array_equal(
        speech.window(6 * SECOND).samples, collected(models, talk, 6 * SECOND).samples
    )


def test_speech_is_collected_anew_after_audio_was_skipped(speech, talk):
    # Given: audio that nobody waited for
    push(speech, talk)

    # When
    assert not speech.extend(6 * SECOND)
    assert speech.count == 0
    push(speech, talk)

    # Then: the place in the stream is that of the later speech
    window = speech.window(NEED)
    assert len(talk) < window.start < window.end < 2 * len(talk)


def test_speech_is_collected_anew_at_the_limit(speech, talk):
    push(speech, talk, hold=True)
    assert not speech.extend(MOST_EXTENSION * NEED + 1)
    assert speech.count == 0 or speech.window(1).start >= speech.analyzed - len(talk)


def test_extension_after_the_end_uses_what_was_held(speech, talk):
    push(speech, talk, hold=True)
    speech.finish()
    assert speech.extend(6 * SECOND)
    assert speech.count >= 6 * SECOND
