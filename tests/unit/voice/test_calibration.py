"""Calibration: scores as error rates, tails of strangers, and the evidence that a rate needs."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.voice.calibration.fit import deviations, fit_llr, fit_own, fit_upper, measure_support
from sonant.voice.calibration.model import Calibration, Node, Normal, Tail, log10_far_of, score_of

NORMAL = NormalDist()


def grid(**tails):
    """A calibration whose tails at 3 and 10 s, 10 and 30 dB are given as `s3_db10=(mean, deviation)`."""
    nodes = []
    for name, (mean, deviation) in tails.items():
        seconds, noise = name.split("_")
        tail = Tail(z=Normal(mean=mean, deviation=deviation))
        nodes.append(Node(speech_s=float(seconds[1:]), snr_db=float(noise[2:]), tail=tail))
    return Calibration(model_id="m", nodes=tuple(nodes))


ONE = grid(s10_db30=(0.2, 0.1))


# --- the scale


@pytest.mark.parametrize(
    ("far", "score"), [(1, 0), (0.1, 50), (0.01, 80), (0.001, 90), (1e-4, 95), (1e-5, 100), (1e-9, 100)]
)
def test_score_is_the_share_of_strangers_that_reach_it(far, score):
    assert score_of(math.log10(far)) == score


def test_score_is_rounded_down():
    assert score_of(math.log10(0.00101)) == 89


@given(st.integers(0, 100))
def test_score_and_rate_are_inverse(score):
    assert score_of(log10_far_of(score)) == score


@given(st.floats(-20, 0), st.floats(-20, 0))
def test_lower_rate_never_scores_lower(one, other):
    low, high = sorted((one, other))
    assert score_of(low) >= score_of(high)


# --- tails


@pytest.mark.parametrize("far", [0.3, 0.1, 0.01, 0.001, 1e-6])
def test_tail_equals_the_share_of_a_normal_distribution(far):
    tail = Tail(z=Normal(mean=0.2, deviation=0.1))
    similarity = math.tanh(0.2 - 0.1 * NORMAL.inv_cdf(far))
    assert tail.log10_far(similarity) == pytest.approx(math.log10(far), abs=1e-9)
    assert tail.similarity_at(math.log10(far)) == pytest.approx(similarity)


def test_tail_is_continuous_far_out():
    normal = Normal(mean=0.0, deviation=1.0)
    levels = [normal.log10_above(z) for z in np.linspace(25, 38, 400)]
    assert all(np.diff(levels) < 0)
    assert max(abs(np.diff(levels, 2))) < 0.01


def test_tail_is_interpolated_inside_the_grid_and_clamped_outside():
    four = grid(s3_db10=(0.4, 0.1), s3_db30=(0.2, 0.1), s10_db10=(0.3, 0.2), s10_db30=(0.1, 0.2))
    assert four.tail(3, 10) == Tail(z=Normal(mean=0.4, deviation=0.1))
    assert four.tail(1, -5) == four.tail(3, 10)
    assert four.tail(100, 60) == four.tail(10, 30)
    middle = four.tail(math.sqrt(30), 20)
    assert middle.z.mean == pytest.approx(0.25)
    assert middle.z.deviation == pytest.approx(0.15)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_greater_similarity_never_scores_lower(one, other):
    low, high = sorted((one, other))
    assert ONE.score(high, speech_s=10, snr_db=30) >= ONE.score(low, speech_s=10, snr_db=30)


BOTH = replace(ONE, highpass_300hz=grid(s3_db10=(0.5, 0.2), s3_db40=(0.4, 0.2)).nodes)


def test_300_hz_line_has_its_own_tails():
    assert BOTH.tail(10, 30) == ONE.tail(10, 30)
    assert BOTH.tail(10, 10, highpass_300hz=True) == Tail(z=Normal(mean=0.5, deviation=0.2))
    assert BOTH.tail(10, 25, highpass_300hz=True).z.mean == pytest.approx(0.45)
    here = {"speech_s": 10, "snr_db": 30}
    similarity = ONE.tail(10, 30).similarity_at(-3)
    assert BOTH.score(similarity, **here) == 90
    assert BOTH.score(similarity, highpass_300hz=True, **here) < 80
    assert BOTH.log10_far(similarity, highpass_300hz=True, **here) > BOTH.log10_far(similarity, **here)
    assert BOTH.llr(similarity, highpass_300hz=True, **here) < BOTH.llr(similarity, **here)
    strangers = deviations(BOTH, np.array([0.5]), np.array([10.0]), np.array([10.0]), highpass_300hz=True)
    assert strangers == pytest.approx([BOTH.tail(10, 10, highpass_300hz=True).deviations(0.5)])


def test_all_lines_share_the_tails_without_a_300_hz_grid():
    assert ONE.tail(10, 30, highpass_300hz=True) == ONE.tail(10, 30)


@pytest.mark.parametrize(("narrow_mean", "stricter"), [(0.5, True), (0.0, False)])
def test_stricter_tail_applies_to_an_unknown_line(narrow_mean, stricter):
    both = replace(ONE, highpass_300hz=grid(s10_db30=(narrow_mean, 0.1)).nodes)
    assert both.stricter_tail(10, 30, -3) == both.tail(10, 30, highpass_300hz=stricter)


def test_own_calibration_leaves_out_the_300_hz_grid():
    own = BOTH.adapted(1.0, 2.0, -2.5)
    assert own.tail(10, 30, highpass_300hz=True) == own.tail(10, 30)


def test_own_strangers_shift_the_scale():
    own = ONE.adapted(1.0, 2.0, -2.5)
    moved = own.tail(10, 30)
    assert moved == Tail(z=moved.z)
    assert (moved.z.mean, moved.z.deviation) == pytest.approx((0.3, 0.2))
    assert own.supported_log10_far == -2.5
    # A stranger who lies where the shipped calibration saw one in a thousand is nothing special here.
    similarity = ONE.tail(10, 30).similarity_at(-3)
    assert ONE.score(similarity, speech_s=10, snr_db=30) == 90
    assert own.score(similarity, speech_s=10, snr_db=30) < 70


# --- the fit


def strangers(speakers, deviation=0.1, seed=0):
    """All pairs of so many speakers; part of what makes two alike is each one's own."""
    random = np.random.default_rng(seed)
    first, second = np.triu_indices(speakers, 1)
    own = random.normal(0, 0.5, speakers)
    mixed = (own[first] + own[second]) + random.normal(0, math.sqrt(1 - 2 * 0.5**2), len(first))
    return 0.2 + deviation * mixed, first, second


def test_fit_recovers_the_distribution():
    values = np.random.default_rng(1).normal(0.2, 0.1, 50_000)
    tail = fit_upper(values)
    assert tail.mean == pytest.approx(0.2, abs=0.01)
    assert tail.deviation == pytest.approx(0.1, abs=0.005)


def test_fit_uses_only_the_upper_tenth():
    values = np.random.default_rng(1).normal(0.2, 0.1, 20_000)
    middle = np.median(values)
    changed = np.where(values < middle, values - 5, values)
    assert fit_upper(changed).mean == pytest.approx(fit_upper(values).mean)
    assert fit_upper(changed).deviation == pytest.approx(fit_upper(values).deviation)


def test_weight_counts_a_comparison_repeatedly():
    values = np.random.default_rng(2).normal(0, 1, 3000)
    weights = np.random.default_rng(3).integers(0, 4, 3000)
    weighted, repeated = fit_upper(values, weights.astype(float)), fit_upper(np.repeat(values, weights))
    assert weighted.mean == pytest.approx(repeated.mean)
    assert weighted.deviation == pytest.approx(repeated.deviation)


def test_interval_contains_the_true_rate():
    hits = 0
    for seed in range(20):
        support = measure_support(*strangers(120, seed=seed), rounds=60)
        low, high = support.interval(-2)
        truth = math.log10(NORMAL.cdf(-(support.upper.at(-2) - 0.2) / 0.1))
        hits += low <= truth <= high
    assert hits >= 15


def test_more_speakers_support_smaller_rates():
    few, many = (measure_support(*strangers(n), rounds=60).supported_log10_far() for n in (30, 300))
    assert many < few
    assert many <= -3


def test_few_speakers_do_not_support_one_in_a_hundred():
    assert measure_support(*strangers(12), rounds=60).supported_log10_far() > -2


def test_resampling_speakers_gives_wider_intervals_than_comparisons():
    values, first, second = strangers(60)
    by_speaker = measure_support(values, first, second, rounds=100).interval(-2)
    apart = np.arange(len(values))
    by_comparison = measure_support(values, 2 * apart, 2 * apart + 1, rounds=100)
    # Each comparison has two speakers of its own here: drawing them is drawing comparisons.
    low, high = by_comparison.interval(-2)
    assert by_speaker[1] - by_speaker[0] > 1.3 * (high - low)


# --- an installation's own strangers


def test_more_similar_strangers_shift_the_fit():
    values, first, second = strangers(150)
    speech_s, snr_db = np.full(len(values), 10.0), np.full(len(values), 30.0)
    usual, own = (
        fit_own(deviations(ONE, np.tanh(values + more), speech_s, snr_db), first, second)
        for more in (0, 0.05)
    )
    assert own.shift - usual.shift == pytest.approx(0.5)
    assert own.scale == pytest.approx(usual.scale)
    before, after = usual.shipped_log10_far(80), own.shipped_log10_far(80)
    assert before[0] < after[0]
    assert after[1] < after[0] < after[2]


def test_deviations_use_the_tail_of_each_comparison():
    four = grid(s3_db10=(0.4, 0.1), s3_db30=(0.2, 0.1), s10_db10=(0.3, 0.2), s10_db30=(0.1, 0.2))
    found = deviations(
        four, np.tanh([0.5, 0.5, 0.3]), np.array([3.0, 10.0, 10.0]), np.array([10.0, 10.0, 30.0])
    )
    assert found == pytest.approx([1.0, 1.0, 1.0])


# --- likelihood ratios


def test_likelihood_ratio_of_two_normal_distributions():
    random = np.random.default_rng(4)
    slope, offset = fit_llr(random.normal(3, 1, 20_000), random.normal(0, 1, 50_000))
    # log N(z; 3, 1) - log N(z; 0, 1) = 3 z - 4.5
    assert slope == pytest.approx(3, abs=0.15)
    assert offset == pytest.approx(-4.5, abs=0.25)


def test_likelihood_ratio_without_overlap_is_finite():
    slope, offset = fit_llr(np.linspace(5, 6, 50), np.linspace(-1, 1, 50))
    assert 0 < slope < 100
    assert math.isfinite(offset)


def test_likelihood_ratio_uses_the_scale_of_the_tail():
    sharp = replace(ONE, llr_slope=3.0, llr_offset=-4.5)
    assert sharp.llr(math.tanh(0.35), speech_s=10, snr_db=30) == pytest.approx(0.0)
