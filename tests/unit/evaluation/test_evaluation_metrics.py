"""Error rates, against cases computed by hand, against scikit-learn, and by their own properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sonant.errors import NotEnoughTrials
from sonant.evaluation import metrics

# Ten comparisons on paper. Rising: i.1 i.2 g.3 i.4 g.5 i.6 g.7 g.8 (and two impostors below all).
GENUINE = np.array([0.3, 0.5, 0.7, 0.8])
IMPOSTOR = np.array([-0.2, 0.0, 0.1, 0.2, 0.4, 0.6])

scores = arrays(np.float64, st.integers(1, 40), elements=st.integers(-20, 20).map(lambda n: n / 4))


def rates(curve: metrics.Det, threshold: float) -> tuple[float, float]:
    at = int(np.flatnonzero(curve.threshold == threshold)[0])
    return float(curve.fmr[at]), float(curve.fnmr[at])


def test_det_counts_both_sides_of_each_threshold():
    curve = metrics.det(GENUINE, IMPOSTOR)

    assert len(curve.threshold) == 11  # ten distinct scores, and one that nothing reaches
    assert rates(curve, -0.2) == (1.0, 0.0)
    assert rates(curve, 0.3) == pytest.approx((2 / 6, 0.0))
    assert rates(curve, 0.5) == pytest.approx((1 / 6, 1 / 4))
    assert rates(curve, 0.7) == pytest.approx((0.0, 2 / 4))
    assert rates(curve, np.inf) == (0.0, 1.0)


def test_score_equal_to_the_threshold_is_a_match():
    curve = metrics.det(np.array([1.0, 1.0]), np.array([1.0, 0.0]))

    assert rates(curve, 1.0) == (0.5, 0.0)
    assert float(metrics.match_rate(np.array([1.0, 0.0]), 1.0)) == 0.5


def test_equal_error_rate_is_where_the_rates_cross():
    # From threshold 0.4 (FMR 2/6, FNMR 1/4) to 0.5 (FMR 1/6, FNMR 1/4): they cross at FMR = FNMR = 1/4.
    assert float(metrics.equal_error_rate(metrics.det(GENUINE, IMPOSTOR))) == pytest.approx(0.25)


def test_uninformative_scores_have_an_equal_error_rate_of_a_half():
    assert float(metrics.equal_error_rate(metrics.det(np.zeros(3), np.zeros(5)))) == pytest.approx(0.5)


def test_detection_cost_weights_errors_by_the_prior():
    curve = metrics.det(GENUINE, IMPOSTOR)

    # At 0.7: FNMR 2/4, FMR 0, so 0.01 * 0.5 / 0.01 = 0.5; at 0.3: 0.99 * 2/6 / 0.01 = 33.
    assert float(metrics.min_dcf(curve, 0.01)) == pytest.approx(0.5)
    # With even odds: min over t of (FNMR + FMR) / 2 / 0.5, least at 0.3: 0 + 2/6.
    assert float(metrics.min_dcf(curve, 0.5)) == pytest.approx(2 / 6)


def test_fnmr_is_taken_at_the_lowest_threshold_for_the_fmr():
    curve = metrics.det(GENUINE, IMPOSTOR)

    assert float(metrics.fnmr_at_fmr(curve, 0.001)) == pytest.approx(2 / 4)
    assert float(metrics.fnmr_at_fmr(curve, 1 / 6)) == pytest.approx(1 / 4)


def test_cllr_is_one_without_and_zero_with_full_information():
    assert float(metrics.cllr(np.zeros(4), np.zeros(9))) == pytest.approx(1.0)
    assert float(metrics.cllr(np.full(4, 50.0), np.full(9, -50.0))) == pytest.approx(0.0, abs=1e-12)
    # log2(1 + 1/3) for genuine, log2(1 + 1/7) for impostor, halved.
    found = float(metrics.cllr(np.log([3.0, 3.0]), np.log([1 / 7])))
    assert found == pytest.approx((np.log2(4 / 3) + np.log2(8 / 7)) / 2)


def test_pooling_joins_violators():
    best = metrics.pool_adjacent_violators(GENUINE, IMPOSTOR)

    # Blocks: four impostors; g.3 with i.4; g.5 with i.6; two genuine. The middle two have the same ratio.
    assert best.genuine_share.tolist() == pytest.approx([0, 2 / 4, 2 / 4])
    assert best.impostor_share.tolist() == pytest.approx([4 / 6, 2 / 6, 0])
    assert metrics.min_cllr(best) == pytest.approx(
        0.5 * (0.5 * np.log2(1 + (2 / 6) / 0.5) + (2 / 6) * np.log2(1 + 0.5 / (2 / 6)))
    )


def test_separated_scores_have_a_min_cllr_of_zero():
    assert metrics.min_cllr(metrics.pool_adjacent_violators(GENUINE + 2, IMPOSTOR)) == 0


@pytest.mark.parametrize(
    ("have", "rate", "need"),
    [(2_999, 0.001, 3_000), (299, 0.01, 300), (0, 0.5, 6)],
)
def test_fewer_comparisons_than_the_rule_of_3_are_refused(have, rate, need):
    with pytest.raises(NotEnoughTrials, match=f"not supported by {have:,} comparisons: at least {need:,}"):
        metrics.need_comparisons(have, rate)
    metrics.need_comparisons(need, rate)


def test_figures_with_fewer_than_30_errors_are_rough():
    assert metrics.rough(29_999, 0.001)
    assert not metrics.rough(30_000, 0.001)


@pytest.mark.parametrize("missing", [(np.empty(0), IMPOSTOR), (GENUINE, np.empty(0))])
def test_no_comparisons_raise_not_enough_trials(missing):
    for count in (metrics.det, metrics.cllr, metrics.pool_adjacent_violators):
        with pytest.raises(NotEnoughTrials):
            count(*missing)


@given(scores, scores)
def test_det_agrees_with_scikit_learn(genuine, impostor):
    from sklearn.metrics import roc_curve  # here, so that no run loads it that has no need of it

    curve = metrics.det(genuine, impostor)
    truth = np.concatenate([np.ones(len(genuine)), np.zeros(len(impostor))])
    fpr, tpr, thresholds = roc_curve(truth, np.concatenate([genuine, impostor]), drop_intermediate=False)

    np.testing.assert_array_equal(curve.threshold[::-1], thresholds)
    np.testing.assert_allclose(curve.fmr[::-1], fpr, atol=1e-12)
    np.testing.assert_allclose(curve.fnmr[::-1], 1 - tpr, atol=1e-12)


@given(scores, scores)
def test_min_cllr_agrees_with_scikit_learn(genuine, impostor):
    from sklearn.isotonic import IsotonicRegression

    every = np.concatenate([genuine, impostor])
    truth = np.concatenate([np.ones(len(genuine)), np.zeros(len(impostor))])
    weight = np.where(truth == 1, 0.5 / len(genuine), 0.5 / len(impostor))  # even odds
    posterior = IsotonicRegression(y_min=0, y_max=1).fit_transform(every, truth, sample_weight=weight)
    with np.errstate(divide="ignore"):
        cost = -np.where(truth == 1, np.log2(posterior), np.log2(1 - posterior))

    found = metrics.min_cllr(metrics.pool_adjacent_violators(genuine, impostor))

    assert found == pytest.approx(float((weight * cost).sum()), abs=1e-9)


@given(scores, scores)
def test_rates_are_monotonic_and_the_eer_lies_on_both(genuine, impostor):
    curve = metrics.det(genuine, impostor)

    assert (np.diff(curve.fmr) <= 1e-12).all() and (np.diff(curve.fnmr) >= -1e-12).all()
    rate = float(metrics.equal_error_rate(curve))
    above = curve.fmr > rate + 1e-9
    assert (curve.fnmr[above] <= rate + 1e-9).all()  # while FMR is over the rate, FNMR is under it


@given(scores, scores)
def test_ranking_figures_do_not_depend_on_the_scale(genuine, impostor):
    def figures(g, i):
        curve = metrics.det(g, i)
        best = metrics.min_cllr(metrics.pool_adjacent_violators(g, i))
        return [float(metrics.equal_error_rate(curve)), float(metrics.min_dcf(curve, 0.01)), best]

    assert figures(np.exp(genuine), np.exp(impostor)) == pytest.approx(figures(genuine, impostor))


@given(scores, scores)
def test_costs_lie_between_zero_and_no_information(genuine, impostor):
    curve = metrics.det(genuine, impostor)

    assert 0 <= float(metrics.min_dcf(curve, 0.01)) <= 1 + 1e-12
    assert -1e-12 <= metrics.min_cllr(metrics.pool_adjacent_violators(genuine, impostor)) <= 1 + 1e-12
    assert metrics.min_cllr(metrics.pool_adjacent_violators(genuine, impostor)) <= (
        float(metrics.cllr(genuine, impostor)) + 1e-12
    )


@given(scores, scores, st.integers(0, 2**32 - 1))
def test_weight_of_two_equals_counting_twice(genuine, impostor, seed):
    rng = np.random.default_rng(seed)
    g, i = rng.integers(0, 3, len(genuine)), rng.integers(0, 3, len(impostor))
    g[0], i[0] = 1, 1
    twice = np.repeat(genuine, g), np.repeat(impostor, i)

    weights = g[None].astype(float), i[None].astype(float)
    weighted = metrics.det(genuine, impostor, *weights)
    counted = metrics.det(*twice)

    assert metrics.equal_error_rate(weighted)[0] == pytest.approx(float(metrics.equal_error_rate(counted)))
    assert metrics.min_dcf(weighted, 0.01)[0] == pytest.approx(float(metrics.min_dcf(counted, 0.01)))
    assert metrics.fnmr_at_fmr(weighted, 0.1)[0] == pytest.approx(float(metrics.fnmr_at_fmr(counted, 0.1)))
    assert metrics.min_cllr_weighted(genuine, impostor, *weights)[0] == pytest.approx(
        metrics.min_cllr(metrics.pool_adjacent_violators(*twice)), abs=1e-9
    )


@given(scores, scores, st.integers(0, 2**32 - 1))
def test_corners_of_the_det_give_the_same_figures(genuine, impostor, seed):
    rng = np.random.default_rng(seed)
    g, i = rng.integers(0, 3, (4, len(genuine))), rng.integers(0, 3, (4, len(impostor)))
    g[:, 0], i[:, 0] = 1, 1
    whole = metrics.det(genuine, impostor, g.astype(float), i.astype(float))
    corners = metrics.corners(genuine, impostor)
    part = metrics.det(genuine, impostor, g.astype(float), i.astype(float), thresholds=corners)

    np.testing.assert_allclose(metrics.equal_error_rate(part), metrics.equal_error_rate(whole), atol=1e-12)
    np.testing.assert_allclose(metrics.min_dcf(part, 0.01), metrics.min_dcf(whole, 0.01), atol=1e-12)
    np.testing.assert_allclose(metrics.fnmr_at_fmr(part, 0.1), metrics.fnmr_at_fmr(whole, 0.1), atol=1e-12)
