"""Pairs of similar voices, and groups connected by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.voice.pairwise import connected_groups, similar_pairs


def voices(count, seed=0, dimensions=64):
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def found(vectors, **how):
    return {
        (int(i), int(j)): float(similarity)
        for pairs in similar_pairs(vectors, **how)
        for i, j, similarity in zip(pairs.first, pairs.second, pairs.similarity, strict=True)
    }


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 100])
def test_similar_pairs_equal_a_plain_search(count):
    vectors = voices(count)
    plain = {
        (i, j) for i in range(count) for j in range(i + 1, count) if float(vectors[i] @ vectors[j]) >= 0.2
    }
    assert found(vectors, at_least=0.2, block=32).keys() == plain


def test_similar_pairs_have_their_similarity():
    vectors = voices(50)
    for (i, j), similarity in found(vectors, at_least=0.1).items():
        assert similarity == pytest.approx(float(vectors[i] @ vectors[j]), abs=1e-6)


def test_similar_pairs_of_row_ranges_add_up_to_all():
    vectors = voices(90)
    parts: dict[tuple[int, int], float] = {}
    for start in (0, 7, 40):
        stop = {0: 7, 7: 40, 40: 90}[start]
        part = found(vectors, at_least=0.15, rows=range(start, stop), block=16)
        assert all(start <= i < stop for i, _ in part)
        parts |= part
    # Products of other shapes round otherwise in the last digit.
    assert parts == pytest.approx(found(vectors, at_least=0.15, block=16), abs=1e-6)


def test_similar_pairs_leave_out_a_voice_with_itself():
    assert found(voices(20), at_least=0.99) == {}


def test_connected_groups_join_pairs_that_share_a_voice():
    assert connected_groups([(5, 3), (1, 2), (3, 9)]) == [[3, 5, 9], [1, 2]]
    assert connected_groups([]) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] != pair[1])))
def test_connected_groups_are_disjoint_and_keep_pairs_together(pairs):
    where: dict[int, int] = {}
    for number, group in enumerate(connected_groups(pairs)):
        assert group == sorted(set(group))
        for one in group:
            assert where.setdefault(one, number) == number
    assert all(where[i] == where[j] for i, j in pairs)
