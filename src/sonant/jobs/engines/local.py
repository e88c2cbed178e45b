"""The local engine: worker processes on this machine, each with one inference session.

A worker says when it is ready, then holds up to two tasks, so that it fetches the next one's audio while it
computes. A worker that dies or hangs is replaced and its tasks are given out again; a task that keeps killing
its worker is refused. Workers that do not even get ready are no task's fault: the engine gives up.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from sonant.jobs.entry import Prepared, Task
from sonant.jobs.faults import JobFault, Refusal

log = logging.getLogger(__name__)

#: Tasks a worker holds: one in work, one whose audio it fetches.
DEPTH = 2
#: A task whose worker died this often is refused: the recording, not chance, is at fault.
MAX_CRASHES = 5
#: So many workers in a row that end before they are ready show that none will be.
MAX_STILLBORN = 2
#: The first message of a worker, once its models are loaded.
READY = "ready"
#: How long a worker whose pipe has ended may take to end itself, so that its exit code is its own.
_END_S = 1.0

#: Runs in the worker: `(pipe, *arguments)`, until the pipe ends.
WorkerMain = Callable[..., None]


class EngineUnusable(JobFault):
    """No worker process gets ready: the installation is at fault, not a recording."""

    def __init__(self, what: str) -> None:
        super().__init__(
            500,
            f"recordings cannot be processed: worker processes {what} before they are ready; "
            "run `sonant doctor` and see the service's log",
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
        self._ready: deque[tuple[int, Prepared | Refusal]] = deque()
        self._stillborn = 0  # workers in a row that ended before they were ready

    @property
    def room(self) -> int:
        """How many more tasks can be given before all workers are fully loaded."""
        held = len(self._waiting) + sum(len(worker.tasks) for worker in self._workers)
        return max(0, self._count * DEPTH - held)

    def submit(self, task: Task) -> None:
        """Give a task; its result comes from `results` under its ticket."""
        self._waiting.append(task)
        self._hand_out()

    def warm(self) -> None:
        """Start every worker now, not with the first task."""
        while len(self._workers) < self._count:
            self._workers.append(self._start())

    def results(
        self, timeout_s: float, wake: Connection | None = None
    ) -> list[tuple[int, Prepared | Refusal]]:
        """Results that are there, waiting up to `timeout_s` for the first, or until `wake` can be read.

        Raises EngineUnusable, and forgets every task in hand, when no worker gets ready.
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
        while len(self._workers) < min(self._count, len(self._workers) + len(self._waiting)):
            self._workers.append(self._start())
        while self._waiting:
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

    def _look(self, timeout_s: float, wake: Connection | None) -> None:
        pipes = {worker.pipe: worker for worker in self._workers}
        waited = [*pipes] if wake is None else [*pipes, wake]
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
                self._stillborn = 0
                continue
            ticket, result = message
            worker.tasks.popleft()
            worker.since = time.monotonic()
            self._crashes.pop(ticket, None)
            self._ready.append((ticket, result))
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.tasks and now - worker.since > self._time_limit_s:
                if not worker.ready:
                    self._bury(worker, f"hang for {self._time_limit_s:.0f} s")
                    continue
                self._crashes[worker.tasks[0].ticket] = MAX_CRASHES
                self._bury(worker, f"worked on one request for more than {self._time_limit_s:.0f} s")
        self._hand_out()

    def _bury(self, worker: _Worker, what: str) -> None:
        worker.process.join(_END_S if what == "died" else 0)
        code = worker.process.exitcode
        log.warning("worker process %s %s (exit code %s); starting another", worker.process.pid, what, code)
        self._stop(worker)
        # One that was killed from outside tells nothing about the next one.
        if not worker.ready and code != -signal.SIGKILL:
            self._stillborn += 1
            if self._stillborn >= MAX_STILLBORN:
                self._stillborn = 0
                self.discard()
                if what == "died":
                    what = "end" if code is None else f"end with code {code}"
                raise EngineUnusable(what)
        elif worker.tasks:
            culprit = worker.tasks[0]
            crashes = self._crashes[culprit.ticket] = self._crashes.get(culprit.ticket, 0) + 1
            if crashes >= MAX_CRASHES:
                worker.tasks.popleft()
                del self._crashes[culprit.ticket]
                reason = f"the recording could not be processed: the worker process {what}"
                self._ready.append((culprit.ticket, Refusal(500, reason)))
        self._waiting.extendleft(reversed(worker.tasks))

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=self._main, args=(theirs, *self._arguments), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, since=time.monotonic())

    def _stop(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.kill()
        worker.process.join()
        self._workers.remove(worker)
