"""Database work of live calls, in a thread of its own: in order, and repeated while the database fails.

Each task is one short transaction. A failing task does not block the queue.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from sonant.backoff import Backoff
from sonant.errors import DatabaseUnavailable, IntegrityFault, KeysUnreachable, SetupError
from sonant.storage.database.errors import error_text
from sonant.threads import start_loop

log = logging.getLogger(__name__)

#: Longest pause before a task's first repetition, in seconds; it doubles with every further one.
RETRY_FIRST_S = 0.1
#: Tries of one task. With these pauses a task outlasts failures of at least six seconds.
ATTEMPTS = 8
#: Failures that may be over at the next try.
TRANSIENT = (SQLAlchemyError, SetupError, DatabaseUnavailable, KeysUnreachable)
#: Least seconds between two runs of the periodic task, however often it is asked for.
PERIODIC_GAP_S = 0.1

_NEVER = float("inf")


class _Task:
    __slots__ = ("attempts", "backoff", "name", "on_failure", "run")

    def __init__(self, name: str, run: Callable[[], None], on_failure: Callable[[], None]) -> None:
        self.name, self.run, self.on_failure, self.attempts = name, run, on_failure, 0
        self.backoff = Backoff(RETRY_FIRST_S, RETRY_FIRST_S * 2 ** (ATTEMPTS - 2))


class RetryQueue:
    """Runs tasks in order. `put` and `schedule_periodic` may be called from any thread and never wait."""

    def __init__(
        self,
        name: str,
        periodic: Callable[[], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`periodic` runs between the tasks when `schedule_periodic` asks for it."""
        self._name, self._periodic, self._monotonic = name, periodic, monotonic
        self._condition = threading.Condition()
        self._ready: deque[_Task] = deque()
        self._later: list[tuple[float, int, _Task]] = []
        self._retries = 0
        self._next_periodic_s, self._last_periodic_s = _NEVER, -_NEVER
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. Raises RuntimeError when the system has none to give."""
        self._thread = start_loop(self._run, self._name)

    def put(self, name: str, run: Callable[[], None], on_failure: Callable[[], None]) -> None:
        """Add a task; `on_failure` is called instead when it cannot be done."""
        with self._condition:
            self._ready.append(_Task(name, run, on_failure))
            self._condition.notify()

    def schedule_periodic(self, after_s: float = 0.0) -> None:
        """Run the periodic task after `after_s` seconds, or earlier if that was asked for."""
        with self._condition:
            due = max(self._monotonic() + after_s, self._last_periodic_s + PERIODIC_GAP_S)
            self._next_periodic_s = min(self._next_periodic_s, due)
            self._condition.notify()

    def close(self, wait_s: float) -> None:
        """Run each remaining task once at most and end; wait no longer than `wait_s` seconds."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(wait_s)

    def run_due(self) -> None:
        """Run everything that is due now. The thread does nothing else."""
        while (step := self._take_due()) is not None:
            step()

    def _run(self) -> None:
        while True:
            self.run_due()
            with self._condition:
                due, now = self._due_s(), self._monotonic()
                if due > now:
                    if self._closing:
                        return
                    self._condition.wait(None if due == _NEVER else due - now)

    def _due_s(self) -> float:
        """When the next step is due, in monotonic seconds."""
        if self._ready:
            return -_NEVER
        retry_s = self._later[0][0] if self._later else _NEVER
        if self._closing:
            return -_NEVER if self._later else _NEVER
        return min(self._next_periodic_s, retry_s)

    def _take_due(self) -> Callable[[], None] | None:
        with self._condition:
            now = self._monotonic()
            while self._later and (self._closing or self._later[0][0] <= now):
                self._ready.append(heapq.heappop(self._later)[2])
            if self._periodic is not None and self._next_periodic_s <= now and not self._closing:
                self._last_periodic_s, self._next_periodic_s = now, _NEVER
                return self._run_periodic
            if self._ready:
                task = self._ready.popleft()
                return lambda: self._run_task(task)
            return None

    def _run_task(self, task: _Task) -> None:
        try:
            task.run()
            return
        except TRANSIENT as fault:
            task.attempts += 1
            again = task.attempts < ATTEMPTS and not self._closing
            what = "trying again" if again else "given up"
            log.warning("live calls: %s: %s; %s", task.name, error_text(fault) or fault, what)
            if again:
                self._retry(task)
                return
        except IntegrityFault as fault:
            log.error("live calls: %s: %s", task.name, fault)
        except Exception:
            log.exception("live calls: %s: internal failure", task.name)
        _run_logged(task.on_failure)

    def _retry(self, task: _Task) -> None:
        with self._condition:
            self._retries += 1
            due = self._monotonic() + task.backoff.next_s()
            heapq.heappush(self._later, (due, self._retries, task))

    def _run_periodic(self) -> None:
        assert self._periodic is not None
        _run_logged(self._periodic)


def _run_logged(step: Callable[[], None]) -> None:
    try:
        step()
    except TRANSIENT as fault:
        log.warning("live calls: %s", error_text(fault) or fault)
    except Exception:
        log.exception("live calls: internal failure")
