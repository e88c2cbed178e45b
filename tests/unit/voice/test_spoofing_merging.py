"""Risks of several detectors: shares of genuine speech, how they are merged, and own calibrations."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.errors import SetupError
from sonant.voice.spoofing.merging import fit_factor, merged_share
from sonant.voice.spoofing.own_calibration import (
    GenuineScores,
    OwnSpoofingCalibration,
    false_alarm_interval,
    fit_own,
)
from sonant.voice.spoofing.tail import GenuineTail, fit_tail, risk_of, share_of

TAIL = GenuineTail(middle=-1.0, tail=2.0, scale=0.5)


def test_half_a_tenth_and_a_hundredth_reach_the_scores_that_say_so():
    assert TAIL.share(-1.0) == pytest.approx(0.5)
    assert TAIL.share(2.0) == pytest.approx(0.1)
    assert TAIL.share(2.0 + 0.5 * math.log(10)) == pytest.approx(0.01)
    assert TAIL.score_of(0.01) == pytest.approx(2.0 + 0.5 * math.log(10))


def test_a_hundredth_is_a_risk_of_50_and_a_ten_thousandth_100():
    assert [risk_of(share) for share in (1.0, 0.1, 0.01, 1e-4, 1e-300)] == [0, 25, 50, 100, 100]
    assert share_of(50) == pytest.approx(0.01)


@given(score=st.floats(-50, 50), more=st.floats(0, 50))
def test_share_falls_with_the_score_and_is_a_share(score, more):
    assert 0 < TAIL.share(score + more) <= TAIL.share(score) <= 1


def test_fitted_tail_states_the_shares_of_other_recordings():
    rng = np.random.default_rng(1)
    tail = fit_tail(rng.logistic(0, 1, 4000))
    other = rng.logistic(0, 1, 100_000)

    for share in (0.05, 0.01, 0.002):
        assert np.mean(other >= tail.score_of(share)) == pytest.approx(share, rel=0.35)


def test_weighted_recordings_count_as_often_as_their_weight():
    rng = np.random.default_rng(2)
    few, many = rng.normal(3, 1, 100), rng.normal(0, 1, 900)
    alike = fit_tail(np.concatenate([few, many]), np.concatenate([np.full(100, 9.0), np.full(900, 1.0)]))

    assert alike.middle == pytest.approx(1.5, abs=0.3)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (np.arange(19.0), "19 scores are too few"),
        (np.full(100, 1.0), "same score"),
        (np.append(np.arange(50.0), np.nan), "not finite"),
    ],
)
def test_scores_that_have_no_tail_are_refused(scores, said):
    with pytest.raises(ValueError, match=said):
        fit_tail(scores)


def test_a_detector_that_finds_nothing_clears_nothing():
    """There is no veto: what one detector is certain of stays."""
    assert merged_share([1e-4, 1.0, 0.9], 1.0) == 1e-4
    assert merged_share([1e-4], 1.0) == 1e-4
    assert merged_share([0.9, 0.8], 2.0) == 1.0


@pytest.mark.parametrize(("same", "factor"), [(True, 1.0), (False, 3.0)])
def test_factor_grows_from_one_with_the_independence_of_detectors(same, factor):
    rng = np.random.default_rng(3)
    one = rng.uniform(size=(20_000, 1))
    shares = np.repeat(one, 3, axis=1) if same else rng.uniform(size=(20_000, 3))

    found = fit_factor(shares)

    assert found == pytest.approx(factor, rel=0.1)
    merged = np.array([merged_share(row.tolist(), found) for row in shares])
    assert np.mean(merged <= 0.01) == pytest.approx(0.01, rel=0.35)


def genuine(people=120, each=3, detectors=2, seed=4):
    """Scores of genuine recordings: what is the person's is the same in all of them."""
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(people), each)
    person = rng.normal(0, 1, people)[number]
    alone, *added = (0.5 * person + rng.logistic(0, 1, len(number)) for _ in range(detectors))
    return GenuineScores(
        people=number,
        alone=alone,
        together=alone + rng.normal(0, 0.1, len(number)),
        added={f"own-{place}": scores for place, scores in enumerate(added)},
    )


def test_own_calibration_flags_the_stated_share_of_other_people():
    made = fit_own(genuine(people=400))
    others = genuine(people=4000, seed=5)

    assert others.flagged(made, 50).mean() == pytest.approx(0.01, abs=0.006)
    assert others.flagged(made, 25).mean() == pytest.approx(0.1, abs=0.03)


def test_interval_of_false_alarms_contains_those_of_other_people():
    known, others = genuine(), genuine(people=4000, seed=6)
    low, high = false_alarm_interval(known, 50)

    assert 0 <= low <= others.flagged(fit_own(known), 50).mean() <= high < 0.1


def test_more_detectors_raise_no_more_false_alarms():
    one, three = (fit_own(genuine(people=400, detectors=count)) for count in (1, 3))

    assert one.factor == 1.0
    assert 1.5 < three.factor <= 3.0
    assert genuine(people=4000, detectors=3, seed=7).flagged(three, 50).mean() < 0.02


def test_calibration_is_read_as_it_was_written():
    made = fit_own(genuine())

    assert OwnSpoofingCalibration.parse(made.document()) == made


@pytest.mark.parametrize(
    "changes",
    [
        {"factor": 0.5},
        {"factor": None},
        {"added": {"x": {}}},
        {"alone": {"middle": 1, "tail": 0, "scale": 1}},
    ],
    ids=str,
)
def test_damaged_calibration_is_not_parsed(changes):
    with pytest.raises((ValueError, KeyError, TypeError)):
        OwnSpoofingCalibration.parse(fit_own(genuine()).document() | changes)


@pytest.mark.parametrize(("people", "each"), [(49, 4), (60, 1)])
def test_too_few_people_or_recordings_are_refused(people, each):
    with pytest.raises(SetupError, match="too few"):
        fit_own(genuine(people=people, each=each))


def test_a_detector_without_variation_cannot_be_calibrated():
    known = genuine()
    same = replace(known, added={"own-0": np.zeros(len(known.people))})

    with pytest.raises(SetupError, match="cannot be calibrated"):
        fit_own(same)
