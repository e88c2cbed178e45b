"""Spoofing detection: the scale, the bounds, genuine telephone speech, and several detectors."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonant.errors import NotEnoughSpeech
from sonant.voice.spoofing.features import FEATURES, features
from sonant.voice.spoofing.models import load_spoofing_models
from sonant.voice.spoofing.registry import (
    DetectionLimits,
    SpoofingRisk,
    assess_spoofing,
    spoof_detector,
    spoof_detectors,
)
from sonant.voice.spoofing.synthetic_speech import NETWORK_SAMPLES, network_input, score_synthetic_speech


@pytest.fixture(scope="module")
def networks():
    return load_spoofing_models()


def test_less_than_three_seconds_raise_not_enough_speech(networks):
    with pytest.raises(NotEnoughSpeech):
        score_synthetic_speech(np.zeros(23999, np.float32), networks, max_s=10, windows=1)


def test_genuine_telephone_speech_is_below_50(networks, spoken):
    risks = [
        score_synthetic_speech(spoken(voice, 10, first), networks, max_s=10, windows=1).risk
        for voice in ("english", "french", "russian")
        for first in (0, 20)
    ]

    assert max(risks) < 50


def test_one_genuine_recording_in_a_hundred_reaches_50(networks):
    known = networks.calibration
    logit = known.light_tail + known.light_scale * math.log(10)

    assert known.light_share(known.light_middle) == pytest.approx(0.5)
    assert known.light_share(known.light_tail) == pytest.approx(0.1)
    assert known.light_share(logit) == pytest.approx(0.01)
    assert -math.log10(known.light_share(logit)) * 25 == pytest.approx(50)


@given(one=st.floats(-10, 10), more=st.floats(0, 10), odds=st.floats(-30, 30), more_odds=st.floats(0, 30))
def test_risk_rises_with_the_scores(networks, one, more, odds, more_odds):
    known = networks.calibration

    assert known.light_share(one + more) <= known.light_share(one) <= 1
    assert known.agreed_share(one + more, odds + more_odds) <= known.agreed_share(one, odds) <= 1


def test_large_network_runs_only_for_uncertain_speech(networks, spoken):
    calm = score_synthetic_speech(spoken("english", 10), networks, max_s=10, windows=1)
    rng = np.random.default_rng(0)
    odd = (rng.standard_normal(80000) * 0.05).astype(np.float32)

    assert calm.network_odds is None
    assert score_synthetic_speech(odd, networks, max_s=10, windows=1).network_odds is not None
    assert score_synthetic_speech(odd, networks, max_s=10, windows=0).network_odds is None


def test_large_network_does_not_run_below_the_threshold(networks, spoken):
    """It only ever lowers the risk: below the threshold the small detector's risk stands."""
    doubtful = spoken("english", 10) + np.random.default_rng(0).normal(0, 0.02, 80000).astype(np.float32)
    eager = replace(networks, calibration=replace(networks.calibration, gate_logit=-99.0))
    both = score_synthetic_speech(doubtful, eager, max_s=10, windows=1)
    alone = score_synthetic_speech(doubtful, eager, max_s=10, windows=0)

    at = score_synthetic_speech(doubtful, eager, max_s=10, windows=1, threshold=alone.risk)
    above = score_synthetic_speech(doubtful, eager, max_s=10, windows=1, threshold=alone.risk + 1)

    assert both.network_odds is not None
    assert both.risk <= alone.risk
    assert at == both
    assert above == alone


@pytest.mark.parametrize(("max_s", "analyzed_s"), [(5, 5), (1, 3), (100, 20)])
def test_analyzed_speech_is_bounded_but_at_least_three_seconds(networks, spoken, max_s, analyzed_s):
    found = score_synthetic_speech(spoken("english", 20), networks, max_s=max_s, windows=0)

    assert found.analyzed_s == analyzed_s


@pytest.mark.parametrize(("seconds", "windows", "count"), [(3, 1, 1), (10, 1, 1), (10, 2, 2), (10, 9, 2)])
def test_network_input_has_at_most_the_given_windows(seconds, windows, count):
    noise = np.random.default_rng(0).standard_normal(seconds * 8000).astype(np.float32)

    found = network_input(noise, windows)

    assert found.shape == (count, NETWORK_SAMPLES)
    assert np.sqrt(np.mean(found**2, axis=1)) == pytest.approx(0.05, rel=1e-3)


@settings(max_examples=25)
@given(
    kind=st.sampled_from(["silence", "constant", "clipped", "tone", "clicks", "noise"]),
    level=st.floats(1e-6, 4.0),
    seed=st.integers(0, 9),
)
def test_features_are_finite_for_any_sound(kind, level, seed):
    rng, time = np.random.default_rng(seed), np.arange(24000 + 17 * seed)
    sound = {
        "silence": np.zeros(len(time)),
        "constant": np.ones(len(time)),
        "clipped": np.sign(rng.standard_normal(len(time))),
        "tone": np.sin(time / 3),
        "clicks": (time % 97 == 0).astype(float),
        "noise": rng.standard_normal(len(time)),
    }[kind]

    found = features((sound * level).astype(np.float32))

    assert found.shape == (FEATURES,)
    assert np.isfinite(found).all()


def test_features_do_not_depend_on_the_volume(spoken):
    sound = spoken("french", 8)

    assert features(sound * np.float32(0.25)) == pytest.approx(features(sound), abs=2e-2)


@pytest.mark.parametrize("scores", [(20, 70), (70, 20)])
def test_several_detectors_give_the_greatest_risk_in_any_order(scores):
    def detector(score):
        return lambda _samples, _limits: SpoofingRisk(score=score, evidence=f"EVIDENCE_{score}")

    found = assess_spoofing(np.zeros(8000, np.float32), DetectionLimits(), map(detector, scores))

    assert found == SpoofingRisk(score=70, evidence="EVIDENCE_70")


def test_detectors_without_enough_speech_are_skipped_unless_all_are():
    def short(_samples, _limits):
        raise NotEnoughSpeech(1.0, 3.0)

    def sure(_samples, _limits):
        return SpoofingRisk(score=10, evidence="TEST")

    silence = np.zeros(8000, np.float32)
    assert assess_spoofing(silence, DetectionLimits(), (short, sure)).score == 10
    with pytest.raises(NotEnoughSpeech):
        assess_spoofing(silence, DetectionLimits(), (short,))


def test_registered_detectors_have_unique_names():
    assert "synthetic-speech" in spoof_detectors()
    with pytest.raises(ValueError, match="synthetic-speech"):
        spoof_detector("synthetic-speech")(lambda _samples, _limits: SpoofingRisk(score=0, evidence=""))


def test_registered_detectors_score_genuine_speech_below_50(spoken):
    assert assess_spoofing(spoken("english", 10), DetectionLimits()).score < 50


DETECTOR = """
from sonant.voice.spoofing.registry import SpoofingRisk, spoof_detector


@spoof_detector("channel-noise")
def detect(samples, limits):
    return SpoofingRisk(score=99, evidence="CHANNEL_NOISE")
"""


def test_a_module_in_the_package_is_all_that_a_detector_needs(tmp_path):
    (tmp_path / "channel_noise.py").write_text(DETECTOR)
    program = (
        "import numpy, sonant.voice.spoofing as package\n"
        f"package.__path__.append({str(tmp_path)!r})\n"
        "from sonant.voice.spoofing.registry import DetectionLimits, assess_spoofing\n"
        "print(assess_spoofing(numpy.zeros(80000, numpy.float32), DetectionLimits()).evidence)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "CHANNEL_NOISE"
