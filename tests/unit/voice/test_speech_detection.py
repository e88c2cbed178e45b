"""Speech detection, in blocks of any size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonant.voice.audio.recording import Waveform
from sonant.voice.speech import FRAME, Hysteresis, SpeechDetector, find_speech, net_speech_s


def segments_of(samples, models):
    return find_speech(Waveform(samples=samples.astype(np.float32), rate_hz=8000), models)


def noise(seconds, level=0.01, seed=0):
    return np.random.default_rng(seed).normal(0, level, int(seconds * 8000)).astype(np.float32)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(80_000),
        noise(10, 0.05),
        0.3 * np.sin(2 * np.pi * 425 * np.arange(80_000) / 8000),  # dial tone
        np.zeros(0),
        np.zeros(100),
    ],
    ids=["silence", "noise", "dial tone", "nothing", "less than a frame"],
)
def test_sounds_without_voice_are_not_speech(models, samples):
    assert net_speech_s(segments_of(samples, models)) < 0.5


def test_speech_is_found_between_silences(models, spoken, voices):
    for voice in voices:
        # Given: 3 s of noise, 5 s of a person, 3 s of noise
        person = spoken(voice, 5.0)
        samples = np.concatenate([noise(3, 0.001), person, noise(3, 0.001, seed=1)])

        # When
        found = segments_of(samples, models)

        # Then
        assert 3.0 < net_speech_s(found) <= 5.25, voice  # padding, and a frame at each end
        assert found[0].start_s > 2.8, voice
        assert found[-1].end_s < 8.3, voice
        assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(found)), voice


def test_segments_do_not_depend_on_block_sizes(models, spoken, voices):
    samples = np.concatenate([noise(1), spoken(next(iter(voices)), 8.0), noise(0.7)])
    whole = SpeechDetector(models)
    expected = [*whole.push(samples), *whole.finish()]
    assert len(expected) > 1

    for sizes in ([1, 255, 257], [160], [32768], [4000, 31, 20_000]):
        detector, found, position = SpeechDetector(models), [], 0
        while position < len(samples):
            size = sizes[position % len(sizes)]
            found += detector.push(samples[position : position + size])
            position += size
        found += detector.finish()

        assert found == expected, sizes
        np.testing.assert_allclose(detector.probabilities, whole.probabilities, atol=1e-5)


def test_open_span_is_only_extended(models, spoken, voices):
    detector, samples = SpeechDetector(models), spoken(next(iter(voices)), 6.0)
    certain: list[tuple[int, int]] = []
    ended: list[tuple[int, int]] = []
    for position in range(0, len(samples), FRAME):
        ended += detector.push(samples[position : position + FRAME])
        if detector.open_span:
            certain.append(detector.open_span)
    ended += detector.finish()

    assert certain
    for start, end in certain:
        assert any(start == whole_start and end <= whole_end for whole_start, whole_end in ended)


# --- hysteresis: probabilities to spans, by hand ----------------------------------------------------------

LOUD, UNSURE, QUIET = 0.9, 0.4, 0.1
PAD = 240


@pytest.mark.parametrize(
    ("caption", "probabilities", "spans"),
    [
        ("eight frames of speech", [QUIET] * 4 + [LOUD] * 8 + [QUIET] * 6, [(4, 12)]),
        ("seven are under 250 ms", [QUIET] * 4 + [LOUD] * 7 + [QUIET] * 6, []),
        ("unsure frames keep it going", [LOUD] * 4 + [UNSURE] * 9 + [QUIET] * 6, [(0, 13)]),
        ("unsure frames do not begin it", [UNSURE] * 30, []),
        ("a pause of three frames is part of it", [LOUD] * 9 + [QUIET] * 3 + [LOUD] * 9, [(0, 21)]),
        ("a pause of six frames splits it", [LOUD] * 9 + [QUIET] * 6 + [LOUD] * 9, [(0, 9), (15, 24)]),
        ("quiet at the very end is left out", [LOUD] * 9 + [QUIET] * 2, [(0, 9)]),
    ],
)
def test_hysteresis(caption, probabilities, spans):
    machine, length = Hysteresis(), len(probabilities) * FRAME

    found = [*machine.push(probabilities), *machine.finish(length)]

    padded = [(max(0, a * FRAME - PAD), min(length, b * FRAME + PAD)) for a, b in spans]
    assert found == padded, caption


@settings(max_examples=200)
@given(st.lists(st.sampled_from([LOUD, UNSURE, QUIET]), max_size=80), st.integers(1, 20))
def test_hysteresis_does_not_depend_on_block_sizes(probabilities, size):
    length = len(probabilities) * FRAME
    whole, parts = Hysteresis(), Hysteresis()
    expected = [*whole.push(probabilities), *whole.finish(length)]

    found = [s for i in range(0, len(probabilities), size) for s in parts.push(probabilities[i : i + size])]

    assert found + parts.finish(length) == expected
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(expected))
