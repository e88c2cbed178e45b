"""Comparisons of all voices with each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonant.voice.calibration.model import Normal, Tail
from sonant.voice.models.embedding import Embedding
from sonant.voice.pairwise import compare_all, same_voice_threshold, similarities
from sonant.voice.scoring import similarity

TAIL = Tail(z=Normal(mean=0.0, deviation=0.3))


def voices_near(rng, people, spread):
    """A unit vector for each entry of `people`; equal numbers give vectors near each other."""
    centres = rng.standard_normal((max(people) + 1, 32))
    found = centres[people] + spread * rng.standard_normal((len(people), 32))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_similarities_equal_those_of_scoring():
    rng = np.random.default_rng(0)
    vectors = voices_near(rng, [0, 1, 2, 3], 0.1)
    made = [Embedding(vector=vector, model_id="m") for vector in vectors]
    expected = [[similarity(one, other) for other in made] for one in made]
    np.testing.assert_allclose(similarities(vectors, vectors), expected, atol=1e-6)


@settings(max_examples=40)
@given(
    people=st.lists(st.integers(0, 4), min_size=1, max_size=30),
    ids=st.data(),
    seed=st.integers(0, 1000),
    block=st.integers(1, 40),
)
def test_compare_all_equals_a_plain_search_for_any_block(people, ids, seed, block):
    owners = np.array(ids.draw(st.lists(st.integers(0, 5), min_size=len(people), max_size=len(people))))
    vectors = voices_near(np.random.default_rng(seed), people, 0.06)
    found = compare_all(vectors, owners, TAIL, block=block)
    alike = vectors @ vectors.T
    pairs = 0
    for one in range(len(people)):
        others = [n for n in range(len(people)) if owners[n] != owners[one]]
        own = [n for n in range(len(people)) if owners[n] == owners[one]]
        pairs += len(others)
        close = [n for n in others if alike[one, n] >= found.same_voice_threshold]
        assert found.close_count[one] == len(close)
        if close:
            assert found.closest_similarity[one] == pytest.approx(max(alike[one, n] for n in close), abs=1e-6)
            assert owners[found.closest[one]] != owners[one]
        else:
            assert found.closest[one] == -1
        least = min(alike[one, n] for n in own)
        if least < found.different_voices_threshold:
            assert found.farthest_similarity[one] == pytest.approx(least, abs=1e-6)
            assert owners[found.farthest[one]] == owners[one]
        else:
            assert found.farthest[one] == -1
    assert found.pairs == pairs // 2


def test_compare_all_of_no_voices_is_empty():
    found = compare_all(np.empty((0, 1), np.float32), np.empty(0, np.int64), TAIL)
    assert (len(found.closest), found.pairs, found.chance_pairs) == (0, 0, 0)


def test_same_voice_threshold_rises_with_the_number_of_voices():
    few, more, many = (same_voice_threshold(count, TAIL) for count in (200, 2_000, 100_000))
    assert same_voice_threshold(1, TAIL) == few < more < many
    assert TAIL.log10_far(few) == pytest.approx(-4)
    for count in (200, 1000, 3000):
        found = compare_all(np.eye(count, dtype=np.float32), np.arange(count), TAIL)
        assert found.chance_pairs == pytest.approx(count / 100, rel=0.02)
