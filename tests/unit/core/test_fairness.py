"""Shares of callers: who gets a slot, who waits, and who is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.errors import Throttling
from sonant.fairness import FairQueue, FairSlots

CALLERS = "abcd"


def queue_of(slots: int, most: int, *tasks: str) -> FairQueue[str]:
    """A queue to which tasks were added; a task is its caller's letter and a number."""
    made: FairQueue[str] = FairQueue(slots, most)
    for task in tasks:
        assert made.add(task[0], task) is None
    return made


def taken(queue: FairQueue[str]) -> list[str]:
    """The tasks that may run now, in order."""
    found = []
    while (pair := queue.next()) is not None:
        found.append(pair[1])
    return found


@pytest.mark.parametrize(
    ("slots", "tasks", "run"),
    [
        # One slot: whoever comes first.
        (1, ["a1", "a2"], ["a1"]),
        # The last slot is for a caller without one.
        (2, ["a1", "a2", "a3"], ["a1"]),
        (3, ["a1", "a2", "a3", "a4"], ["a1", "a2"]),
        (3, ["a1", "a2", "a3", "b1"], ["a1", "b1"]),
        (2, ["a1", "a2", "b1"], ["a1", "b1"]),
        # Equal shares, in turns.
        (5, ["a1", "a2", "a3", "b1", "b2", "c1"], ["a1", "b1", "c1", "a2"]),
    ],
)
def test_slots_go_round_and_the_last_is_kept(slots: int, tasks: list[str], run: list[str]) -> None:
    assert taken(queue_of(slots, 10, *tasks)) == run


def test_who_was_served_longest_ago_is_next() -> None:
    queue = queue_of(1, 10, "a1", "a2", "b1", "c1")
    order = []
    while (found := queue.next()) is not None:
        order.append(found[1])
        queue.ended(found[0])
    assert order == ["a1", "b1", "c1", "a2"]


def test_a_full_queue_refuses_the_newest_of_whom_has_most() -> None:
    queue = queue_of(1, 4, "a1", "a2", "a3", "b1")
    assert queue.add("a", "a4") == "a4", "who has most is refused at once"
    assert queue.add("c", "c1") == "a3"
    assert queue.add("b", "b2") == "b2", "two of each, and four in all"
    assert len(queue) == 4


def test_running_tasks_count_for_the_share_and_are_never_refused() -> None:
    queue = queue_of(4, 4, "a1", "a2", "a3", "a4")
    assert taken(queue) == ["a1", "a2", "a3"]
    assert queue.add("b", "b1") == "a4"
    assert queue.add("c", "c1") == "c1", "nothing of the greedy one waits any more"


def test_a_task_of_another_caller_waits_where_that_one_has_its_share() -> None:
    queue = queue_of(3, 9, "a1", "a2", "x1", "y1")
    assert taken(queue) == ["a1", "x1", "y1"]
    assert not queue.switch("x", "a"), "no slot is free"
    queue.ended("y")
    queue.add("b", "b1")
    assert not queue.switch("x", "a"), "another caller waits"
    assert taken(queue) == ["b1"]
    queue.ended("b")
    assert queue.switch("x", "a")
    assert queue.running.of("a") == 2


def test_slots_are_refused_to_whom_has_all_but_one() -> None:
    slots = FairSlots(3, "full")
    with slots.held("a"), slots.held("a"):
        with pytest.raises(Throttling, match="full"), slots.held("a"):
            pass
        with slots.held("b"):
            assert slots.taken == slots.most == 3
            with pytest.raises(Throttling, match="full"), slots.held("c"):
                pass
    assert slots.taken == 0


@given(
    st.integers(1, 4),
    st.integers(1, 8),
    st.lists(st.tuples(st.sampled_from(("add", "next", "ended")), st.sampled_from(CALLERS)), max_size=60),
)
def test_a_queue_never_holds_more_than_it_may(slots: int, most: int, steps: list[tuple[str, str]]) -> None:
    queue: FairQueue[int] = FairQueue(slots, most)
    running: list[str] = []
    added, refused = 0, 0
    done = 0
    for number, (step, caller) in enumerate(steps):
        if step == "add":
            added += 1
            refused += queue.add(caller, number) is not None
        elif step == "next":
            found = queue.next()
            if found is not None:
                running.append(str(found[0]))
                free = slots - len(running)
                assert running.count(running[-1]) == 1 or free >= 1
        elif running:
            queue.ended(running.pop(0))
            done += 1
        assert len(queue) <= most
        assert queue.running.taken == len(running) <= slots
        assert len(queue) == added - refused - done
