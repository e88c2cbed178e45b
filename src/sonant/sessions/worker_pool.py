"""The worker pool of live calls: a thread that owns a local engine and submits tasks by priority.

Authentication goes before fraud detection, and that before enrollment. Tasks other than authentication never
hold all workers: the large spoofing network may take half a second, which no caller should wait for.
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

from sonant.backoff import Backoff
from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.work_time import add_work_span
from sonant.jobs.workers.engines.local import LocalEngine
from sonant.threads import start_loop
from sonant.traces import Tracer

log = logging.getLogger(__name__)

#: How often dead workers are looked for, in seconds.
POLL_S = 5.0
#: Bounds of the pauses after failures of the engine, and tries of a task that was running then.
PAUSE_LEAST_S, PAUSE_MOST_S = 2.0, 10.0
MAX_ATTEMPTS = 3
#: How long tasks wait while no worker becomes ready, in seconds.
MAX_WAIT_S = 60.0

#: Called in the pool's thread; must be quick.
ResultCallback = Callable[[TaskResult | Refusal], None]


class Priority(IntEnum):
    """Lower values go first."""

    AUTHENTICATION = 0
    FRAUD = 1
    ENROLLMENT = 2


@dataclass(slots=True, order=True)
class _QueuedTask:
    priority: Priority
    number: int
    task: Task = field(compare=False)
    on_result: ResultCallback = field(compare=False)
    attempts: int = field(compare=False, default=0)
    submitted_s: float = field(compare=False, default_factory=time.monotonic)


class WorkerPool:
    """Runs tasks in worker processes, which start with the first `warm` or `submit`.

    All methods may be called from any thread.
    """

    def __init__(self, engine: LocalEngine, workers: int, tracer: Tracer | None = None) -> None:
        """`engine` belongs to this pool alone and has `workers` workers; `tracer` begins a span a task."""
        self._engine, self._workers, self._tracer = engine, workers, tracer
        self._lock = threading.Lock()
        self._new: list[_QueuedTask] = []
        self._numbers = count()
        self._wake_receiver, self._wake_sender = multiprocessing.Pipe(duplex=False)
        self._woken = False
        self._closing = False
        self._thread: threading.Thread | None = None
        # Used in the thread only:
        self._pauses = Backoff(PAUSE_LEAST_S, PAUSE_MOST_S)
        self._waiting: list[_QueuedTask] = []
        self._running: dict[int, _QueuedTask] = {}

    def warm(self) -> None:
        """Start the workers, so that they are ready when speech is."""
        with self._lock:
            self._start()

    def submit(self, task: Task, priority: Priority, on_result: ResultCallback) -> None:
        """Queue a task; `on_result` is called once with its result. The pool sets the task's id."""
        if self._tracer is not None:
            task, on_result = _traced(self._tracer, task, priority, on_result)
        number = next(self._numbers)
        with self._lock:
            if not self._closing:
                self._start()
                self._new.append(_QueuedTask(priority, number, replace(task, task_id=number), on_result))
                self._wake()
                return
        _deliver(on_result, _stopped())

    def close(self) -> None:
        """Stop the workers and refuse the tasks that are not done."""
        with self._lock:
            self._closing = True
            thread = self._thread
            self._wake()
        if thread is not None:
            thread.join()

    def pids(self) -> list[int]:
        """List the process ids of the workers."""
        return self._engine.pids()

    @property
    def lost(self) -> int:
        """How many workers ended before they were ready."""
        return self._engine.workers_lost

    def _start(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = start_loop(self._run, "live pool")

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._wake_sender.send_bytes(b"!")

    # --- in the thread

    def _run(self) -> None:
        while self._run_once():
            pass
        with contextlib.suppress(Exception):
            self._engine.close()
        for queued in [*self._running.values(), *self._waiting]:
            _deliver(queued.on_result, _stopped())

    def _run_once(self) -> bool:
        """Submit tasks and deliver results; False when the pool closes."""
        try:
            self._engine.warm()
            self._dispatch()
            for task_id, result in self._engine.results(POLL_S, self._wake_receiver):
                _deliver(self._running.pop(task_id).on_result, result)
            if self._engine.problem:
                self._refuse_overdue(self._engine.problem)
            self._pauses.reset()
        except Exception:
            log.exception("live calls: the worker pool failed; its tasks are queued again")
            self._engine.discard()
            self._requeue_running()
            self._pause()
        return self._accept_new()

    def _accept_new(self) -> bool:
        with self._lock:
            if self._woken:
                self._wake_receiver.recv_bytes()
                self._woken = False
            new, self._new = self._new, []
            closing = self._closing
        for queued in new:
            heapq.heappush(self._waiting, queued)
        return not closing

    def _dispatch(self) -> None:
        while self._waiting and len(self._running) < self._workers:
            others = sum(queued.priority > Priority.AUTHENTICATION for queued in self._running.values())
            if self._waiting[0].priority > Priority.AUTHENTICATION and others >= max(1, self._workers - 1):
                return
            queued = heapq.heappop(self._waiting)
            self._running[queued.number] = queued
            self._engine.submit(queued.task)

    def _refuse_overdue(self, problem: str) -> None:
        """Refuse tasks that have waited too long for a worker to become ready."""
        before_s = time.monotonic() - MAX_WAIT_S
        late = [
            queued for queued in [*self._running.values(), *self._waiting] if queued.submitted_s <= before_s
        ]
        self._waiting = [queued for queued in self._waiting if queued.submitted_s > before_s]
        heapq.heapify(self._waiting)
        for queued in late:
            # A task that the engine has stays there: taking it back would end a worker that is starting.
            on_result, queued.on_result = queued.on_result, _ignore
            _deliver(on_result, Refusal(500, problem))

    def _requeue_running(self) -> None:
        for queued in self._running.values():
            queued.attempts += 1
            if queued.attempts >= MAX_ATTEMPTS:
                _deliver(queued.on_result, Refusal(500, "internal failure; see the service's log"))
            else:
                heapq.heappush(self._waiting, queued)
        self._running.clear()

    def _pause(self) -> None:
        deadline = time.monotonic() + self._pauses.next_s()
        while not self._closing and (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(0.1, left_s))


def _deliver(on_result: ResultCallback, result: TaskResult | Refusal) -> None:
    try:
        on_result(result)
    except Exception:
        log.exception("live calls: a result could not be delivered")


def _traced(
    tracer: Tracer, task: Task, priority: Priority, on_result: ResultCallback
) -> tuple[Task, ResultCallback]:
    """Have a task's work measured, and end its spans when the result arrives: the first shows the wait."""
    span = tracer.begin("call", attributes={"sonant.task": priority.name.lower()})
    if not span.recorded:
        return task, on_result

    def end(result: TaskResult | Refusal) -> None:
        refused = result.code if isinstance(result, Refusal) else None
        add_work_span(span, "recording", result.worked, refused=refused)
        span.end(error="" if refused is None else str(refused), failed=(refused or 0) >= 500)
        on_result(result)

    return task.measured(), end


def _ignore(_result: TaskResult | Refusal) -> None:
    pass


def _stopped() -> Refusal:
    return Refusal(500, "the service stopped")
