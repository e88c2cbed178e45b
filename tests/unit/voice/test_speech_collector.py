"""Speech collected from streams: equal to that of whole recordings, whatever the frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonant.voice.audio.g711 import MU_LAW_TABLE
from sonant.voice.audio.recording import TelephoneResampler
from sonant.voice.audio.telephone_band import telephone_band
from sonant.voice.collector import SpeechCollector
from sonant.voice.enrollment import RecordingSource, collect_speech
from sonant.voice.speech import FRAME, analyze

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
    return collect_speech([source], need_s=NEED_S, models=models, strict=False, max_duration_s=600)


def collected(samples, sizes, models, need=NEED, **how):
    collector, position, number = SpeechCollector(models, need, **how), 0, 0
    while position < len(samples):
        size = sizes[number % len(sizes)]
        collector.push(samples[position : position + size])
        position, number = position + size, number + 1
    collector.finish()
    return collector


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=20).filter(lambda s: sum(s) > 40 * len(s)))
def test_frames_of_any_size_give_the_same_speech(talk, batch, models, sizes):
    np.testing.assert_array_equal(collected(talk, sizes, models).samples, batch.samples)


def test_20_ms_mu_law_frames_give_the_same_speech(talk, encoded, models):
    # Given: the call as a carrier codes it
    steps = np.sort(MU_LAW_TABLE.astype(np.float32))
    coded = steps[np.clip(np.searchsorted(steps, talk), 0, 255)]
    source = RecordingSource(name="call", data=encoded(coded, 8000, "WAV", "ULAW"), channel=0)
    rules: dict[str, Any] = {"strict": False, "max_duration_s": 600.0}
    expected = collect_speech([source], need_s=NEED_S, models=models, **rules).samples

    # When, then
    np.testing.assert_array_equal(collected(coded, [160], models).samples, expected)


def test_resampling_in_frames_equals_resampling_at_once(talk, models):
    wide, sizes = soxr.resample(talk, 8000, 16000), [320, 1, 4000, 77]
    whole = TelephoneResampler(16000)
    expected = np.concatenate([whole.push(wide), whole.finish()])

    band, position = TelephoneResampler(16000), 0
    pieces: list[np.ndarray] = []
    while position < len(wide):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(band.push(wide[position : position + size]))
        position += size
    found = np.concatenate([*pieces, band.finish()])

    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("seconds", [0.5, 2.0, NEED_S])
def test_window_holds_the_first_speech_and_its_position(talk, batch, models, seconds):
    count = round(seconds * 8000)
    window = collected(talk, [160], models).window(count)

    np.testing.assert_array_equal(window.samples, batch.samples[:count])
    filtered = telephone_band(talk)
    np.testing.assert_array_equal(filtered[window.start : window.start + 100], batch.samples[:100])
    np.testing.assert_array_equal(filtered[window.end - 100 : window.end], batch.samples[count - 100 : count])
    assert window.quality.net_speech_s == seconds
    assert window.quality.duration_s == window.end / 8000


def test_window_does_not_depend_on_when_it_is_requested(talk, models):
    early = SpeechCollector(models, NEED)
    for start in range(0, len(talk), 160):
        early.push(talk[start : start + 160])
        if early.count >= 16_000:
            break
    late = collected(talk, [1600], models)

    one, two = early.window(16_000), late.window(16_000)
    assert (one.start, one.end) == (two.start, two.end)
    assert one.quality.snr_db == pytest.approx(two.quality.snr_db, abs=0.01)


def test_window_longer_than_the_speech_is_refused(talk, models):
    collector = collected(talk[:16_000], [160], models)
    with pytest.raises(ValueError, match="samples of speech"):
        collector.window(NEED)
    with pytest.raises(ValueError, match="samples of speech"):
        collector.window(0)


def test_clipping_is_counted_before_the_filter_moves_the_samples(talk, models):
    # Given: a call whose loudest samples are cut at full scale, on an offset that the filter removes
    clipped = np.clip(4 * talk + 0.05, -1, 1).astype(np.float32)

    # When
    window = collected(clipped, [160], models).window(NEED)

    # Then
    speech = analyze(clipped, models).speech_of(np.abs(clipped) >= 0.98)[:NEED]
    assert window.quality.clipping_share == pytest.approx(float(speech.mean()), abs=1e-9)
    assert window.quality.clipping_share > 0.01


def test_audio_after_enough_speech_is_not_analyzed(talk, models):
    collector = collected(np.tile(talk, 3), [1600], models)
    assert collector.enough
    assert collector.analyzed < len(talk)


def test_history_of_a_long_silence_is_bounded(talk, models):
    # Given: minutes of a quiet line
    silence = np.random.default_rng(1).normal(0, 0.0008, 8000 * 90).astype(np.float32)

    call = np.concatenate([silence, talk])
    collector = collected(call, [1600], models, history_s=10.0)
    expected = collected(call, [1600], models).window(NEED)

    assert len(collector.power) == len(collector.probability) <= 2 * 10 * 8000 / FRAME + 10
    window = collector.window(NEED)
    assert window.start > len(silence)
    np.testing.assert_array_equal(window.samples, expected.samples)
    assert window.quality.snr_db == pytest.approx(expected.quality.snr_db, abs=3)
