"""A window over a job's entries: many in work at once, committed in manifest order, memory bounded."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal

#: The most entries between the oldest uncommitted one and the newest started.
WIDTH = 256
#: Outcomes are committed together: at most so many, or as soon as the oldest has waited so long.
COMMIT_MOST = 64
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
    def free_slots(self) -> int:
        """How many more tasks can be submitted before all workers are fully loaded."""
        ...

    @property
    def problem(self) -> str:
        """Why no worker gets ready, in one sentence; empty while one is ready."""
        ...

    def submit(self, task: Task) -> None: ...

    def results(self, timeout_s: float) -> list[tuple[int, TaskResult | Refusal]]: ...

    def discard(self) -> None: ...

    def close(self) -> None: ...


class Work(Protocol[Item]):
    """Reads and commits a job's entries."""

    def fetch(self, start: int, limit: int) -> list[Item]:
        """Read the next entries without an outcome, from position `start` on."""
        ...

    def task(self, item: Item) -> Task | None:
        """Build the task that an entry needs; None when it can be decided without one."""
        ...

    def commit(self, done: Sequence[tuple[Item, TaskResult | Refusal | None]]) -> None:
        """Decide entries and write their outcomes, in one transaction."""
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

    def drain(self) -> None:
        """Return when every entry has a committed outcome. `keep_alive` may raise to end it early."""
        waited_since = 0.0
        while True:
            self._keep_alive()
            self._submit()
            ready = self._committable()
            if ready and not waited_since:
                waited_since = time.monotonic()
            idle = not self._by_task_id
            if ready and (ready >= COMMIT_MOST or idle or time.monotonic() - waited_since >= COMMIT_WAIT_S):
                self._commit(ready)
                waited_since = 0.0
            elif not self._slots and not self._fetched and not self._more_entries:
                return
            elif not idle:
                for task_id, result in self._engine.results(COMMIT_WAIT_S if ready else TICK_S):
                    slot = self._by_task_id.pop(task_id)
                    slot.done, slot.result = True, result

    def _submit(self) -> None:
        while len(self._slots) < WIDTH and self._engine.free_slots:
            if not self._fetched:
                if not self._more_entries:
                    return
                self._fetched.extend(self._work.fetch(self._next_position, WIDTH))
                if not self._fetched:
                    self._more_entries = False
                    return
                self._next_position = self._fetched[-1].position + 1
            item = self._fetched[0]
            if item.dedup_key is not None:
                if item.dedup_key in self._keys_in_work:
                    return  # the outcome of the one in work decides about this one
                self._keys_in_work.add(item.dedup_key)
            self._fetched.popleft()
            task = self._work.task(item)
            slot = _Slot(item, done=task is None, result=None)
            self._slots.append(slot)
            if task is not None:
                self._by_task_id[task.task_id] = slot
                self._engine.submit(task)

    def _committable(self) -> int:
        count = 0
        for slot in self._slots:
            if not slot.done or count == COMMIT_MOST:
                break
            count += 1
        return count

    def _commit(self, count: int) -> None:
        slots = [self._slots.popleft() for _ in range(count)]
        self._work.commit([(slot.item, slot.result) for slot in slots])
        for slot in slots:
            if slot.item.dedup_key is not None:
                self._keys_in_work.discard(slot.item.dedup_key)
