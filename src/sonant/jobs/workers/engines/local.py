"""The local engine: worker processes on this machine, each with one inference session.

A worker reports when it is ready, then holds up to two tasks: it fetches the audio of the next one while it
computes. A worker that dies or hangs is replaced and its tasks are assigned again; a task that keeps killing
its worker is refused. When workers do not get ready, no task is the cause: others are started after growing
pauses, and tasks wait.

Tasks that take a moment only are sent several in one message, and answered so: a message costs more than they
do. When a worker dies with such a message, nothing is known about which of its tasks was the cause: each is
sent alone from then on.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NamedTuple

from sonant.backoff import Backoff
from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.workers import EngineBackEnd, EngineParts
from sonant.settings import Settings

log = logging.getLogger(__name__)

#: Messages a worker holds: one in work, one whose audio it fetches.
DEPTH = 2
#: How long the tasks of one message take, about, and how many they are at most.
MESSAGE_S, MESSAGE_MOST = 0.01, 32
#: A task whose worker died so often is refused: the recording is the cause.
MAX_CRASHES = 5
#: After so many failed starts in a row a problem is reported.
MAX_FAILED_STARTS = 2
#: Pauses before a worker is started after one that did not get ready.
PAUSE_LEAST_S, PAUSE_MOST_S = 0.1, 10.0
#: A worker's first message, once its models are loaded.
READY = "ready"
#: How long a worker whose pipe has ended may take to end by itself, with an exit code of its own.
_END_S = 1.0

#: Runs in the worker: `(pipe, *arguments)`, until the pipe ends. It sends READY, receives tuples of tasks,
#: and sends one `Answers` or several for each.
WorkerMain = Callable[..., None]


def not_ready(what: str) -> str:
    """Say that workers do not get ready; `what` they do instead."""
    return (
        f"recordings cannot be processed: worker processes {what}; "
        "run `sonant doctor` and see the service's log"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """A worker process at one moment."""

    pid: int | None
    ready: bool
    task_ids: tuple[int, ...]
    """The tasks that it holds, the one in work first."""


class Answers(NamedTuple):
    """A worker's message: the results of the first tasks that it holds, in their order."""

    results: list[tuple[int, TaskResult | Refusal]]
    """Each with its task id."""
    seconds: float
    """How long the worker took, by its own clock: the engine may have looked late."""


class MessageSize:
    """Finds how many tasks to put into one message, from how long tasks take."""

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._task_s: float | None = None
        self.size = 1
        """A power of two: it changes rarely."""

    def measured(self, tasks: int, seconds: float) -> bool:
        """Take note of how long a worker took for some tasks; return whether the size has changed."""
        one_s = max(seconds / tasks, 1e-6)
        self._task_s = one_s if self._task_s is None else 0.8 * self._task_s + 0.2 * one_s
        fitting = max(1, min(self._most, int(self._seconds / self._task_s)))
        before, self.size = self.size, 1 << (fitting.bit_length() - 1)
        return self.size != before


def share(waiting: int, free: int, size: int) -> int:
    """Return how many of the waiting tasks go into the next of `free` messages of at most `size`."""
    return min(size, -(-waiting // max(1, free)))


@dataclass(slots=True)
class _Message:
    tasks: deque[Task]
    alone: bool  # one task: it is the cause when the worker dies


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    messages: deque[_Message] = field(default_factory=deque)
    since: float = 0.0  # when the message in work began, or the process, by the monotonic clock
    ready: bool = False

    @property
    def tasks(self) -> list[Task]:
        return [task for message in self.messages for task in message.tasks]


class LocalEngine:
    """A pool of worker processes. Not for several threads at once."""

    def __init__(
        self,
        main: WorkerMain,
        arguments: tuple[object, ...],
        *,
        workers: int,
        time_limit_s: float,
        message_most: int = 1,
    ) -> None:
        """`message_most` is how many tasks one message to a worker may hold."""
        self._main, self._arguments = main, arguments
        self._count = workers
        self.time_limit_s = time_limit_s
        """How long a worker may take to get ready, or for one task."""
        self._workers: list[_Worker] = []
        self._waiting: deque[Task] = deque()
        self._message = MessageSize(MESSAGE_S, message_most)
        self._alone: set[int] = set()  # tasks to be sent alone, since a worker died with them and others
        self._crashes: dict[int, int] = {}
        self._ready: deque[tuple[int, TaskResult | Refusal]] = deque()
        self._failed_starts = 0  # workers in a row that ended before they were ready
        self._pauses = Backoff(PAUSE_LEAST_S, PAUSE_MOST_S)
        self._start_after_s = float("-inf")  # by the monotonic clock
        self._problem = ""
        self.workers_lost = 0
        """Workers that ended before they were ready or could not be started, since the engine was made."""

    @property
    def free_slots(self) -> int:
        """How many more tasks can be submitted before all workers are fully loaded."""
        messages = (message for worker in self._workers for message in worker.messages)
        held = len(self._waiting) + sum(len(message.tasks) for message in messages)
        return max(0, self.capacity - held)

    @property
    def capacity(self) -> int:
        """How many tasks all workers hold when they are fully loaded."""
        return self._count * DEPTH * self._message.size

    @property
    def problem(self) -> str:
        """Why no worker gets ready, in one sentence; empty while one is ready."""
        return "" if any(worker.ready for worker in self._workers) else self._problem

    def submit(self, task: Task) -> None:
        """Submit a task; `results` returns its result with its task id."""
        self.submit_all([task])

    def submit_all(self, tasks: Sequence[Task]) -> None:
        """Submit tasks; `results` returns each result with its task id."""
        self._waiting.extend(tasks)
        self._assign()

    def warm(self) -> None:
        """Start every worker now instead of with the first task."""
        self._start_workers(self._count)

    def results(
        self, timeout_s: float, wake: Connection | None = None
    ) -> list[tuple[int, TaskResult | Refusal]]:
        """Return the results so far, waiting up to `timeout_s` for the first, or until `wake` can be read.

        While no worker gets ready there are none, and `problem` says why.
        """
        self._poll(0.0 if self._ready else timeout_s, wake)
        found = list(self._ready)
        self._ready.clear()
        return found

    def discard(self) -> None:
        """Forget every task in work, when a job ends early. Idle workers stay."""
        self._waiting.clear()
        self._crashes.clear()
        self._alone.clear()
        self._ready.clear()
        for worker in list(self._workers):
            if worker.tasks:
                self._stop(worker)

    def close(self) -> None:
        self._waiting.clear()
        for worker in list(self._workers):
            self._stop(worker)

    def states(self) -> list[WorkerState]:
        """Describe the workers that run now."""
        return [
            WorkerState(
                pid=worker.process.pid,
                ready=worker.ready,
                task_ids=tuple(task.task_id for task in worker.tasks),
            )
            for worker in self._workers
        ]

    def pids(self) -> list[int]:
        """List the process ids of the workers that run now."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def _assign(self) -> None:
        self._start_workers(min(self._count, len(self._workers) + len(self._waiting)))
        while self._waiting and self._workers:
            worker = min(self._workers, key=lambda worker: len(worker.messages))
            if len(worker.messages) >= DEPTH:
                return
            tasks = self._next_message()
            if not worker.messages:
                worker.since = time.monotonic()
            worker.messages.append(_Message(deque(tasks), alone=len(tasks) == 1))
            try:
                worker.pipe.send(tasks)
            except OSError:  # it died; _poll assigns the tasks again
                return

    def _next_message(self) -> tuple[Task, ...]:
        free = sum(max(0, DEPTH - len(worker.messages)) for worker in self._workers)
        most = share(len(self._waiting), free, self._message.size)
        tasks = [self._waiting.popleft()]
        while tasks[0].task_id not in self._alone and len(tasks) < most:
            if self._waiting[0].task_id in self._alone:
                break
            tasks.append(self._waiting.popleft())
        return tuple(tasks)

    def _start_workers(self, count: int) -> None:
        """Start workers up to this count, unless a failed start was too recent."""
        while len(self._workers) < count and time.monotonic() >= self._start_after_s:
            try:
                self._workers.append(self._start())
            except (OSError, MemoryError) as fault:  # no file descriptors, processes or memory free
                self._start_failed(f"cannot be started: {fault}")

    def _poll(self, timeout_s: float, wake: Connection | None) -> None:
        if self._waiting and len(self._workers) < self._count:
            timeout_s = min(timeout_s, max(0.0, self._start_after_s - time.monotonic()))
        pipes = {worker.pipe: worker for worker in self._workers}
        waited = [*pipes] if wake is None else [*pipes, wake]
        if not waited and self._waiting:
            time.sleep(timeout_s)
        for pipe in wait(waited, timeout_s) if waited else ():
            if pipe is wake:
                continue
            worker = pipes[pipe]  # type: ignore[index]
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                self._replace(worker, "died")
                continue
            if message == READY:
                worker.ready, worker.since = True, time.monotonic()
                self._failed_starts, self._problem = 0, ""
                self._start_after_s = float("-inf")
                self._pauses.reset()
                continue
            self._take(worker, message)
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.messages and now - worker.since > self.time_limit_s:
                if not worker.ready:
                    self._replace(worker, f"hang for {self.time_limit_s:.0f} s")
                    continue
                if worker.messages[0].alone:
                    self._crashes[worker.tasks[0].task_id] = MAX_CRASHES
                self._replace(worker, f"worked on one request for more than {self.time_limit_s:.0f} s")
        self._assign()

    def _take(self, worker: _Worker, answers: Answers) -> None:
        """Take answers to the first tasks of a worker's first message."""
        tasks = worker.messages[0].tasks
        self._message.measured(len(answers.results), answers.seconds)
        worker.since = time.monotonic()
        for task_id, result in answers.results:
            tasks.popleft()
            self._crashes.pop(task_id, None)
            self._alone.discard(task_id)
            self._ready.append((task_id, result))
        if not tasks:
            worker.messages.popleft()

    def _replace(self, worker: _Worker, what: str) -> None:
        worker.process.join(_END_S if what == "died" else 0)
        code = worker.process.exitcode
        log.warning("worker process %s %s (exit code %s); starting another", worker.process.pid, what, code)
        self._stop(worker)
        if not worker.ready:  # it has not started on a task yet
            done = f"end with code {code}" if what == "died" else what
            self._start_failed(f"{done} before they are ready")
        elif worker.messages and not worker.messages[0].alone:
            self._alone.update(task.task_id for task in worker.messages[0].tasks)
        elif worker.messages:
            culprit = worker.tasks[0]
            crashes = self._crashes[culprit.task_id] = self._crashes.get(culprit.task_id, 0) + 1
            if crashes >= MAX_CRASHES:
                worker.messages.popleft()
                del self._crashes[culprit.task_id]
                reason = f"the recording could not be processed: the worker process {what}"
                self._ready.append((culprit.task_id, Refusal(500, reason)))
        self._waiting.extendleft(reversed(worker.tasks))

    def _start_failed(self, what: str) -> None:
        self.workers_lost += 1
        self._failed_starts += 1
        pause_s = self._pauses.next_s()
        self._start_after_s = time.monotonic() + pause_s
        if self._failed_starts >= MAX_FAILED_STARTS:
            self._problem = not_ready(what)
            log.error("%s; trying again in %.1f s", self._problem, pause_s)

    def _start(self) -> _Worker:
        """Start a process. Raises OSError and MemoryError when the system lacks resources for another."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=self._main, args=(theirs, *self._arguments), daemon=True)
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return _Worker(process, ours, since=time.monotonic())

    def _stop(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.kill()
        worker.process.join()
        self._workers.remove(worker)


def _build_engine(settings: Settings, parts: EngineParts) -> LocalEngine:
    return LocalEngine(
        parts.worker_main,
        (settings,),
        workers=settings.workers,
        time_limit_s=settings.jobs.entry_time_limit_s,
        message_most=MESSAGE_MOST,
    )


#: See `settings.registries`.
BACK_END = EngineBackEnd(build=_build_engine)
