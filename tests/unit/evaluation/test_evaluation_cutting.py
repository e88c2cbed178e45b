"""Cutting recordings by net speech."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.evaluation.cutting import SegmentedRecording, beginning, cut, split

SECOND = 8000


def segmented(
    source: str, *spans_s: tuple[float, float], length_s: float | None = None
) -> SegmentedRecording:
    """A recording whose samples count up, so that a piece shows where it was cut from."""
    spans = tuple((round(start * SECOND), round(end * SECOND)) for start, end in spans_s)
    length = round((spans_s[-1][1] if length_s is None else length_s) * SECOND)
    return SegmentedRecording(source=source, samples=np.arange(length, dtype=np.float32), spans=spans)


def cut_of(
    recordings: list[SegmentedRecording],
    net_speech_s: float,
    at_most: int = 99,
    passes: int = 1,
    seed: int = 1,
):
    rng = np.random.default_rng(seed)
    return cut("ann", recordings, net_speech_s=net_speech_s, at_most=at_most, rng=rng, passes=passes)


def test_split_is_after_the_given_speech():
    head, tail = split(segmented("call", (1, 3), (5, 9)), 3 * SECOND)

    assert head.spans == ((SECOND, 3 * SECOND), (5 * SECOND, 6 * SECOND))
    assert len(head.samples) == 6 * SECOND
    assert tail.spans == ((0, 3 * SECOND),)
    assert tail.samples[0] == 6 * SECOND


def test_long_recording_gives_several_pieces():
    pieces = cut_of([segmented("call", (1, 11), (20, 31))], 10)

    assert len(pieces) == 2
    assert {piece.sources for piece in pieces} == {frozenset(["call"])}
    assert [piece.net_speech_s for piece in pieces] == [10, 10]


def test_short_recordings_are_joined():
    (piece,) = cut_of([segmented(name, (0.5, 4.5)) for name in "abc"], 10)

    assert piece.sources == {"a", "b", "c"}
    assert piece.net_speech_s == 10
    assert len(piece.samples) == round((4.5 + 4.5 + 2.5) * SECOND)


def test_too_little_speech_gives_no_piece():
    assert cut_of([segmented("a", (0, 4)), segmented("b", (0, 5.9))], 10) == []


def test_more_passes_join_short_recordings_in_other_orders():
    recordings = [segmented(name, (0, 4)) for name in "abcdef"]

    once, often = cut_of(recordings, 10, passes=1), cut_of(recordings, 10, passes=5)

    assert len(once) == 2 and len(often) == 10
    assert len({piece.sources for piece in often}) > 2


def test_pieces_are_at_most_as_many_as_requested():
    assert len(cut_of([segmented("call", (0, 100))], 3, at_most=7)) == 7


def test_equal_seeds_cut_equally():
    recordings = [segmented(name, (0, 4)) for name in "abcdef"]
    one, two = cut_of(recordings, 5), cut_of(recordings, 5)

    assert [piece.sources for piece in one] == [piece.sources for piece in two]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 90)), min_size=1, max_size=6), max_size=6),
    st.integers(20, 200),
)
def test_pieces_of_a_pass_are_disjoint_and_of_the_requested_speech(gaps, need):
    recordings = []
    for number, parts in enumerate(gaps):
        spans, at = [], 0
        for gap, length in parts:
            spans.append((at + gap, at + gap + length))
            at += gap + length
        # Every sample of all recordings has a number of its own.
        numbers = np.arange(at, dtype=np.float32) + number * 1000
        recordings.append(SegmentedRecording(source=str(number), samples=numbers, spans=tuple(spans)))
    pieces = cut_of(recordings, need / SECOND, at_most=10_000)

    total = sum(recording.net_samples for recording in recordings)
    # Short and left-over parts are joined in one go, so less than one piece is left of everything.
    assert len(pieces) == total // need
    used = np.concatenate([np.empty(0), *(piece.samples for piece in pieces)])
    assert len(np.unique(used)) == len(used)
    assert all(round(piece.net_speech_s * SECOND) == need for piece in pieces)


@pytest.mark.parametrize(("requested_s", "net_s", "length_s"), [(3, 3, 6), (None, 6, 10), (60, 6, 10)])
def test_beginning_of_a_whole_recording_is_taken(requested_s, net_s, length_s):
    piece = beginning("ann", segmented("call", (1, 3), (5, 9), length_s=10), requested_s)

    assert piece.net_speech_s == net_s
    assert len(piece.samples) == length_s * SECOND
