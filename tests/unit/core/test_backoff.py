"""Backoff: pauses between attempts."""

from __future__ import annotations

from sonant.backoff import Backoff


def longest(_least_s: float, most_s: float) -> float:
    return most_s


def shortest(least_s: float, _most_s: float) -> float:
    return least_s


def test_longest_pause_doubles_up_to_the_bound_and_starts_over() -> None:
    pauses = Backoff(0.5, 4.0, uniform=longest)
    assert [pauses.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 4.0, 4.0]
    pauses.reset()
    assert pauses.next_s() == 1.0


def test_shortest_pause_doubles_up_to_half_of_the_bound() -> None:
    pauses = Backoff(0.5, 4.0, uniform=shortest)
    assert [pauses.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 2.0, 2.0]


def test_close_bounds_are_kept_to() -> None:
    assert Backoff(3.0, 4.0, uniform=shortest).next_s() == 3.0
    assert Backoff(3.0, 4.0, uniform=longest).next_s() == 4.0
    assert Backoff(2.0, 2.0, uniform=shortest).next_s() == 2.0


def test_bounds_in_the_wrong_order_give_the_shorter() -> None:
    assert Backoff(10.0, 2.0, uniform=longest).next_s() == 2.0
    assert Backoff(10.0, 2.0, uniform=shortest).next_s() == 2.0


def test_pauses_of_two_that_failed_together_differ() -> None:
    one, other = Backoff(1.0, 8.0), Backoff(1.0, 8.0)
    pauses_s = [one.next_s() for _ in range(8)]
    assert pauses_s != [other.next_s() for _ in range(8)]
    assert all(1.0 <= pause_s <= 8.0 for pause_s in pauses_s)
