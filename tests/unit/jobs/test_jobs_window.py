"""The window over a job's requests, with an engine that computes in memory and answers out of order."""

import random
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_samples import made_result

from sonant.jobs.entry import Role, Task
from sonant.jobs.group_size import HOLD_S, MOST
from sonant.jobs.window import HELD_BYTES, WIDTH, Window

ROLE = Role(arn="arn:aws:iam::000000000000:role/sonant", policies=())


@dataclass(slots=True)
class WorkItem:
    position: int
    dedup_key: bytes | None
    early: bool = False
    """Decided without listening."""


class ShuffledEngine:
    """Holds up to `capacity` tasks; answers some of them at a time, in any order but the one they came in."""

    def __init__(self, capacity, seed, last=()):
        self.capacity, self.held, self.random = capacity, [], random.Random(seed)
        self.last = set(last)  # tickets that are answered only when nothing else is held
        self.done: Counter[int] = Counter()

    workers_lost, problem = 0, ""

    @property
    def free_slots(self):
        return self.capacity - len(self.held)

    def submit(self, task):
        self.submit_all([task])

    def submit_all(self, tasks):
        assert len(tasks) <= self.free_slots, "more tasks than there is room for"
        self.held += tasks

    def results(self, _timeout_s):
        ready = [task for task in self.held if task.task_id not in self.last] or self.held
        chosen = self.random.sample(ready, self.random.randint(1, len(ready)))
        self.held = [task for task in self.held if task not in chosen]
        self.done.update(task.task_id for task in chosen)
        return [(task.task_id, voice_of(task.task_id)) for task in chosen]

    def discard(self):
        self.held.clear()

    def close(self):
        self.held.clear()


def voice_of(task_id):
    return made_result([task_id])


class Ledger:
    """A job's requests and what was committed of them; checks every step against the rules."""

    held_s_each = 0.0
    """How long others wait for a commit, for each of its outcomes."""

    def __init__(self, items, done=()):
        self.items, self.done = items, dict.fromkeys(done)
        self.begun, self.most, self.groups = [], 0, []

    def fetch(self, start: int, limit: int) -> list[WorkItem]:
        return [item for item in self.items if item.position >= start and item.position not in self.done][
            :limit
        ]

    def tasks(self, items):
        return [self._task(item) for item in items]

    def _task(self, item):
        working = [other for other in self.begun if other.position not in self.done]
        assert item.position not in (other.position for other in self.begun), "begun twice"
        assert item.dedup_key is None or item.dedup_key not in (other.dedup_key for other in working), (
            "same speaker in work"
        )
        self.begun.append(item)
        self.most = max(self.most, len(working) + 1)
        if item.early:
            return None
        return Task(task_id=item.position, role=ROLE, audio=(), need_s=30.0, keep_audio=False)

    def commit(self, done):
        self.groups.append(len(done))
        for item, heard in done:
            assert item.position not in self.done, "committed twice"
            assert heard == (None if item.early else voice_of(item.position)), "another request's result"
            self.done[item.position] = heard
        return self.held_s_each * len(done)


def drain(items, *, capacity=4, seed=0, last=(), done=(), keep_alive=lambda: None):
    ledger, engine = Ledger(items, done), ShuffledEngine(capacity, seed, last)
    Window(ledger, engine, keep_alive).drain()
    return ledger, engine


@given(
    marks=st.lists(st.tuples(st.sampled_from([None, b"a", b"b", b"c", b"d"]), st.booleans()), max_size=60),
    capacity=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
def test_requests_are_committed_once_in_manifest_order(marks, capacity, seed):
    items = [WorkItem(position, dedup_key, early) for position, (dedup_key, early) in enumerate(marks)]
    ledger, engine = drain(items, capacity=capacity, seed=seed)
    assert list(ledger.done) == [item.position for item in items]
    assert engine.done == Counter(item.position for item in items if not item.early)
    assert engine.held == []


def test_different_speakers_are_in_work_together():
    ledger, _ = drain([WorkItem(n, b"%d" % n) for n in range(40)], capacity=4)
    assert ledger.most >= 4


def test_the_same_speaker_waits_for_the_outcome_before_it():
    items = [WorkItem(n, b"one speaker") for n in range(5)]
    ledger, _ = drain(items, capacity=4)  # the ledger checks it at every begin
    assert ledger.most == 1
    assert ledger.groups == [1] * 5


def test_requests_that_need_no_listening_pass_without_the_engine():
    ledger, engine = drain([WorkItem(n, b"%d" % n, early=True) for n in range(1000)], capacity=1)
    assert not engine.done
    assert len(ledger.done) == 1000


@pytest.mark.parametrize("early", [True, False])
def test_a_slow_request_holds_back_no_more_than_the_width(early):
    slow = WorkItem(0, b"slow")
    others = [WorkItem(n, b"%d" % n, early=early) for n in range(1, 3 * WIDTH)]
    ledger, _ = drain([slow, *others], capacity=2, last={0})
    assert ledger.most == WIDTH
    assert list(ledger.done) == list(range(3 * WIDTH))


def test_quick_outcomes_are_committed_in_the_largest_groups():
    ledger, _ = drain([WorkItem(n, b"%d" % n, early=True) for n in range(20 * MOST)])
    assert max(ledger.groups) == MOST
    assert sum(ledger.groups) == 20 * MOST


def test_slow_outcomes_are_committed_in_smaller_groups():
    ledger = Ledger([WorkItem(n, b"%d" % n, early=True) for n in range(2000)])
    ledger.held_s_each = 0.001
    Window(ledger, ShuffledEngine(4, seed=0), lambda: None).drain()
    assert max(ledger.groups[1:]) <= HOLD_S / 0.001
    assert sum(ledger.groups) == 2000


def test_results_that_wait_for_an_older_one_hold_bounded_memory():
    speech = bytes(HELD_BYTES // 8)

    class Keeping(ShuffledEngine):
        def results(self, timeout_s):
            return [(one, replace(result, audio=speech)) for one, result in super().results(timeout_s)]

    class Accepting(Ledger):
        def commit(self, done):
            self.done.update((item.position, None) for item, _ in done)
            return 0.0

    ledger = Accepting([WorkItem(n, b"%d" % n) for n in range(100)])
    engine = Keeping(4, seed=3, last={0})
    Window(ledger, engine, lambda: None).drain()
    assert 8 <= ledger.most <= 8 + engine.capacity
    assert list(ledger.done) == list(range(100))


def test_requests_with_an_outcome_are_not_begun_again():
    items = [WorkItem(n, b"%d" % n) for n in range(300)]
    done = [*range(120), 200, 201]
    ledger, engine = drain(items, done=done)
    assert [item.position for item in ledger.begun] == [n for n in range(300) if n not in done]
    assert not set(engine.done) & set(done)


def test_a_job_without_open_requests_ends_at_once():
    ledger, _ = drain([WorkItem(n, None) for n in range(3)], done=range(3))
    assert ledger.begun == []
    assert ledger.groups == []


class StopNow(Exception):
    pass


@pytest.mark.parametrize("calls", [1, 2, 7, 30])
def test_keep_alive_ends_it_between_two_steps(calls):
    left = iter(range(calls - 1))

    def keep_alive():
        if next(left, None) is None:
            raise StopNow

    items = [WorkItem(n, b"%d" % n) for n in range(200)]
    ledger, engine = Ledger(items), ShuffledEngine(3, seed=5)
    with pytest.raises(StopNow):
        Window(ledger, engine, keep_alive).drain()
    assert list(ledger.done) == list(range(len(ledger.done)))  # a beginning of the job, without gaps
    assert len(ledger.done) < 200
    resumed = Window(ledger2 := Ledger(items, ledger.done), ShuffledEngine(3, seed=6), lambda: None)
    resumed.drain()
    assert sorted(ledger2.done) == list(range(200))


@pytest.mark.parametrize("calls", [1, 2, 7, 30])
def test_a_pause_leaves_nothing_in_work_and_no_gap(calls):
    left = iter(range(calls - 1))
    items = [WorkItem(n, b"%d" % n) for n in range(200)]
    ledger, engine = Ledger(items), ShuffledEngine(3, seed=5)
    assert not Window(ledger, engine, lambda: None).drain(lambda: next(left, None) is None)
    assert engine.held == []
    assert len(ledger.begun) == len(ledger.done) < 200
    assert list(ledger.done) == list(range(len(ledger.done)))
    assert Window(Ledger(items, ledger.done), ShuffledEngine(3, seed=6), lambda: None).drain()


def test_a_fault_of_a_commit_ends_the_window():
    class Full(Ledger):
        def commit(self, done):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Window(Full([WorkItem(0, None)]), ShuffledEngine(1, seed=0), lambda: None).drain()
