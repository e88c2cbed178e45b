"""The local engine, looked at while it works."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from waiting import dawdle

from sonant.jobs.entry import Task
from sonant.jobs.window import COMMIT_WAIT_S, Engine


class WatchedEngine:
    """The real engine, with something that happens when its first task or its n-th result comes by.

    With `one_by_one`, each result is given time to be committed before the next one is told, so that n - 1
    requests are committed when the n-th result comes by.
    """

    def __init__(
        self, engine: Engine, during: Mapping[int, Callable[[], object]], *, one_by_one: bool
    ) -> None:
        self._engine, self._during, self._one_by_one = engine, dict(during), one_by_one
        self._ready: deque[Any] = deque()
        self._told = 0
        self._pause = False

    @property
    def free_slots(self) -> int:
        return self._engine.free_slots

    @property
    def problem(self) -> str:
        return self._engine.problem

    @property
    def workers_lost(self) -> int:
        return self._engine.workers_lost

    @property
    def capacity(self) -> int:
        return self._engine.capacity

    def submit(self, task: Task) -> None:
        self.submit_all([task])

    def submit_all(self, tasks: Sequence[Task]) -> None:
        self._engine.submit_all(tasks)
        self._happen(0)

    def results(self, timeout_s: float) -> list[Any]:
        if self._pause:
            dawdle(COMMIT_WAIT_S * 1.2)
            self._pause = False
            return []
        if not self._ready:
            self._ready.extend(self._engine.results(timeout_s))
        found = []
        while self._ready and not self._pause:
            found.append(self._ready.popleft())
            self._told += 1
            self._happen(self._told)
            self._pause = self._one_by_one
        return found

    def discard(self) -> None:
        self._engine.discard()

    def close(self) -> None:
        self._engine.close()

    def _happen(self, number: int) -> None:
        action = self._during.pop(number, None)
        if action is not None:
            action()
