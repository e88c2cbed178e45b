"""Recordings composed of several people: how much of them is whose, and when."""

from __future__ import annotations

import numpy as np
import pytest

from sonant.evaluation.cutting import SegmentedRecording
from sonant.evaluation.mixtures import Mixture, compose

RATE_HZ = 8000


def person(hz, seconds=40):
    """A person who hums one tone, in one long stretch."""
    samples = np.sin(2 * np.pi * hz * np.arange(seconds * RATE_HZ) / RATE_HZ).astype(np.float32)
    return [SegmentedRecording(source=str(hz), samples=samples, spans=((0, len(samples)),))]


def composed(mixture, count=2, net_speech_s=40.0):
    people = [person(200 + 100 * number) for number in range(count)]
    return compose(mixture, people, net_speech_s=net_speech_s, rng=np.random.default_rng(3))


def spoken(samples):
    """Seconds that are not silence."""
    frames = samples[: len(samples) // 80 * 80].reshape(-1, 80)
    return float((np.abs(frames).max(axis=1) > 1e-4).sum()) / 100


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_second_person_has_the_share_asked_for(share):
    found = composed(Mixture(name="share", share=share, clip_s=(0.8, 2.0)))
    own = spoken(found.samples - found.second)
    assert spoken(found.second) / (own + spoken(found.second)) == pytest.approx(share, abs=0.05)


def test_without_overlap_one_person_speaks_at_a_time_with_gaps_between():
    found = composed(Mixture(name="gap", gap_s=0.5))
    first = np.abs(found.samples - found.second) > 1e-4
    second = np.abs(found.second) > 1e-4
    assert not (first & second).any()
    silence_s = len(found.samples) / RATE_HZ - spoken(found.samples)
    assert silence_s > 5 * 0.5


def test_full_overlap_lies_over_the_first_persons_speech():
    found = composed(Mixture(name="both", overlap=1.0, gap_s=0.1, clip_s=(2.0, 2.1)))
    assert spoken(found.second) > 10
    assert spoken(found.samples) < 0.7 * (spoken(found.second) + spoken(found.samples - found.second))


def test_level_is_that_of_the_second_person():
    found = composed(Mixture(name="level", level_db=-20.0))
    first, second = found.samples - found.second, found.second
    levels = [np.sqrt(np.mean(track[np.abs(track) > 1e-4] ** 2)) for track in (first, second)]
    assert 20 * np.log10(levels[1] / levels[0]) == pytest.approx(-20, abs=0.5)


def test_one_person_alone_has_nobody_second():
    found = composed(Mixture(name="one", people=1), count=1)
    assert not found.second.any()
    assert spoken(found.samples) >= 40


def test_seven_people_speak_from_start_to_end():
    found = composed(Mixture(name="seven", people=7), count=7)
    assert spoken(found.samples) >= 30
    assert np.sqrt(np.mean(found.second**2)) > 1.5 * np.sqrt(np.mean((found.samples - found.second) ** 2))


def test_equal_seeds_give_equal_recordings():
    one, other = composed(Mixture(name="gap")), composed(Mixture(name="gap"))
    assert np.array_equal(one.samples, other.samples)
