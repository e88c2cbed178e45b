"""Quality measures on signals with known values."""

from __future__ import annotations

import numpy as np
import pytest

from sonant.evaluation.channels import parse
from sonant.voice.quality import at_full_scale, clipping_share, frame_power, highpass_300hz, snr_db
from sonant.voice.speech import FRAME


def recording(signal_level, noise_level, seed=0):
    """100 frames of noise, 100 of signal and noise; and the probabilities a detector would give."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, noise_level, 200 * FRAME)
    samples[100 * FRAME :] += rng.normal(0, signal_level, 100 * FRAME)
    return samples.astype(np.float32), np.repeat([0.01, 0.99], 100).astype(np.float32)


@pytest.mark.parametrize("expected_db", [0, 5, 10, 20, 40])
def test_snr_is_the_ratio_of_speech_power_to_noise_power(expected_db):
    samples, probability = recording(0.1, 0.1 * 10 ** (-expected_db / 20))

    assert snr_db(frame_power(samples), probability) == pytest.approx(expected_db, abs=0.7)


def test_click_in_a_pause_is_not_noise():
    samples, probability = recording(0.1, 0.001)
    samples[50 * FRAME : 51 * FRAME] = 1.0

    assert snr_db(frame_power(samples), probability) == pytest.approx(40, abs=0.7)


def test_noise_without_pauses_is_that_of_the_quietest_frames():
    samples, _ = recording(0.1, 0.001)
    probability = np.full(200, 0.99, np.float32)

    assert snr_db(frame_power(samples), probability) == pytest.approx(
        37, abs=1
    )  # half the speech frames idle


def test_snr_stays_in_its_range():
    silent_pauses, probability = recording(0.1, 0.0)

    assert snr_db(frame_power(silent_pauses), probability) == 60
    assert snr_db(frame_power(silent_pauses), np.zeros(200, np.float32)) == -10


def test_clipping_is_the_share_of_samples_at_full_scale():
    samples = np.zeros(1000, np.float32)
    samples[:10], samples[10:20], samples[20:30] = 1.0, -32124 / 32768, 0.97

    assert clipping_share(at_full_scale(samples)) == pytest.approx(0.02)
    assert clipping_share(at_full_scale(samples[:0])) == 0


VOICES = ["english", "french", "italian", "italian-menardi", "russian", "spanish"]


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("line", ["narrow", "narrow+g711", "narrow+gsm", "pink:10+narrow+gsm+loss:3"])
def test_300_hz_high_pass_is_detected(spoken, voice, line):
    assert highpass_300hz(parse(line).apply(spoken(voice, 4.0), seed=(1,)))


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("line", ["clean", "g711", "amr-band+g711", "gsm", "white:10+amr-band", "loss:5"])
def test_full_band_line_is_not_a_300_hz_high_pass(spoken, voice, line):
    assert not highpass_300hz(parse(line).apply(spoken(voice, 4.0), seed=(1,)))


def test_300_hz_high_pass_at_low_level_and_of_silence(spoken):
    samples = parse("narrow+g711").apply(spoken("english", 4.0), seed=(1,))

    assert highpass_300hz(samples * np.float32(0.01))
    assert not highpass_300hz(np.zeros(8000, np.float32))
    assert not highpass_300hz(samples[:0])
