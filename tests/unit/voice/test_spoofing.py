"""Spoofing risk: its scale, its bounds, and that genuine telephone speech is mostly left alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonant.errors import NotEnoughSpeech
from sonant.voice.spoofing.detector import NETWORK_SAMPLES, network_input, spoofing_risk
from sonant.voice.spoofing.features import FEATURES, features
from sonant.voice.spoofing.models import load_spoofing_models


@pytest.fixture(scope="module")
def networks():
    return load_spoofing_models()


def test_below_three_seconds_there_is_no_score(networks):
    with pytest.raises(NotEnoughSpeech):
        spoofing_risk(np.zeros(23999, np.float32), networks, max_s=10, windows=1)


def test_genuine_telephone_speech_stays_below_50(networks, spoken):
    risks = [
        spoofing_risk(spoken(voice, 10, first), networks, max_s=10, windows=1).risk
        for voice in ("english", "french", "russian")
        for first in (0, 20)
    ]

    assert max(risks) < 50


def test_risk_50_is_what_one_genuine_recording_in_a_hundred_reaches(networks):
    known = networks.calibration
    logit = known.light_tail + known.light_scale * math.log(10)

    assert known.light_share(known.light_middle) == pytest.approx(0.5)
    assert known.light_share(known.light_tail) == pytest.approx(0.1)
    assert known.light_share(logit) == pytest.approx(0.01)
    assert -math.log10(known.light_share(logit)) * 25 == pytest.approx(50)


@given(one=st.floats(-10, 10), more=st.floats(0, 10), odds=st.floats(-30, 30), more_odds=st.floats(0, 30))
def test_a_higher_score_is_never_a_lower_risk(networks, one, more, odds, more_odds):
    known = networks.calibration

    assert known.light_share(one + more) <= known.light_share(one) <= 1
    assert known.agreed_share(one + more, odds + more_odds) <= known.agreed_share(one, odds) <= 1


def test_the_large_network_is_asked_in_doubt_only_and_never_when_that_is_set(networks, spoken):
    calm = spoofing_risk(spoken("english", 10), networks, max_s=10, windows=1)
    rng = np.random.default_rng(0)
    odd = (rng.standard_normal(80000) * 0.05).astype(np.float32)

    assert calm.network_odds is None
    assert spoofing_risk(odd, networks, max_s=10, windows=1).network_odds is not None
    assert spoofing_risk(odd, networks, max_s=10, windows=0).network_odds is None


def test_the_large_network_is_not_asked_where_its_word_could_change_nothing(networks, spoken):
    """It only ever lowers the risk: below the threshold the small detector's risk stands."""
    doubtful = spoken("english", 10) + np.random.default_rng(0).normal(0, 0.02, 80000).astype(np.float32)
    eager = replace(networks, calibration=replace(networks.calibration, gate_logit=-99.0))
    asked = spoofing_risk(doubtful, eager, max_s=10, windows=1)
    alone = spoofing_risk(doubtful, eager, max_s=10, windows=0)

    at = spoofing_risk(doubtful, eager, max_s=10, windows=1, ask_from=alone.risk)
    above = spoofing_risk(doubtful, eager, max_s=10, windows=1, ask_from=alone.risk + 1)

    assert asked.network_odds is not None
    assert asked.risk <= alone.risk
    assert at == asked
    assert above == alone


@pytest.mark.parametrize(("max_s", "heard_s"), [(5, 5), (1, 3), (100, 20)])
def test_no_more_is_heard_than_is_set_but_three_seconds_are(networks, spoken, max_s, heard_s):
    found = spoofing_risk(spoken("english", 20), networks, max_s=max_s, windows=0)

    assert found.heard_s == heard_s


@pytest.mark.parametrize(("seconds", "windows", "count"), [(3, 1, 1), (10, 1, 1), (10, 2, 2), (10, 9, 2)])
def test_the_large_network_hears_at_most_so_many_windows(seconds, windows, count):
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
def test_any_sound_has_finite_features(kind, level, seed):
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
