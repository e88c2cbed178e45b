"""Front-ends: equal to the toolkits' own code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonant.voice.audio.test_signal import voice_like_signal
from sonant.voice.models.frontends import KINDS, FrontEnd, features, features_at_rate, kaldi_fbank

#: Made by tools/frontend_references.py.
REFERENCES = json.loads(Path(__file__).with_name("frontend_references.json").read_text())
WITH_FEATURES = [kind for kind in KINDS if kind not in ("ge2e", "redimnet")]


@pytest.mark.parametrize("name", REFERENCES)
def test_features_equal_those_of_the_toolkits(name):
    kind, rate = name.split()
    rate_hz = int(rate)
    if kind.startswith("kaldi-"):
        found = kaldi_fbank(voice_like_signal(rate_hz, 1.0) * np.float32(32768), rate_hz, 80, kind[6:])
    else:
        found = features_at_rate(voice_like_signal(rate_hz, 1.0), FrontEnd(kind=kind, rate_hz=rate_hz))
    for row, wanted in REFERENCES[name].items():
        assert np.allclose(found[int(row)], wanted, atol=5e-4)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    samples=st.integers(500, 6000),
    mels=st.sampled_from([24, 40, 64, 80]),
    rate_hz=st.sampled_from([8000, 16000]),
    window=st.sampled_from(["hamming", "povey"]),
)
def test_filter_banks_agree_with_kaldi_on_any_signal(seed, samples, mels, rate_hz, window):
    knf = pytest.importorskip("kaldi_native_fbank")
    signal = np.random.default_rng(seed).normal(0, 3000, samples).astype(np.float32)
    options = knf.FbankOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither = rate_hz, 0.0
    options.frame_opts.window_type, options.frame_opts.snip_edges = window, True
    options.mel_opts.num_bins, options.mel_opts.low_freq, options.mel_opts.high_freq = mels, 20, 0
    options.use_energy = False
    theirs = knf.OnlineFbank(options)
    theirs.accept_waveform(rate_hz, signal.tolist())
    theirs.input_finished()
    wanted = np.array([theirs.get_frame(frame) for frame in range(theirs.num_frames_ready)])
    assert np.allclose(kaldi_fbank(signal, rate_hz, mels, window), wanted, atol=2e-3)


@pytest.mark.parametrize("kind", WITH_FEATURES)
@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_features_have_a_hundred_frames_per_second(kind, rate_hz):
    found = features(voice_like_signal(8000, 3.0), FrontEnd(kind=kind, rate_hz=rate_hz))
    assert found.shape[1] == 80
    assert abs(len(found) - 300) <= 3
    assert np.isfinite(found).all()


@pytest.mark.parametrize("kind", WITH_FEATURES)
def test_the_mean_of_every_band_is_removed(kind):
    found = features(voice_like_signal(8000, 2.0), FrontEnd(kind=kind))
    assert np.allclose(found.mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("kind", WITH_FEATURES)
def test_features_are_repeatable_and_nearly_level_independent(kind):
    voice = voice_like_signal(8000, 2.0)
    first = features(voice, FrontEnd(kind=kind))
    assert np.array_equal(first, features(voice, FrontEnd(kind=kind)))
    softer = features(voice / np.float32(4), FrontEnd(kind=kind))
    assert np.corrcoef(first.ravel(), softer.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("kind", WITH_FEATURES)
def test_silence_gives_finite_features(kind):
    assert np.isfinite(features(np.zeros(8000, np.float32), FrontEnd(kind=kind))).all()


def test_waveform_is_only_resampled():
    voice = voice_like_signal(8000, 1.0)
    assert np.array_equal(features(voice, FrontEnd(kind="redimnet", rate_hz=8000)), voice)
    assert features(voice, FrontEnd(kind="redimnet")).shape == (16000,)
