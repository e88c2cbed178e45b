"""Calibration grids: fitted tails equal the true ones, and claims stay within the evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sonant.errors import SetupError
from sonant.voice.calibration.grid import MIN_COMPARISONS, ComparisonTable, concatenate, fit_grid
from sonant.voice.calibration.model import log10_far_of

#: What strangers' z is drawn from: mean and deviation, by seconds of speech.
DRAWN = {3.0: (0.30, 0.12), 10.0: (0.20, 0.08)}
NOISY = 0.05
"""So much higher under 12 dB."""


def compared(people: int, speech_s: float, snr_db: float, each: int = 1, seed: int = 1) -> ComparisonTable:
    """Everyone with everyone else, `each` times."""
    random = np.random.default_rng([seed, round(speech_s), round(snr_db)])
    first, second = (places.repeat(each) for places in np.nonzero(~np.eye(people, dtype=bool)))
    mean, deviation = DRAWN[speech_s]
    z = random.normal(mean + (NOISY if snr_db < 12 else 0), deviation, len(first))
    return ComparisonTable(
        similarity=np.tanh(z), first=first, second=second, speech_s=np.full(len(first), speech_s),
        snr_db=np.full(len(first), snr_db) + random.normal(0, 0.5, len(first)),
    )  # fmt: skip


def everywhere(people: int, each: int = 1) -> ComparisonTable:
    return concatenate([compared(people, length, noise, each) for length in DRAWN for noise in (8.0, 25.0)])


def test_grid_recovers_the_tail_of_each_length_and_noise():
    found = fit_grid("made", everywhere(120))

    nodes = {(node.speech_s, round(node.snr_db)): node.tail.z for node in found.calibration.nodes}
    assert set(nodes) == {(length, noise) for length in DRAWN for noise in (8, 25)}
    for (length, noise), normal in nodes.items():
        mean, deviation = DRAWN[length]
        assert normal.mean == pytest.approx(mean + (NOISY if noise < 12 else 0), abs=0.03)
        assert normal.deviation == pytest.approx(deviation, rel=0.15)
    assert found.counts == (120 * 119,) * 4
    assert found.calibration.model_id == "made"


def test_score_has_its_rate_at_every_node():
    drawn = everywhere(120)
    made = fit_grid("made", drawn).calibration

    for length in DRAWN:
        there = drawn.select(drawn.speech_s == length)
        reached = [
            made.log10_far(one, speech_s=length, snr_db=noise) <= log10_far_of(80)
            for one, noise in zip(there.similarity.tolist(), there.snr_db.tolist(), strict=True)
        ]
        assert 0.006 < np.mean(reached) < 0.016


def test_more_comparisons_of_the_same_people_add_no_support():
    found = fit_grid("made", everywhere(30, each=10))

    assert found.support.pairs == 30 * 29 // 2
    assert found.calibration.supported_log10_far >= np.log10(30 / (30 * 29 // 2)) - 1


def test_level_of_noise_with_too_few_comparisons_is_left_out():
    little = compared(120, 3.0, 8.0).select(np.arange(MIN_COMPARISONS - 1))
    rest = [compared(120, 3.0, 25.0), compared(120, 10.0, 8.0), compared(120, 10.0, 25.0)]

    found = fit_grid("made", concatenate([little, *rest]))

    assert {round(node.snr_db) for node in found.calibration.nodes} == {25}


def test_too_few_comparisons_are_refused():
    for few in (compared(20, 3.0, 25.0), compared(20, 3.0, 25.0).select(np.zeros(380, bool))):
        with pytest.raises(SetupError, match=r"comparisons of strangers are too few"):
            fit_grid("made", few)


def test_identical_voices_do_not_break_the_fit():
    drawn = everywhere(60)
    alike = drawn.similarity.copy()
    alike[0] = 1.0

    found = fit_grid("made", replace(drawn, similarity=alike))

    assert np.isfinite(found.strangers).all()
    assert all(np.isfinite(node.tail.z.deviation) for node in found.calibration.nodes)
