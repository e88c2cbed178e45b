"""The Ray engine: tasks are executed by actors on the hosts of a Ray cluster.

    runner ── pipe ── driver process ── Ray ── actors, each with one inference session

Only the driver process (`ray_driver`) uses Ray: Ray ends its process when the cluster has been away for a
minute, takes over signals, and needs a hundred megabytes. When the driver process ends, its actors do; tasks
in work are repeated when the job continues. Recordings are read where they are processed; tasks and results
pass through Ray sealed.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Sequence
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from sonant.errors import ClusterUnavailable, SetupError
from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.workers import EngineBackEnd, EngineParts
from sonant.jobs.workers.engines.local import DEPTH, not_ready
from sonant.jobs.workers.ray_actor import ExecutorFactory
from sonant.jobs.workers.ray_driver import drive
from sonant.jobs.workers.ray_pool import Cluster
from sonant.jobs.workers.sealed_messages import KEPT_PIECES, MessageCipher, new_key
from sonant.settings import Settings
from sonant.storage.model_files import ModelFiles

log = logging.getLogger(__name__)

#: How long the driver may take to connect to the cluster.
CONNECT_S = 60.0
#: How long it may take to end.
_END_S = 5.0


def require_ray() -> None:
    """Raise SetupError when Ray is not installed. Ray is not imported."""
    if find_spec("ray") is None:
        raise SetupError("engine 'ray' needs Ray: pip install 'sonant[ray]'")


class RayEngine:
    """Actors on a Ray cluster. Not for several threads at once.

    The rules are `LocalEngine`'s: a task whose actor dies is given to another, and is refused when it keeps
    killing actors or takes too long.
    """

    def __init__(
        self,
        factory: ExecutorFactory,
        arguments: tuple[object, ...],
        cluster: Cluster,
        *,
        time_limit_s: float,
    ) -> None:
        """`factory(*arguments)` builds each actor's executor. Raises SetupError when Ray is not installed."""
        require_ray()
        self._factory, self._arguments = factory, arguments
        self._cluster, self._time_limit_s = cluster, time_limit_s
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._cipher = MessageCipher(new_key())
        self._task_ids: dict[int, int] = {}  # of tasks in work, by their number in messages to the driver
        self._number = 0
        self._most = DEPTH
        self._connected = False
        self._started_s = 0.0
        self.problem = ""
        """Why no actor gets ready, in one sentence; empty while one is ready."""
        self.workers_lost = 0
        """Actors that ended before they were ready, since the engine was made."""

    @property
    def free_slots(self) -> int:
        """How many more tasks can be submitted before all possible actors are fully loaded."""
        return max(0, self._most - len(self._task_ids))

    @property
    def capacity(self) -> int:
        """How many tasks all possible actors hold when they are fully loaded."""
        return self._most

    @property
    def driver_pid(self) -> int | None:
        """The driver's process id; None while it does not run."""
        return None if self._process is None else self._process.pid

    def submit(self, task: Task) -> None:
        """Submit a task; `results` returns its result with its task id. Raises ClusterUnavailable."""
        self.submit_all([task])

    def submit_all(self, tasks: Sequence[Task]) -> None:
        """Submit tasks; `results` returns each result with its task id. Raises ClusterUnavailable."""
        self._start()
        sealed = []
        for task in tasks:
            self._number += 1
            self._task_ids[self._number] = task.task_id
            sealed.append((self._number, self._cipher.seal(task), KEPT_PIECES if task.keep_audio else 1))
        self._send("do", sealed)

    def results(
        self, timeout_s: float, wake: Connection | None = None
    ) -> list[tuple[int, TaskResult | Refusal]]:
        """Return the results so far, waiting up to `timeout_s` for the first, or until `wake` can be read.

        Raises ClusterUnavailable, and forgets every task in work, when the cluster is away. While no actor
        gets ready there are no results, and `problem` says why.
        """
        if self._pipe is None:
            return []
        wait([self._pipe] if wake is None else [self._pipe, wake], timeout_s)
        found: list[tuple[int, TaskResult | Refusal]] = []
        try:
            while self._pipe is not None and self._pipe.poll():
                found += self._take(*self._pipe.recv())
        except (EOFError, OSError):
            raise self._away("the process that connects to it ended") from None
        if not self._connected and time.monotonic() - self._started_s > CONNECT_S:
            raise self._away(f"no connection within {CONNECT_S:.0f} s")
        return found

    def discard(self) -> None:
        """Forget every task in work. Actors stay; the results of their present tasks are dropped."""
        self._task_ids.clear()
        if self._pipe is not None:
            self._send("forget")

    def close(self) -> None:
        """End the driver process, and with it all actors."""
        self._task_ids.clear()
        self._most, self.problem = DEPTH, ""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is None or pipe is None:
            return
        pipe.close()
        process.join(_END_S)
        process.kill()
        process.join()

    def _take(self, kind: str, *values: Any) -> list[tuple[int, TaskResult | Refusal]]:
        if kind == "capacity":
            (self._most,), self._connected = values, True
        elif kind == "done":
            numbers, answer = values
            task_ids = [self._task_ids.pop(number, None) for number in numbers]
            if not any(task_id is not None for task_id in task_ids):
                return []
            results = self._cipher.open(answer)
            return [(one, result) for one, result in zip(task_ids, results, strict=True) if one is not None]
        elif kind == "refused":
            number, why = values
            task_id = self._task_ids.pop(number, None)
            reason = f"the recording could not be processed: the worker process {why}"
            return [] if task_id is None else [(task_id, Refusal(500, reason))]
        elif kind == "lost":
            self.workers_lost += 1
            if values[0]:
                self.problem = not_ready(f"on the Ray cluster {values[0]} before they are ready")
                log.error("%s", self.problem)
        elif kind == "ready":
            self.problem = ""
        elif kind == "away":
            raise self._away(*values)
        return []

    def _away(self, why: str) -> ClusterUnavailable:
        self.close()
        return ClusterUnavailable(
            f"the Ray cluster at {self._cluster.address} cannot be used: {why}; look at `ray status` there "
            "and at the setting ray.address"
        )

    def _start(self) -> None:
        if self._process is not None:
            return
        key = new_key()
        self._cipher, self._connected = MessageCipher(key), False
        self._started_s = time.monotonic()
        start = self._cipher.seal((self._factory, self._arguments))
        context = multiprocessing.get_context("spawn")
        try:
            ours, theirs = context.Pipe()
            with theirs:
                arguments = (theirs, self._cluster, self._time_limit_s, key, start)
                process = context.Process(target=drive, args=arguments, name="ray driver", daemon=True)
                try:
                    process.start()
                except BaseException:
                    ours.close()
                    raise
        except (OSError, MemoryError) as fault:
            raise self._away(f"the process that connects to it cannot be started: {fault}") from None
        self._pipe, self._process = ours, process

    def _send(self, *message: object) -> None:
        try:
            if self._pipe is not None:
                self._pipe.send(message)
        except OSError:  # it died; `results` raises
            log.warning("the process that connects to Ray has ended")


def _build_engine(settings: Settings, parts: EngineParts) -> RayEngine:
    ray, models = settings.ray, tuple(ModelFiles(settings.data).ids())
    location, gpu = parts.storage_location(settings), ray.gpus_per_worker > 0
    return RayEngine(
        parts.build_executor,
        (settings.audio, settings.fraud, location, models, gpu),
        Cluster(
            address=ray.address,
            namespace=ray.namespace,
            workers=ray.workers,
            gpus_per_worker=ray.gpus_per_worker,
            idle_s=ray.idle_s,
        ),
        time_limit_s=settings.jobs.entry_time_limit_s,
    )


#: See `settings.registries`.
BACK_END = EngineBackEnd(build=_build_engine, check=require_ray)
