"""The decision between one voice and two, on embeddings made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sonant.voice.voice_groups import Activity, Piece, second_voice, split_in_two

QUIET = Activity(second_share=0.0, overlap=0.0)


def pieces_of(*voices):
    """Two seconds of each voice of a window."""
    return [
        Piece(window=window, voice=voice, spans=((16_000 * n, 16_000 * (n + 1)),))
        for n, (window, voice) in enumerate(voices)
    ]


def directions(*degrees):
    angle = np.radians(np.array(degrees, np.float64))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def decided(vectors, voices=None, activity=QUIET):
    pieces = pieces_of(*(voices or [(0, 0)] * len(vectors)))
    return second_voice(pieces, vectors, split_in_two(vectors), activity)


@pytest.mark.parametrize(
    ("degrees", "second"),
    [
        ([0, 5, 90, 85, 2], [2, 3]),
        ([0, 90, 90, 90], [0]),
        ([10, 10, 10], []),  # identical: one group
        ([10], []),
        ([], []),
    ],
)
def test_embeddings_are_split_by_direction(degrees, second):
    vectors = directions(*degrees) if degrees else np.empty((0, 2), np.float32)
    assert np.flatnonzero(split_in_two(vectors)).tolist() == second


def test_alike_pieces_are_one_voice():
    found = decided(directions(0, 10, 5, 8, 3, 12))
    assert not found.possible
    assert found.share == 0


def test_two_groups_far_apart_are_two_voices():
    found = decided(directions(0, 5, 3, 90, 95, 92))
    assert found.certain
    assert found.share == 0.5
    assert found.separation == pytest.approx(1, abs=0.1)


def two_groups(second, *, shared, own):
    """Pieces of two groups, a bool for each piece: the similarity of all, and what those of one have more."""
    count, size = len(second), 64
    basis = np.linalg.qr(np.random.default_rng(3).standard_normal((size, size)))[0]
    group = basis[1 + np.array(second, np.int64)]
    vectors = (
        np.sqrt(shared) * basis[0] + np.sqrt(own) * group + np.sqrt(1 - shared - own) * basis[3 : 3 + count]
    )
    return np.asarray(vectors, np.float32)


def test_a_hand_over_is_found_where_voices_are_too_alike_to_tell_in_turns():
    apart = decided(two_groups([0, 1] * 3, shared=0.3, own=0.27))
    handed_over = decided(two_groups([0] * 3 + [1] * 3, shared=0.3, own=0.27))
    assert not apart.certain
    assert handed_over.certain
    assert handed_over.share == 0.5


def test_one_person_in_another_room_is_no_hand_over():
    """Similarities as in recordings of two days: 0.62 within each, 0.41 between them."""
    assert not decided(two_groups([0] * 6 + [1] * 10, shared=0.41, own=0.21)).possible


def test_one_odd_piece_alone_is_not_certain():
    assert not decided(directions(0, 2, 4, 6, 3, 60)).certain


def test_voices_that_the_network_separated_count_by_how_unlike_they_are():
    both = Activity(second_share=0.4, overlap=0.0)
    voices = [(0, 0), (0, 0), (0, 1), (0, 1)]
    assert not decided(directions(0, 30, 25, 10), voices, both).possible
    assert decided(directions(0, 5, 75, 80), voices, both).certain


def test_overlap_counts_without_any_embedding():
    nobody_alone = np.empty((0, 2), np.float32)
    found = decided(nobody_alone, activity=Activity(second_share=0.5, overlap=0.9))
    assert found.certain
    assert found.overlap == 0.9
    assert not decided(nobody_alone, activity=Activity(second_share=0.0, overlap=0.04)).possible
