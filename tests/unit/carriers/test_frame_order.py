"""Numbered frames: in order at once, out of order within a window, and never lost for good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.carriers.frame_order import WINDOW_FRAMES, FrameOrder, frame_number


def ordered(numbers, window=WINDOW_FRAMES):
    """The numbers of the frames as they are passed on, with those left at the end."""
    order = FrameOrder(window)
    found = [frame for number in numbers for frame in order.push(number, str(number).encode())]
    return [int(frame) for frame in [*found, *order.flush()]]


def test_frames_in_order_are_passed_on_at_once():
    order = FrameOrder()
    for number in range(1, 50):
        assert order.push(number, b"%d" % number) == [b"%d" % number]


@pytest.mark.parametrize("first", [0, 1, 2, 700])
def test_counting_may_begin_anywhere(first):
    numbers = list(range(first, first + 40))
    assert ordered(numbers) == numbers


@given(st.data())
def test_frames_displaced_within_the_window_are_put_in_order(data):
    numbers = list(range(1, 60))
    keys = [number + data.draw(st.floats(0, WINDOW_FRAMES - 1)) for number in numbers]
    sent = [number for _, number in sorted(zip(keys, numbers, strict=True))]
    assert ordered(sent) == numbers


def test_missing_frame_is_waited_for_only_a_while():
    sent = [1, 2, *range(4, 30)]
    order = FrameOrder()
    found = [int(frame) for number in sent for frame in order.push(number, str(number).encode())]
    assert found == [1, 2, *range(4, 30)], "none waits for the end"


def test_repeated_and_late_frames_are_dropped():
    assert ordered([1, 2, 2, 3, 3, 1, 4]) == [1, 2, 3, 4]


def test_carrier_that_does_not_count_is_taken_as_it_comes():
    assert ordered([1] * 30) == [1] * 30
    order = FrameOrder()
    assert [order.push(None, frame) for frame in (b"a", b"b")] == [[b"a"], [b"b"]]


def test_carrier_that_begins_to_count_anew_is_heard_again():
    found = ordered([*range(1, 200), *range(1, 100)])
    assert found[:199] == list(range(1, 200))
    assert found[199:] == list(range(WINDOW_FRAMES + 1, 100))


def test_two_tracks_that_share_one_count_lose_nothing():
    sent = list(range(2, 200, 2))
    assert ordered(sent) == sent


@given(st.lists(st.one_of(st.none(), st.integers(0, 50), st.integers(0, 10**12)), max_size=80))
def test_any_numbers_give_each_frame_once_at_most(numbers):
    order = FrameOrder()
    frames = [b"%d" % place for place in range(len(numbers))]
    found = [one for number, frame in zip(numbers, frames, strict=True) for one in order.push(number, frame)]
    found += order.flush()
    assert len(found) == len(set(found))
    assert set(found) <= set(frames)


@pytest.mark.parametrize(
    ("value", "number"),
    [("17", 17), (17, 17), (0, 0), (-1, None), (True, None), ("", None), ("1.5", None), ("9" * 40, None)],
)
def test_numbers_may_be_texts(value, number):
    assert frame_number(value) == number
