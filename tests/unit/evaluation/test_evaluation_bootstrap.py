"""Intervals by resampling speakers."""

from __future__ import annotations

import numpy as np
import pytest

from sonant.evaluation import bootstrap, metrics
from sonant.evaluation.bootstrap import Comparisons


def everybody_with_everybody(offsets: np.ndarray, each: int, seed: int) -> Comparisons:
    """`each` genuine comparisons a speaker and as many of every two; a speaker's genuine scores lie higher or
    lower by his own offset."""
    rng = np.random.default_rng(seed)
    count = len(offsets)
    one, two = np.nonzero(~np.eye(count, dtype=bool))
    pairs = np.repeat(np.stack([one, two], axis=1), each, axis=0)
    own = np.repeat(np.arange(count), each)
    return Comparisons(
        genuine=rng.normal(3, 1, count * each) + offsets[own],
        impostor=rng.normal(0, 1, len(pairs)),
        genuine_speaker=own,
        impostor_speakers=pairs,
        speakers=count,
    )


def equal_error_rates(comparisons: Comparisons):
    return lambda g, i: {
        "eer": metrics.equal_error_rate(metrics.det(comparisons.genuine, comparisons.impostor, g, i))
    }


def test_interval_contains_the_figure():
    comparisons = everybody_with_everybody(np.zeros(8), 40, seed=1)
    eer = float(metrics.equal_error_rate(metrics.det(comparisons.genuine, comparisons.impostor)))

    found = bootstrap.intervals(comparisons, equal_error_rates(comparisons), seed=1)["eer"]

    assert found.low <= eer <= found.high
    assert found.high - found.low < 0.03


def test_one_easily_confused_speaker_widens_the_interval():
    alike = everybody_with_everybody(np.zeros(8), 40, seed=1)
    one_bad = everybody_with_everybody(np.array([0, 0, 0, 0, 0, 0, 0, -3.0]), 40, seed=1)

    even = bootstrap.intervals(alike, equal_error_rates(alike), seed=1)["eer"]
    uneven = bootstrap.intervals(one_bad, equal_error_rates(one_bad), seed=1)["eer"]

    assert uneven.high - uneven.low > 2 * (even.high - even.low)


def test_interval_of_a_mean_equals_the_theoretical_one():
    # Each speaker's genuine comparisons all fail or all pass: the FNMR is a share of speakers, so its
    # standard deviation over draws is sqrt(p (1 - p) / speakers), however many comparisons there are.
    offsets = np.where(np.arange(40) % 4 == 0, -100.0, 100.0)
    comparisons = everybody_with_everybody(offsets, 3, seed=3)
    rate = {"fnmr": lambda g: 1 - metrics.match_rate(comparisons.genuine, 0.0, g)}

    found = bootstrap.intervals(comparisons, lambda g, _i: {"fnmr": rate["fnmr"](g)}, seed=1)["fnmr"]

    half = 1.96 * np.sqrt(0.25 * 0.75 / 40)
    assert (found.low, found.high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.04)


def test_equal_seeds_give_equal_intervals():
    comparisons = everybody_with_everybody(np.zeros(8), 10, seed=1)
    first, second, third = (
        bootstrap.intervals(comparisons, equal_error_rates(comparisons), seed=seed)["eer"]
        for seed in (1, 1, 2)
    )

    assert first == second != third


def test_two_speakers_have_no_interval():
    comparisons = everybody_with_everybody(np.zeros(2), 30, seed=1)

    assert bootstrap.intervals(comparisons, equal_error_rates(comparisons), seed=1) == {}


def test_draws_without_impostors_are_repeated():
    # Of three speakers one draw in nine holds a single one, whose impostor comparisons all weigh nothing.
    comparisons = everybody_with_everybody(np.zeros(3), 20, seed=1)

    found = bootstrap.intervals(comparisons, equal_error_rates(comparisons), seed=1)["eer"]

    assert 0 <= found.low <= found.high <= 1


def test_min_cllr_has_an_interval():
    comparisons = everybody_with_everybody(np.zeros(8), 30, seed=1)
    best = metrics.min_cllr(metrics.pool_adjacent_violators(comparisons.genuine, comparisons.impostor))

    found = bootstrap.intervals(
        comparisons,
        lambda g, i: {"min": metrics.min_cllr_weighted(comparisons.genuine, comparisons.impostor, g, i)},
        seed=1,
        replicates=bootstrap.PAV_REPLICATES,
    )["min"]

    assert found.low <= best <= found.high
