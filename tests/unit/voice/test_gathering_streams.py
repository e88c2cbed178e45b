"""Speech of a stream: the same as batch finds, however the sound comes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonant.voice.audio.recording import TelephoneBand
from sonant.voice.audio.wav import MU_LAW_TABLE
from sonant.voice.enrollment import RecordingSource, gather_speech
from sonant.voice.gathering import SpeechGatherer
from sonant.voice.speech import FRAME

NEED_S = 6.0
NEED = round(NEED_S * 8000)


@pytest.fixture(scope="module")
def talk(spoken):
    """A call with pauses: real speech between stretches of a quiet line."""
    rng = np.random.default_rng(3)
    parts = []
    for number, seconds in enumerate((1.7, 3.0, 0.4, 4.1)):
        parts += [rng.normal(0, 0.0008, round((0.3 + number) * 8000)), spoken("english", seconds, 9 * number)]
    return np.rint(np.concatenate(parts) * 32768).astype(np.float32) / np.float32(32768)


@pytest.fixture(scope="module")
def batch(talk, encoded, models):
    source = RecordingSource(name="call", data=encoded(talk), channel=0)
    return gather_speech([source], need_s=NEED_S, models=models, strict=False, max_duration_s=600)


def gathered(samples, sizes, models, need=NEED, **how):
    gatherer, position, number = SpeechGatherer(models, need, **how), 0, 0
    while position < len(samples):
        size = sizes[number % len(sizes)]
        gatherer.feed(samples[position : position + size])
        position, number = position + size, number + 1
    gatherer.finish()
    return gatherer


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=20).filter(lambda s: sum(s) > 40 * len(s)))
def test_frames_of_any_size_give_the_speech_of_batch(talk, batch, models, sizes):
    np.testing.assert_array_equal(gathered(talk, sizes, models).samples, batch.samples)


def test_frames_of_20_ms_of_mu_law_give_the_speech_of_batch(talk, encoded, models):
    # Given: the call as a carrier codes it
    steps = np.sort(MU_LAW_TABLE.astype(np.float32))
    coded = steps[np.clip(np.searchsorted(steps, talk), 0, 255)]
    source = RecordingSource(name="call", data=encoded(coded, 8000, "WAV", "ULAW"), channel=0)
    rules: dict[str, Any] = {"strict": False, "max_duration_s": 600.0}
    expected = gather_speech([source], need_s=NEED_S, models=models, **rules).samples

    # When, then
    np.testing.assert_array_equal(gathered(coded, [160], models).samples, expected)


def test_a_wide_line_in_frames_is_the_recording_in_one_piece(talk, models):
    wide, sizes = soxr.resample(talk, 8000, 16000), [320, 1, 4000, 77]
    whole = TelephoneBand(16000)
    expected = np.concatenate([whole.feed(wide), whole.finish()])

    band, position = TelephoneBand(16000), 0
    pieces: list[np.ndarray] = []
    while position < len(wide):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(band.feed(wide[position : position + size]))
        position += size
    found = np.concatenate([*pieces, band.finish()])

    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("seconds", [0.5, 2.0, NEED_S])
def test_a_window_holds_the_first_speech_and_says_where_it_was(talk, batch, models, seconds):
    count = round(seconds * 8000)
    window = gathered(talk, [160], models).window(count)

    np.testing.assert_array_equal(window.samples, batch.samples[:count])
    np.testing.assert_array_equal(talk[window.start : window.start + 100], batch.samples[:100])
    np.testing.assert_array_equal(talk[window.end - 100 : window.end], batch.samples[count - 100 : count])
    assert window.quality.net_speech_s == seconds
    assert window.quality.duration_s == window.end / 8000


def test_a_window_is_the_same_however_late_it_is_asked_for(talk, models):
    early = SpeechGatherer(models, NEED)
    for start in range(0, len(talk), 160):
        early.feed(talk[start : start + 160])
        if early.count >= 16_000:
            break
    late = gathered(talk, [1600], models)

    one, two = early.window(16_000), late.window(16_000)
    assert (one.start, one.end) == (two.start, two.end)
    assert one.quality.snr_db == pytest.approx(two.quality.snr_db, abs=0.01)


def test_more_than_there_is_cannot_be_had(talk, models):
    gatherer = gathered(talk[:16_000], [160], models)
    with pytest.raises(ValueError, match="samples of speech"):
        gatherer.window(NEED)
    with pytest.raises(ValueError, match="samples of speech"):
        gatherer.window(0)


def test_nothing_is_listened_to_once_there_is_enough(talk, models):
    gatherer = gathered(np.tile(talk, 3), [1600], models)
    assert gatherer.enough
    assert gatherer.heard < len(talk)


def test_a_long_silence_before_the_speech_is_forgotten_but_for_its_end(talk, models):
    # Given: minutes of a quiet line
    silence = np.random.default_rng(1).normal(0, 0.0008, 8000 * 90).astype(np.float32)

    call = np.concatenate([silence, talk])
    gatherer = gathered(call, [1600], models, remember_s=10.0)
    expected = gathered(call, [1600], models).window(NEED)

    assert len(gatherer.power) == len(gatherer.probability) <= 2 * 10 * 8000 / FRAME + 10
    window = gatherer.window(NEED)
    assert window.start > len(silence)
    np.testing.assert_array_equal(window.samples, expected.samples)
    assert window.quality.snr_db == pytest.approx(expected.quality.snr_db, abs=3)
