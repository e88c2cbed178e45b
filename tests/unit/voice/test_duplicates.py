"""Every pair of voices that are alike is found, and no other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.voice import duplicates
from sonant.voice.duplicates import alike, groups


def voices(count, seed=0, dimensions=64):
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def found(vectors, **how):
    return {
        (int(i), int(j)): float(similarity)
        for pairs in alike(vectors, **how)
        for i, j, similarity in zip(pairs.first, pairs.second, pairs.similarity, strict=True)
    }


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 100])
def test_the_pairs_are_those_of_a_plain_search_whatever_the_blocks(count, monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 32)
    vectors = voices(count)
    plain = {
        (i, j) for i in range(count) for j in range(i + 1, count) if float(vectors[i] @ vectors[j]) >= 0.2
    }
    assert found(vectors, at_least=0.2).keys() == plain


def test_a_pair_comes_with_its_similarity():
    vectors = voices(50)
    for (i, j), similarity in found(vectors, at_least=0.1).items():
        assert similarity == pytest.approx(float(vectors[i] @ vectors[j]), abs=1e-6)


def test_parts_of_the_rows_give_the_whole_together(monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 16)
    vectors = voices(90)
    parts: dict[tuple[int, int], float] = {}
    for start in (0, 7, 40):
        stop = {0: 7, 7: 40, 40: 90}[start]
        part = found(vectors, at_least=0.15, rows=range(start, stop))
        assert all(start <= i < stop for i, _ in part)
        parts |= part
    # Products of other shapes round otherwise in the last digit.
    assert parts == pytest.approx(found(vectors, at_least=0.15), abs=1e-6)


def test_a_voice_is_no_duplicate_of_itself():
    assert found(voices(20), at_least=0.99) == {}


def test_voices_hang_together_by_way_of_others():
    assert groups([(5, 3), (1, 2), (3, 9)]) == [[3, 5, 9], [1, 2]]
    assert groups([]) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] != pair[1])))
def test_groups_share_no_voice_and_keep_every_pair_together(pairs):
    where: dict[int, int] = {}
    for number, group in enumerate(groups(pairs)):
        assert group == sorted(set(group))
        for one in group:
            assert where.setdefault(one, number) == number
    assert all(where[i] == where[j] for i, j in pairs)
