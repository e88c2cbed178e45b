"""The transforms of template spaces: orthogonal, determined by their key, unrelated for two keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_samples import made_sample

from sonant.errors import TemplateMismatch
from sonant.voice.templates import orthogonal_matrix, rotate

KEY, OTHER = bytes(32), bytes([1] * 32)
EARLIER = [
    [-0.313521, -0.321746, -0.326237, 0.831717],
    [0.590453, 0.409883, -0.686163, 0.111991],
    [-0.568123, 0.815715, 0.015965, 0.10766],
    [0.479903, 0.251168, 0.649996, 0.533023],
]
KEYS = st.binary(min_size=32, max_size=32)


def voices(count, dimensions, seed=0):
    made = np.random.default_rng(seed).normal(size=(count, dimensions))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 64, 192, 256])
def test_matrix_is_orthogonal_in_every_number_of_dimensions(dimensions):
    matrix = orthogonal_matrix(KEY, "model", dimensions)
    assert matrix.shape == (dimensions, dimensions)
    assert np.abs(matrix @ matrix.T - np.eye(dimensions)).max() < 1e-12


@given(key=KEYS, dimensions=st.integers(2, 48), seed=st.integers(0, 1000))
def test_cosines_stay_as_they_are(key, dimensions, seed):
    one, other = voices(2, dimensions, seed)
    matrix = orthogonal_matrix(key, "model", dimensions)
    assert rotate(matrix, one) @ rotate(matrix, other) == pytest.approx(one @ other, abs=1e-6)


def test_matrix_is_that_of_earlier_releases():
    """Stored templates depend on it: these numbers never change."""
    matrix = orthogonal_matrix(KEY, "model", 4)
    assert np.round(matrix, 6).tolist() == EARLIER


@pytest.mark.parametrize(("key", "model_id"), [(OTHER, "model"), (KEY, "other")])
def test_another_key_or_model_gives_an_unrelated_matrix(key, model_id):
    one, other = orthogonal_matrix(KEY, "model", 64), orthogonal_matrix(key, model_id, 64)
    # The trace of a uniformly distributed orthogonal matrix has mean 0 and deviation 1.
    assert abs(np.trace(one @ other.T)) < 5


def test_matrices_are_uniformly_distributed():
    """The same voice in two spaces is as alike as random directions are: a deviation of 1 / sqrt(d)."""
    (voice,), count, dimensions = voices(1, 16), 400, 16
    turned = [
        rotate(orthogonal_matrix(number.to_bytes(32), "m", dimensions), voice) for number in range(count)
    ]
    cosines = (np.stack(turned) @ np.stack(turned).T)[np.triu_indices(count, 1)]
    assert abs(cosines.mean()) < 0.01
    assert cosines.std() == pytest.approx(dimensions**-0.5, rel=0.02)
    signs = np.linalg.det([orthogonal_matrix(number.to_bytes(32), "m", 3) for number in range(count)])
    assert 0.4 < np.mean(signs > 0) < 0.6, "rotations and reflections alike"


def test_samples_of_two_spaces_are_not_compared():
    own = made_sample(voices(1, 8)[0])
    one, other = replace(own, space="a/1"), replace(own, space="b/1")
    assert one.similarity(one) == pytest.approx(1.0)
    for first, second in ((one, other), (own, one), (one, own)):
        with pytest.raises(TemplateMismatch, match="different template spaces"):
            first.similarity(second)
    assert one != other
    assert len({own, one, other, replace(own)}) == 3
