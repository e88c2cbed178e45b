"""The filter below the telephone band: what it passes, and that no cut of the stream changes it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonant.voice.audio.telephone_band import TelephoneBand, telephone_band

SECOND = 8000


def tone(hz, seconds=4.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * SECOND)) / SECOND)).astype(np.float32)


def gain_db(hz):
    steady = telephone_band(tone(hz))[SECOND:].astype(np.float64)
    return 20 * np.log10(np.sqrt(2 * np.mean(steady**2)) / 0.5)


@pytest.mark.parametrize("hz", [20, 50, 60, 70, 100, 120, 150, 170, 200, 300, 1000, 3400, 3900])
def test_gain_is_that_of_a_butterworth_filter_of_fourth_order(hz):
    # |H| of the analogue filter at the frequency that the bilinear transform maps this one to
    place = np.tan(np.pi * 120 / SECOND) / np.tan(np.pi * hz / SECOND)

    assert gain_db(hz) == pytest.approx(-10 * np.log10(1 + place**8), abs=0.05 if hz >= 50 else 6)


@pytest.mark.parametrize("offset", [-1.0, -0.02, 0.12, 1.0])
def test_offset_leaves_nothing_from_the_first_sample_on(offset):
    assert np.abs(telephone_band(np.full(2 * SECOND, offset, np.float32))).max() < 1e-12


@pytest.mark.parametrize("offset", [0.02, -0.4])
def test_speech_with_an_offset_equals_speech_without(spoken, offset):
    speech = 0.5 * spoken("english", 5)

    difference = telephone_band((speech + np.float32(offset)).astype(np.float32)) - telephone_band(speech)

    # What is left is the rounding of the samples that went in.
    assert np.abs(difference).max() < 1e-6


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=30).filter(any), seed=st.integers(0, 99))
def test_any_cut_of_the_stream_gives_the_same_bits(sizes, seed):
    samples = np.random.default_rng(seed).uniform(-1, 1, sum(sizes)).astype(np.float32)
    stream, found, at = TelephoneBand(), [], 0
    for size in sizes:
        found.append(stream.push(samples[at : at + size]))
        at += size
    found.append(stream.finish())

    assert np.concatenate(found).tobytes() == telephone_band(samples).tobytes()


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 8001])
def test_every_sample_comes_out_once(count):
    assert len(telephone_band(tone(1000)[:count])) == count


def test_whole_blocks_do_not_wait_for_later_ones():
    assert len(TelephoneBand().push(tone(1000)[:512])) == 512


@pytest.mark.parametrize(
    "samples",
    [
        np.full(SECOND, 1e-40, np.float32),
        np.full(SECOND, np.finfo(np.float32).smallest_subnormal),
        np.sign(tone(90)),
        np.sign(tone(2000.5)),
        np.concatenate([np.ones(SECOND, np.float32), np.zeros(SECOND, np.float32)]),
        np.random.default_rng(1).choice([-1.0, 1.0], SECOND).astype(np.float32),
    ],
    ids=["denormals", "smallest", "low square", "high square", "offset ends", "random extremes"],
)
def test_extreme_input_gives_finite_output_within_full_scale(samples):
    found = telephone_band(samples.astype(np.float32))

    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1


def test_nothing_older_than_a_block_has_an_effect():
    loud, quiet = np.sign(tone(90)), tone(1000, level=1e-3)

    found = telephone_band(np.concatenate([loud, quiet]))[len(loud) :]

    np.testing.assert_allclose(found[256:], telephone_band(quiet)[256:], atol=1e-9)
