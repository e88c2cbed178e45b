"""Share threads, queues and other slots among callers: an account, or an address before an account is known.

One rule holds for every resource that several callers use. A caller may take any free slot but the last one,
which is for a caller who has none. What waits for a slot is bounded; when the queue is full, the newest task
of the caller with most tasks is refused, so that a caller with few tasks is always admitted.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from sonant.errors import Throttling

Item = TypeVar("Item")


class SlotCounts:
    """Counts the slots that callers have taken. Not for several threads at once."""

    def __init__(self, most: int) -> None:
        """`most` slots in all; at least 1."""
        self.most = max(1, most)
        self.taken = 0
        """Slots that are taken now."""
        self._by_caller: Counter[Hashable] = Counter()

    def of(self, caller: Hashable) -> int:
        """Count the slots that a caller has."""
        return self._by_caller.get(caller, 0)

    def may_take(self, caller: Hashable) -> bool:
        """Return whether there is a slot for this caller: the last one only for a caller who has none."""
        free = self.most - self.taken
        return free > 1 or (free == 1 and caller not in self._by_caller)

    def take(self, caller: Hashable) -> None:
        """Take a slot."""
        self.taken += 1
        self._by_caller[caller] += 1

    def give(self, caller: Hashable) -> None:
        """Give a slot back."""
        self.taken -= 1
        self._by_caller[caller] -= 1
        if not self._by_caller[caller]:
            del self._by_caller[caller]


class FairSlots:
    """Slots that a caller takes at once or not at all. For any number of threads."""

    def __init__(self, most: int, refusal: str) -> None:
        """`refusal` is the message of Throttling."""
        self._counts, self._refusal = SlotCounts(most), refusal
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return self._counts.taken

    @property
    def most(self) -> int:
        """How many slots there are."""
        return self._counts.most

    @contextmanager
    def held(self, caller: Hashable) -> Iterator[None]:
        """Hold a slot for a caller. Raises Throttling when there is none for this caller."""
        with self._lock:
            if not self._counts.may_take(caller):
                raise Throttling(self._refusal)
            self._counts.take(caller)
        try:
            yield
        finally:
            with self._lock:
                self._counts.give(caller)


class FairQueue(Generic[Item]):
    """Tasks of callers that wait for slots, which are threads. Not for several threads at once.

    `next` takes from the caller with fewest running tasks; among equals, from the one who was served longest
    ago.
    """

    def __init__(self, slots: int, most: int) -> None:
        """At most `most` tasks run or wait, of which `slots` run."""
        self.running = SlotCounts(slots)
        self.most = most
        self._waiting: dict[Hashable, deque[Item]] = {}  # who was served longest ago comes first
        self.waiting = 0
        """Tasks that wait."""

    def __len__(self) -> int:
        """Count the tasks that run or wait."""
        return self.waiting + self.running.taken

    def add(self, caller: Hashable, item: Item) -> Item | None:
        """Add a task. Returns the task that is refused for it because the queue is full: perhaps itself."""
        refused: Item | None = None
        if len(self) >= self.most:
            refused = self._drop_from_longest(self._tasks_of(caller) + 1)
            if refused is None:
                return item
        mine = self._waiting.get(caller)
        if mine is None:
            mine = self._waiting[caller] = deque()
        mine.append(item)
        self.waiting += 1
        return refused

    def next(self) -> tuple[Hashable, Item] | None:
        """Take the task that is to run next, and its slot; None when none waits that may run now."""
        caller = self._choose() if self._waiting else None
        if caller is None:
            return None
        tasks = self._waiting.pop(caller)
        item = tasks.popleft()
        if tasks:
            self._waiting[caller] = tasks  # behind the others
        self.waiting -= 1
        self.running.take(caller)
        return caller, item

    def ended(self, caller: Hashable) -> None:
        """Free the slot of a task that has ended."""
        self.running.give(caller)

    def remove(self, caller: Hashable, item: Item) -> None:
        """Remove a task that waits."""
        tasks = self._waiting[caller]
        if tasks[0] is item:
            tasks.popleft()
        else:
            tasks.remove(item)
        if not tasks:
            del self._waiting[caller]
        self.waiting -= 1

    def switch(self, before: Hashable, after: Hashable) -> bool:
        """Count a running task for another caller; False when it must give its slot back and wait its turn.

        That is so while others wait, or when no slot would be left for a caller who has none.
        """
        if self.running.of(after) and (
            self.running.taken >= self.running.most or not self._waiting.keys() <= {before, after}
        ):
            return False
        self.running.give(before)
        self.running.take(after)
        return True

    def drain(self) -> list[Item]:
        """Remove all waiting tasks."""
        items = [item for tasks in self._waiting.values() for item in tasks]
        self._waiting.clear()
        self.waiting = 0
        return items

    def _choose(self) -> Hashable | None:
        chosen, fewest = None, 0
        for caller in self._waiting:
            count = self.running.of(caller)
            if self.running.may_take(caller) and (chosen is None or count < fewest):
                chosen, fewest = caller, count
                if not count:
                    break
        return chosen

    def _tasks_of(self, caller: Hashable) -> int:
        return len(self._waiting.get(caller, ())) + self.running.of(caller)

    def _drop_from_longest(self, more_than: int) -> Item | None:
        """Remove the newest waiting task of the caller with most tasks, if that has more than so many."""
        longest = max(self._waiting, key=self._tasks_of, default=None)
        if longest is None or self._tasks_of(longest) <= more_than:
            return None
        tasks = self._waiting[longest]
        item = tasks.pop()
        if not tasks:
            del self._waiting[longest]
        self.waiting -= 1
        return item
