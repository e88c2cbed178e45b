"""The window over a job's requests: many in work at once, committed in manifest order, memory bounded."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal

#: Requests between the oldest uncommitted one and the newest begun.
WIDTH = 256
#: Outcomes are committed together, this many at most, or as soon as the oldest has waited this long.
COMMIT_MOST = 64
COMMIT_WAIT_S = 0.05
#: The longest that nothing is looked at.
TICK_S = 0.5

Item = TypeVar("Item", bound="Waiting")


class Waiting(Protocol):
    """One request of a job: what it waits for, and a mark that no two requests in work may share."""

    @property
    def position(self) -> int: ...

    @property
    def dedup_key(self) -> bytes | None: ...


class Engine(Protocol):
    """Does tasks somewhere else; see `engines.local`."""

    @property
    def lost(self) -> int:
        """How many workers ended before they were ready."""
        ...

    @property
    def room(self) -> int: ...

    @property
    def problem(self) -> str:
        """Why no worker gets ready, in one sentence; empty when one does."""
        ...

    def submit(self, task: Task) -> None: ...

    def results(self, timeout_s: float) -> list[tuple[int, TaskResult | Refusal]]: ...

    def discard(self) -> None: ...

    def close(self) -> None: ...


class Work(Protocol[Item]):
    """What a kind of job does with its requests."""

    def fetch(self, start: int, limit: int) -> list[Item]:
        """The next requests without an outcome, from position `start` on."""
        ...

    def begin(self, item: Item) -> Task | None:
        """The task that a request needs, or None when it can be decided without."""
        ...

    def commit(self, done: Sequence[tuple[Item, TaskResult | Refusal | None]]) -> None:
        """Write outcomes and what hangs on them, in one transaction."""
        ...


@dataclass(slots=True)
class _Slot(Generic[Item]):
    item: Item
    done: bool
    result: TaskResult | Refusal | None


class Window(Generic[Item]):
    """Drains one job's requests through an engine."""

    def __init__(self, work: Work[Item], engine: Engine, keep_alive: Callable[[], None]) -> None:
        self._work, self._engine, self._keep_alive = work, engine, keep_alive
        self._slots: deque[_Slot[Item]] = deque()
        self._by_ticket: dict[int, _Slot[Item]] = {}
        self._marks: set[bytes] = set()
        self._ahead: deque[Item] = deque()
        self._start = 0
        self._more = True

    def drain(self) -> None:
        """Return when every request has a committed outcome. `keep_alive` may raise to end it early."""
        waited_since = 0.0
        while True:
            self._keep_alive()
            self._begin()
            ready = self._ready()
            if ready and not waited_since:
                waited_since = time.monotonic()
            idle = not self._by_ticket
            if ready and (ready >= COMMIT_MOST or idle or time.monotonic() - waited_since >= COMMIT_WAIT_S):
                self._commit(ready)
                waited_since = 0.0
            elif not self._slots and not self._ahead and not self._more:
                return
            elif not idle:
                for task_id, result in self._engine.results(COMMIT_WAIT_S if ready else TICK_S):
                    slot = self._by_ticket.pop(task_id)
                    slot.done, slot.result = True, result

    def _begin(self) -> None:
        while len(self._slots) < WIDTH and self._engine.room:
            if not self._ahead:
                if not self._more:
                    return
                self._ahead.extend(self._work.fetch(self._start, WIDTH))
                if not self._ahead:
                    self._more = False
                    return
                self._start = self._ahead[-1].position + 1
            item = self._ahead[0]
            if item.dedup_key is not None:
                if item.dedup_key in self._marks:
                    return  # the same speaker is in work: what becomes of that decides about this one
                self._marks.add(item.dedup_key)
            self._ahead.popleft()
            task = self._work.begin(item)
            slot = _Slot(item, done=task is None, result=None)
            self._slots.append(slot)
            if task is not None:
                self._by_ticket[task.task_id] = slot
                self._engine.submit(task)

    def _ready(self) -> int:
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
                self._marks.discard(slot.item.dedup_key)
