"""Spoofing detection: the scale, the bounds, genuine telephone speech, and several detectors."""

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
from sonant.voice.spoofing.tail import risk_of


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


def in_doubt(networks, **changes):
    """The networks, with the large one run for every recording and of as much weight as the small one."""
    known = replace(
        networks.calibration, network_from=-99.0, network_weight=1.0, network_bound=0.5, **changes
    )
    return replace(networks, calibration=known)


def test_large_network_adds_bounded_evidence_only(networks, spoken):
    """Whatever it says, it takes no more from what the small one found than its bound."""
    sound = spoken("english", 10)
    alone = score_synthetic_speech(sound, networks, max_s=10, windows=0)
    heard = score_synthetic_speech(sound, in_doubt(networks), max_s=10, windows=1)
    cleared = score_synthetic_speech(sound, in_doubt(networks, network_middle=1e6), max_s=10, windows=1)
    alarmed = score_synthetic_speech(sound, in_doubt(networks, network_middle=-1e6), max_s=10, windows=1)

    assert alone.network_odds is None
    assert heard.network_odds is not None
    assert cleared.logit == pytest.approx(alone.logit - 0.5)
    assert alarmed.logit == pytest.approx(alone.logit + 0.5)
    assert cleared.share > heard.share > alarmed.share or heard.share in (cleared.share, alarmed.share)


def test_large_network_runs_only_where_the_small_one_is_in_doubt(networks, spoken):
    sound = spoken("english", 10)
    sure = replace(networks, calibration=replace(in_doubt(networks).calibration, network_from=99.0))

    assert score_synthetic_speech(sound, in_doubt(networks), max_s=10, windows=1).network_odds is not None
    assert score_synthetic_speech(sound, in_doubt(networks), max_s=10, windows=0).network_odds is None
    assert score_synthetic_speech(sound, sure, max_s=10, windows=1).network_odds is None
    useless = replace(networks, calibration=replace(in_doubt(networks).calibration, network_weight=0.0))
    assert score_synthetic_speech(sound, useless, max_s=10, windows=1).network_odds is None


def test_large_network_does_not_run_where_it_cannot_reach_the_threshold(networks, spoken):
    sound, doubtful = spoken("english", 10), in_doubt(networks)
    most = doubtful.calibration.together.share(
        score_synthetic_speech(sound, networks, max_s=10, windows=0).logit + 0.5
    )

    at = score_synthetic_speech(sound, doubtful, max_s=10, windows=1, threshold=risk_of(most))
    above = score_synthetic_speech(sound, doubtful, max_s=10, windows=1, threshold=risk_of(most) + 1)

    assert at.network_odds is not None
    assert above.network_odds is None
    assert above.risk < risk_of(most) + 1


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
