"""A window over a job's entries: many in work at once, committed in manifest order, memory bounded.

Entries are begun and committed in groups. A group of outcomes is committed when it is large enough
(`group_size`) or its first has waited for COMMIT_WAIT_S.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.group_size import GroupSize

#: The most entries between the oldest uncommitted one and the newest started; more where the engine executes
#: more than half of them at once.
WIDTH = 512
#: Results that wait for the commit of an older one hold so many bytes at most, beside those of tasks that
#: are in work when the limit is reached. Speech that is kept is most of it: about 300 kB a result.
HELD_BYTES = 64 << 20
#: The longest that an outcome waits for others of its group.
COMMIT_WAIT_S = 0.05
#: The longest wait for results.
TICK_S = 0.5

Item = TypeVar("Item", bound="WindowItem")


class WindowItem(Protocol):
    """One entry of a job: its position, and a key that no two entries in work may share."""

    @property
    def position(self) -> int: ...

    @property
    def dedup_key(self) -> bytes | None: ...


class Engine(Protocol):
    """Executes tasks in other processes; see `workers.local`."""

    @property
    def workers_lost(self) -> int:
        """Workers that ended before they were ready, since the engine was made."""
        ...

    @property
    def capacity(self) -> int:
        """How many tasks all workers hold when they are fully loaded; it may change."""
        ...

    @property
    def free_slots(self) -> int:
        """How many more tasks can be submitted before all workers are fully loaded."""
        ...

    @property
    def problem(self) -> str:
        """Why no worker gets ready, in one sentence; empty while one is ready."""
        ...

    def submit(self, task: Task) -> None: ...

    def submit_all(self, tasks: Sequence[Task]) -> None: ...

    def results(self, timeout_s: float) -> list[tuple[int, TaskResult | Refusal]]: ...

    def discard(self) -> None: ...

    def close(self) -> None: ...


class Work(Protocol[Item]):
    """Reads and commits a job's entries."""

    def fetch(self, start: int, limit: int) -> list[Item]:
        """Read the next entries without an outcome, from position `start` on."""
        ...

    def tasks(self, items: Sequence[Item]) -> list[Task | None]:
        """Build the tasks that entries need, None for one that can be decided without; no two share a key."""
        ...

    def commit(self, done: Sequence[tuple[Item, TaskResult | Refusal | None]]) -> float:
        """Decide entries and write their outcomes, in one transaction.

        Returns how long that took, in seconds, without what a transaction of one entry would take as well.
        """
        ...


@dataclass(slots=True)
class _Slot(Generic[Item]):
    item: Item
    done: bool
    result: TaskResult | Refusal | None


class Window(Generic[Item]):
    """Processes all entries of one job with an engine."""

    def __init__(self, work: Work[Item], engine: Engine, keep_alive: Callable[[], None]) -> None:
        self._work, self._engine, self._keep_alive = work, engine, keep_alive
        self._slots: deque[_Slot[Item]] = deque()
        self._by_task_id: dict[int, _Slot[Item]] = {}
        self._keys_in_work: set[bytes] = set()
        self._fetched: deque[Item] = deque()
        self._next_position = 0
        self._more_entries = True
        self._ready = 0  # slots at the front that are done
        self._held_bytes = 0  # of results in slots
        self._group = GroupSize()

    def drain(self, pause_due: Callable[[], bool] = lambda: False) -> bool:
        """Process entries until every one has a committed outcome, and return True.

        Returns False once `pause_due` has said so and those that were begun are committed. `keep_alive` may
        raise to end it at once.
        """
        waited_since, pausing = 0.0, False
        while True:
            self._keep_alive()
            pausing = pausing or pause_due()
            if not pausing:
                self._submit()
            self._count_ready()
            ready = self._ready
            if ready and not waited_since:
                waited_since = time.monotonic()
            idle = not self._by_task_id
            due = ready >= self._group.size or idle or time.monotonic() - waited_since >= COMMIT_WAIT_S
            if ready and due:
                self._commit(min(ready, self._group.size))
                waited_since = 0.0
            elif not self._slots and (pausing or not (self._fetched or self._more_entries)):
                return not (self._fetched or self._more_entries)
            elif not idle:
                for task_id, result in self._engine.results(COMMIT_WAIT_S if ready else TICK_S):
                    slot = self._by_task_id.pop(task_id)
                    slot.done, slot.result = True, result
                    self._held_bytes += _size(result)

    def _submit(self) -> None:
        while items := self._take(self._room()):
            tasks = self._work.tasks(items)
            for item, task in zip(items, tasks, strict=True):
                slot = _Slot(item, done=task is None, result=None)
                self._slots.append(slot)
                if task is not None:
                    self._by_task_id[task.task_id] = slot
            needed = [task for task in tasks if task is not None]
            if needed:
                self._engine.submit_all(needed)

    def _room(self) -> int:
        """Count the entries that may be begun now."""
        if self._held_bytes >= HELD_BYTES and self._slots:
            return 0
        width = max(WIDTH, 2 * self._engine.capacity)
        return min(width - len(self._slots), self._engine.free_slots)

    def _take(self, most: int) -> list[Item]:
        """Take the next entries, up to the first that shares its key with one in work: the outcome of that
        one decides about it."""
        items: list[Item] = []
        while len(items) < most:
            if not self._fetched:
                if not self._more_entries:
                    break
                self._fetched.extend(self._work.fetch(self._next_position, WIDTH))
                if not self._fetched:
                    self._more_entries = False
                    break
                self._next_position = self._fetched[-1].position + 1
            key = self._fetched[0].dedup_key
            if key is not None:
                if key in self._keys_in_work:
                    break
                self._keys_in_work.add(key)
            items.append(self._fetched.popleft())
        return items

    def _count_ready(self) -> None:
        while self._ready < len(self._slots) and self._slots[self._ready].done:
            self._ready += 1

    def _commit(self, count: int) -> None:
        slots = [self._slots.popleft() for _ in range(count)]
        self._ready -= count
        spent_s = self._work.commit([(slot.item, slot.result) for slot in slots])
        self._group.measured(count, spent_s)
        for slot in slots:
            self._held_bytes -= _size(slot.result)
            if slot.item.dedup_key is not None:
                self._keys_in_work.discard(slot.item.dedup_key)


def _size(result: TaskResult | Refusal | None) -> int:
    """Return the bytes of a result that can be large."""
    return len(result.audio or b"") if isinstance(result, TaskResult) else 0
