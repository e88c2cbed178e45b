"""How many outcomes are committed together, and how many tasks go into one message."""

from __future__ import annotations

import pytest

from sonant.jobs.group_size import HOLD_S, LEAST, MOST, GroupSize
from sonant.jobs.workers.engines.local import MessageSize, share


def after(*groups):
    size = GroupSize()
    for count, held_s in groups:
        size.measured(count, held_s)
    return size.size


@pytest.mark.parametrize(
    ("each_s", "expected"),
    [
        (0.00001, MOST),  # quick: as many as there may be
        (HOLD_S / 100, 100),  # so many that the domain is held for HOLD_S
        (0.1, LEAST),  # slow: never fewer, or each would be a transaction of its own
    ],
)
def test_groups_hold_others_up_for_a_moment(each_s, expected):
    assert after(*[(64, 64 * each_s)] * 60) == pytest.approx(expected, abs=1)


def test_one_slow_group_makes_the_next_smaller_at_once():
    quick, slow = (200, 0.01), (200, 0.2)
    assert after(*[quick] * 50) == MOST
    assert after(*[quick] * 50, slow) == pytest.approx(HOLD_S * 200 / 0.2)


def test_groups_grow_again_after_a_slow_one():
    assert after((64, 0.2), *[(16, 0.0005)] * 60) == MOST


def test_a_few_outcomes_show_nothing_about_many():
    assert after(*[(1, 0.02)] * 100) == after()


def measured(seconds_each, *, target_s=0.5, most=64):
    size = MessageSize(target_s, most)
    for _ in range(50):
        size.measured(size.size, size.size * seconds_each)
    return size.size


@pytest.mark.parametrize(
    ("seconds_each", "expected"), [(0.0001, 64), (0.06, 8), (0.11, 4), (0.3, 1), (3.0, 1), (0.0, 64)]
)
def test_messages_hold_as_many_tasks_as_fit_into_their_time(seconds_each, expected):
    assert measured(seconds_each) == expected


def test_the_first_message_holds_one_task():
    assert MessageSize(0.5, 64).size == 1


@pytest.mark.parametrize(
    ("waiting", "free", "expected"), [(100, 2, 32), (10, 4, 3), (1, 4, 1), (4, 4, 1), (64, 0, 32)]
)
def test_waiting_tasks_are_shared_between_free_workers(waiting, free, expected):
    assert share(waiting, free, 32) == expected
