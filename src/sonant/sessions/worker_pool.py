"""The worker pool of live calls: a thread that owns a local engine and gives it the most urgent task first.

Authentication goes before fraud detection, that before enrollment. What is not urgent never holds all
workers: the large spoofing network may take half a second, which no caller should wait for.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import count

from sonant.cpu_affinity import CpuAffinity
from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.workers.local import LocalEngine
from sonant.threads import start_loop

log = logging.getLogger(__name__)

#: How often workers that died unasked are looked for.
LOOK_S = 5.0
#: A task that was in hand when the engine failed is tried again after this, and so often in all.
PAUSE_S = 2.0
MAX_ATTEMPTS = 3
#: How long tasks wait while no worker gets ready.
PATIENCE_S = 60.0

#: Called in the pool's thread; must be quick.
Answer = Callable[[TaskResult | Refusal], None]


class Urgency(IntEnum):
    AUTHENTICATION = 0
    FRAUD = 1
    ENROLLMENT = 2


@dataclass(slots=True, order=True)
class _Order:
    urgency: Urgency
    number: int
    task: Task = field(compare=False)
    answer: Answer = field(compare=False)
    attempts: int = field(compare=False, default=0)
    since_s: float = field(compare=False, default_factory=time.monotonic)


class Pool:
    """Workers start with the first `warm` or `submit`. All methods may be called from any thread."""

    def __init__(self, engine: LocalEngine, workers: int, cores: CpuAffinity) -> None:
        """`engine` is this pool's alone, and has so many workers."""
        self._engine, self._workers, self._cores = engine, workers, cores
        self._lock = threading.Lock()
        self._new: list[_Order] = []
        self._numbers = count()
        self._wake, self._waker = multiprocessing.Pipe(duplex=False)
        self._woken = False
        self._closing = False
        self._thread: threading.Thread | None = None
        # The thread's own:
        self._waiting: list[_Order] = []
        self._in_hand: dict[int, _Order] = {}

    def warm(self) -> None:
        """Start the workers, so that they are there when speech is."""
        with self._lock:
            self._begin()

    def submit(self, task: Task, urgency: Urgency, answer: Answer) -> None:
        """Have a task done; `answer` gets the result, once. The task's ticket is the pool's to give."""
        number = next(self._numbers)
        with self._lock:
            if not self._closing:
                self._begin()
                self._new.append(_Order(urgency, number, replace(task, task_id=number), answer))
                self._rouse()
                return
        _answer(answer, _stopped())

    def close(self) -> None:
        """Stop the workers; what is not done is refused."""
        with self._lock:
            self._closing = True
            thread = self._thread
            self._rouse()
        if thread is not None:
            thread.join()

    def pids(self) -> list[int]:
        return self._engine.pids()

    @property
    def lost(self) -> int:
        """How many workers ended before they were ready."""
        return self._engine.lost

    def _begin(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = start_loop(self._run, "live pool")

    def _rouse(self) -> None:
        if not self._woken:
            self._woken = True
            self._waker.send_bytes(b"!")

    # --- in the thread

    def _run(self) -> None:
        with self._cores.all():  # the workers inherit them
            while self._turn():
                pass
        with contextlib.suppress(Exception):
            self._engine.close()
        for order in [*self._in_hand.values(), *self._waiting]:
            _answer(order.answer, _stopped())

    def _turn(self) -> bool:
        """Give tasks out and take results in; False when the pool is to close."""
        try:
            self._engine.warm()
            self._hand_out()
            for task_id, result in self._engine.results(LOOK_S, self._wake):
                _answer(self._in_hand.pop(task_id).answer, result)
            if self._engine.problem:
                self._give_up(self._engine.problem)
        except Exception:
            log.exception("live calls: the worker pool failed; its tasks are given out again")
            self._engine.discard()
            self._put_back()
            self._pause()
        return self._take_in()

    def _take_in(self) -> bool:
        with self._lock:
            if self._woken:
                self._wake.recv_bytes()
                self._woken = False
            new, self._new = self._new, []
            closing = self._closing
        for order in new:
            heapq.heappush(self._waiting, order)
        return not closing

    def _hand_out(self) -> None:
        while self._waiting and len(self._in_hand) < self._workers:
            others = sum(order.urgency > Urgency.AUTHENTICATION for order in self._in_hand.values())
            if self._waiting[0].urgency > Urgency.AUTHENTICATION and others >= max(1, self._workers - 1):
                return
            order = heapq.heappop(self._waiting)
            self._in_hand[order.number] = order
            self._engine.submit(order.task)

    def _give_up(self, problem: str) -> None:
        """Refuse what has waited too long for a worker that gets ready."""
        before_s = time.monotonic() - PATIENCE_S
        late = [order for order in [*self._in_hand.values(), *self._waiting] if order.since_s <= before_s]
        self._waiting = [order for order in self._waiting if order.since_s > before_s]
        heapq.heapify(self._waiting)
        for order in late:
            # One that the engine has stays there: to take it back would end a worker that is starting.
            answer, order.answer = order.answer, _to_nobody
            _answer(answer, Refusal(500, problem))

    def _put_back(self) -> None:
        for order in self._in_hand.values():
            order.attempts += 1
            if order.attempts >= MAX_ATTEMPTS:
                _answer(order.answer, Refusal(500, "internal failure; see the service's log"))
            else:
                heapq.heappush(self._waiting, order)
        self._in_hand.clear()

    def _pause(self) -> None:
        deadline = time.monotonic() + PAUSE_S
        while not self._closing and (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(0.1, left_s))


def _answer(answer: Answer, result: TaskResult | Refusal) -> None:
    try:
        answer(result)
    except Exception:
        log.exception("live calls: a result could not be taken")


def _to_nobody(_result: TaskResult | Refusal) -> None:
    pass


def _stopped() -> Refusal:
    return Refusal(500, "the service stopped")
