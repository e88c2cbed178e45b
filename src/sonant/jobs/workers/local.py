"""The local engine: worker processes on this machine, each with one inference session.

A worker says when it is ready, then holds up to two tasks, so that it fetches the next one's audio while it
computes. A worker that dies or hangs is replaced and its tasks are given out again; a task that keeps killing
its worker is refused. Workers that do not even get ready are no task's fault: others are started, after
growing pauses, and tasks wait.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.threads import Backoff

log = logging.getLogger(__name__)

#: Tasks a worker holds: one in work, one whose audio it fetches.
DEPTH = 2
#: A task whose worker died this often is refused: the recording, not chance, is at fault.
MAX_CRASHES = 5
#: So many workers in a row that end before they are ready are more than chance: something is wrong.
MAX_STILLBORN = 2
#: Pauses before a worker is started after one that did not get ready.
PAUSE_LEAST_S, PAUSE_MOST_S = 0.1, 10.0
#: The first message of a worker, once its models are loaded.
READY = "ready"
#: How long a worker whose pipe has ended may take to end itself, so that its exit code is its own.
_END_S = 1.0

#: Runs in the worker: `(pipe, *arguments)`, until the pipe ends.
WorkerMain = Callable[..., None]


def not_ready(what: str) -> str:
    """The sentence for workers that do not get ready; `what` they do instead."""
    return (
        f"recordings cannot be processed: worker processes {what}; "
        "run `sonant doctor` and see the service's log"
    )


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    tasks: deque[Task] = field(default_factory=deque)
    since: float = 0.0  # when the task in work began, or the process, by the monotonic clock
    ready: bool = False


class LocalEngine:
    """A pool of worker processes. Not for several threads at once."""

    def __init__(
        self, main: WorkerMain, arguments: tuple[object, ...], *, workers: int, time_limit_s: float
    ) -> None:
        self._main, self._arguments = main, arguments
        self._count, self._time_limit_s = workers, time_limit_s
        self._workers: list[_Worker] = []
        self._waiting: deque[Task] = deque()
        self._crashes: dict[int, int] = {}
        self._ready: deque[tuple[int, TaskResult | Refusal]] = deque()
        self._stillborn = 0  # workers in a row that ended before they were ready
        self._pauses = Backoff(PAUSE_LEAST_S, PAUSE_MOST_S)
        self._start_after_s = float("-inf")  # by the monotonic clock
        self._problem = ""
        self.lost = 0
        """How many workers ended before they were ready, or could not be started, since this was made."""

    @property
    def room(self) -> int:
        """How many more tasks can be given before all workers are fully loaded."""
        held = len(self._waiting) + sum(len(worker.tasks) for worker in self._workers)
        return max(0, self._count * DEPTH - held)

    @property
    def problem(self) -> str:
        """Why no worker gets ready, in one sentence; empty when one is."""
        return "" if any(worker.ready for worker in self._workers) else self._problem

    def submit(self, task: Task) -> None:
        """Give a task; its result comes from `results` under its ticket."""
        self._waiting.append(task)
        self._hand_out()

    def warm(self) -> None:
        """Start every worker now, not with the first task."""
        self._staff(self._count)

    def results(
        self, timeout_s: float, wake: Connection | None = None
    ) -> list[tuple[int, TaskResult | Refusal]]:
        """Results that are there, waiting up to `timeout_s` for the first, or until `wake` can be read.

        While no worker gets ready there are none, and `problem` says why.
        """
        self._look(0.0 if self._ready else timeout_s, wake)
        found = list(self._ready)
        self._ready.clear()
        return found

    def discard(self) -> None:
        """Forget every task in hand: used when a job ends early. Idle workers stay."""
        self._waiting.clear()
        self._crashes.clear()
        self._ready.clear()
        for worker in list(self._workers):
            if worker.tasks:
                self._stop(worker)

    def close(self) -> None:
        self._waiting.clear()
        for worker in list(self._workers):
            self._stop(worker)

    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def _hand_out(self) -> None:
        self._staff(min(self._count, len(self._workers) + len(self._waiting)))
        while self._waiting and self._workers:
            worker = min(self._workers, key=lambda worker: len(worker.tasks))
            if len(worker.tasks) >= DEPTH:
                return
            task = self._waiting.popleft()
            if not worker.tasks:
                worker.since = time.monotonic()
            worker.tasks.append(task)
            try:
                worker.pipe.send(task)
            except OSError:  # it died; _look sees that and gives the task out again
                return

    def _staff(self, count: int) -> None:
        """Have so many workers, unless it is too early after one that did not get ready."""
        while len(self._workers) < count and time.monotonic() >= self._start_after_s:
            try:
                self._workers.append(self._start())
            except (OSError, MemoryError) as fault:  # no files, processes or memory left: they come back
                self._did_not_get_ready(f"cannot be started: {fault}")

    def _look(self, timeout_s: float, wake: Connection | None) -> None:
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
                self._bury(worker, "died")
                continue
            if message == READY:
                worker.ready, worker.since = True, time.monotonic()
                self._stillborn, self._problem = 0, ""
                self._start_after_s = float("-inf")
                self._pauses.reset()
                continue
            task_id, result = message
            worker.tasks.popleft()
            worker.since = time.monotonic()
            self._crashes.pop(task_id, None)
            self._ready.append((task_id, result))
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.tasks and now - worker.since > self._time_limit_s:
                if not worker.ready:
                    self._bury(worker, f"hang for {self._time_limit_s:.0f} s")
                    continue
                self._crashes[worker.tasks[0].task_id] = MAX_CRASHES
                self._bury(worker, f"worked on one request for more than {self._time_limit_s:.0f} s")
        self._hand_out()

    def _bury(self, worker: _Worker, what: str) -> None:
        worker.process.join(_END_S if what == "died" else 0)
        code = worker.process.exitcode
        log.warning("worker process %s %s (exit code %s); starting another", worker.process.pid, what, code)
        self._stop(worker)
        if not worker.ready:  # it has not looked at a task yet
            done = f"end with code {code}" if what == "died" else what
            self._did_not_get_ready(f"{done} before they are ready")
        elif worker.tasks:
            culprit = worker.tasks[0]
            crashes = self._crashes[culprit.task_id] = self._crashes.get(culprit.task_id, 0) + 1
            if crashes >= MAX_CRASHES:
                worker.tasks.popleft()
                del self._crashes[culprit.task_id]
                reason = f"the recording could not be processed: the worker process {what}"
                self._ready.append((culprit.task_id, Refusal(500, reason)))
        self._waiting.extendleft(reversed(worker.tasks))

    def _did_not_get_ready(self, what: str) -> None:
        self.lost += 1
        self._stillborn += 1
        pause_s = self._pauses.next_s()
        self._start_after_s = time.monotonic() + pause_s
        if self._stillborn >= MAX_STILLBORN:
            self._problem = not_ready(what)
            log.error("%s; trying again in %.1f s", self._problem, pause_s)

    def _start(self) -> _Worker:
        """Raises OSError and MemoryError when the system has no room for another."""
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
