"""The known-fraudster risk: its meaning, for every length of list."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.voice.calibration.model import Normal, Tail
from sonant.voice.scoring import fraudster_similarity, known_fraudster_risk

TAIL = Tail(z=Normal(mean=1.0, deviation=0.2))
LENGTHS = (1, 10, 100, 500, 10_000, 1_000_000)


def at(share, length):
    """The similarity that this share of honest calls reaches against a list of that length."""
    return TAIL.similarity_at(math.log10(-math.expm1(math.log1p(-share) / length)))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    ("share", "score"),
    [(0.9999, 0), (0.1, 25), (1e-2, 50), (1e-3, 67), (1e-4, 83), (1.01e-5, 100), (1e-5, 100), (1e-7, 100)],
)
def test_risk_is_the_share_of_honest_calls_for_any_list_length(length, share, score):
    assert known_fraudster_risk(at(share, length), length, TAIL) == score


@pytest.mark.parametrize("length", [10, 100, 500])
def test_one_honest_call_in_a_hundred_reaches_risk_50(length):
    """Strangers drawn from the very distribution: counted, not computed."""
    rng = np.random.default_rng(length)
    calls = 20_000
    nearest = np.tanh(np.max(rng.normal(TAIL.z.mean, TAIL.z.deviation, (calls, length)), axis=1))
    flagged = sum(known_fraudster_risk(float(one), length, TAIL) >= 50 for one in nearest) / calls
    assert 0.008 < flagged < 0.0125


def test_empty_list_has_no_risk():
    assert known_fraudster_risk(1.0, 0, TAIL) == 0


@pytest.mark.parametrize("length", LENGTHS)
def test_risk_at_the_ends_of_the_scale(length):
    assert known_fraudster_risk(1.0000001, length, TAIL) == 100  # float32 rounds so
    assert known_fraudster_risk(1.0, length, TAIL) == 100
    assert known_fraudster_risk(-1.0, length, TAIL) == 0


@given(st.floats(-1, 1), st.floats(-1, 1), st.integers(1, 10**7), st.integers(1, 10**7))
def test_risk_rises_with_similarity_and_falls_with_list_length(one, other, length, longer):
    low, high = sorted((one, other))
    short, long = sorted((length, longer))
    assert 0 <= known_fraudster_risk(low, short, TAIL) <= known_fraudster_risk(high, short, TAIL) <= 100
    assert known_fraudster_risk(low, long, TAIL) <= known_fraudster_risk(low, short, TAIL)


def test_fraudster_similarity_has_the_scale_of_the_risk():
    assert fraudster_similarity(at(1e-2, 300), 300, TAIL) == 50
