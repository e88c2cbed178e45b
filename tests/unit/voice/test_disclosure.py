"""Scores in bands: what is told fits the decision and is nothing else than a band."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.voice.disclosure import RISK_BANDS, SCORE_BANDS, coarse_score

scores = st.integers(0, 100)


@pytest.mark.parametrize(
    ("score", "told"), [(0, 0), (79, 0), (80, 80), (89, 80), (90, 90), (99, 90), (100, 100)]
)
def test_score_without_a_threshold_is_the_lower_end_of_its_band(score: int, told: int) -> None:
    assert coarse_score(score, SCORE_BANDS) == told


@pytest.mark.parametrize(
    ("score", "threshold", "told"),
    [
        # Rejected: the band only, however near the threshold is.
        (89, 90, 80),
        (60, 90, 0),
        (95, 99, 90),
        # Accepted: at least the threshold, so that programs that compare the two agree with the decision.
        (45, 40, 40),
        (95, 93, 93),
        (100, 93, 100),
        (0, 0, 0),
    ],
)
def test_score_with_a_threshold_is_a_band_on_its_side(score: int, threshold: int, told: int) -> None:
    assert coarse_score(score, SCORE_BANDS, threshold=threshold) == told


@given(scores, scores, st.integers(0, 100), st.sampled_from([SCORE_BANDS, RISK_BANDS]))
def test_told_score_always_gives_the_same_decision(
    score: int, threshold: int, within: int, bands: tuple[int, ...]
) -> None:
    told = coarse_score(score, bands, threshold=threshold, exact_within=within)
    assert (told >= threshold) == (score >= threshold)
    assert told <= score


@given(scores, scores)
def test_told_scores_of_one_threshold_are_few(score: int, threshold: int) -> None:
    assert coarse_score(score, SCORE_BANDS, threshold=threshold) in {*SCORE_BANDS, threshold}


@pytest.mark.parametrize(("score", "told"), [(84, 80), (85, 85), (95, 95), (96, 90)])
def test_score_near_the_threshold_is_exact_where_the_setting_says_so(score: int, told: int) -> None:
    assert coarse_score(score, SCORE_BANDS, threshold=90, exact_within=5) == told


@given(scores, scores)
def test_the_greatest_distance_makes_all_scores_exact(score: int, threshold: int) -> None:
    assert coarse_score(score, SCORE_BANDS, threshold=threshold, exact_within=100) == score
