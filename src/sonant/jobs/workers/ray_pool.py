"""Keep the actors that one runner has on a Ray cluster, and give them its sealed tasks.

Starts actors, assigns tasks and reports their results, all without opening them. One thread does everything,
woken by events: a message of the runner, a call that returned, a new size of the cluster.

A call of an actor costs the driver as much as several short tasks cost the actor, so a call holds several
tasks, about MESSAGE_S of work. When an actor dies, nothing is known about which of its tasks was the cause:
each is given alone from then on.
"""

from __future__ import annotations

import logging
import queue
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from sonant import __version__
from sonant.backoff import Backoff
from sonant.jobs.workers.engines.local import DEPTH, MAX_CRASHES, MessageSize, share
from sonant.jobs.workers.ray_actor import SECONDS, RayWorker
from sonant.jobs.workers.sealed_messages import cut
from sonant.threads import start_loop

if TYPE_CHECKING:
    from concurrent.futures import Future

log = logging.getLogger(__name__)

#: After so many failed starts in a row, with no actor ready, no start is expected to succeed.
MAX_FAILED_STARTS = 5
#: How often the cluster's size is read, and limits are checked.
SIZE_S, TICK_S = 2.0, 0.5
#: Pauses before an actor is started after one that did not get ready.
_PAUSE_LEAST_S, _PAUSE_MOST_S = 0.5, 60.0
#: How long the tasks of one call take, about, and how many they are at most.
MESSAGE_S, MESSAGE_MOST = 0.5, 64
#: Results without kept speech that fit into one piece of a message: 2 kB each, for 512 dimensions.
RESULTS_A_PIECE = 32
_NODE_DIED = "node has died"  # in the text of Ray's errors, the only sign of it
#: Ends that predict nothing about the next actor.
_IDLE, _UNPLACED, _ON_DEAD_NODE = "was idle", "has no place", "was on a node that died"

Events = queue.SimpleQueue[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The cluster, and how much of it is used."""

    address: str
    """`host:port` of the head node, or `auto` for the cluster that this host belongs to."""
    namespace: str = "sonant"
    workers: int = 0
    """The most actors; 0 means as many as the cluster has CPUs."""
    gpus_per_worker: float = 0.0
    idle_s: float = 300.0
    """Actors without tasks for so long give their CPUs back."""
    patience_s: float = 300.0
    """The longest that tasks wait while no actor can be placed."""


@dataclass(slots=True, eq=False)
class _SealedTask:
    number: int
    sealed: tuple[bytes, ...]
    answer_pieces: int
    crashes: int = 0


@dataclass(slots=True, eq=False)
class _Actor:
    handle: Any
    placed_s: float | None = None  # by the monotonic clock
    where: str = "nowhere yet"
    ready: bool = False
    alive: bool = True  # until it is stopped or dies
    ended: str = ""
    messages: dict[int, list[_SealedTask]] = field(default_factory=dict)  # by number, in their order
    since_s: float = 0.0  # when the message in work began
    given: int = 0
    calls: int = 0  # that have not returned

    @property
    def load(self) -> int:
        return DEPTH if any(task.crashes for task in self.tasks) else len(self.messages)

    @property
    def tasks(self) -> list[_SealedTask]:
        return [task for message in self.messages.values() for task in message]


class ActorPool:
    """The actors, their tasks, and the tasks that wait for an actor."""

    def __init__(
        self,
        ray: Any,
        pipe: Connection,
        events: Events,
        cluster: Cluster,
        time_limit_s: float,
        key: bytes,
        start: bytes,
    ) -> None:
        """`ray` is the module, connected; `start` the sealed (factory, arguments) of their executors."""
        self._ray, self._pipe, self._events, self._cluster = ray, pipe, events, cluster
        self._time_limit_s, self._key, self._start_message = time_limit_s, key, start
        self._actor_class = ray.remote(
            num_cpus=1,
            num_gpus=cluster.gpus_per_worker,
            max_restarts=0,  # whether a task is tried again is decided here
            max_task_retries=0,
            max_concurrency=DEPTH + 1,
        )(RayWorker)
        self._actors: list[_Actor] = []
        self._waiting: deque[_SealedTask] = deque()
        self._message = MessageSize(MESSAGE_S, MESSAGE_MOST)
        self._newest = self._forgotten = 0  # numbers of tasks
        self._most = 0
        self._failed_starts, self._start_after_s = 0, 0.0
        self._pauses = Backoff(_PAUSE_LEAST_S, _PAUSE_MOST_S)
        self._served_s = self._used_s = time.monotonic()
        self._cpus = 0.0

    def run(self) -> None:
        start_loop(self._watch_size, "size of the Ray cluster")
        ticked_s = 0.0
        while not self._end_due():
            with suppress(queue.Empty):
                kind, *values = self._events.get(timeout=TICK_S)
                getattr(self, f"_on_{kind}")(*values)
            if time.monotonic() - ticked_s > TICK_S:
                self._enforce_limits()
                self._start_workers()
                ticked_s = time.monotonic()
        self._ray.shutdown()

    # --- events

    def _on_do(self, tasks: list[tuple[int, bytes, int]]) -> None:
        for number, sealed, answer_pieces in tasks:
            self._newest = number
            self._waiting.append(_SealedTask(number, cut(sealed), answer_pieces))
        self._start_workers()
        self._assign()

    def _on_forget(self) -> None:
        self._waiting.clear()
        self._forgotten = self._newest

    def _on_size(self, cpus: float, gpus: float) -> None:
        self._cpus = cpus
        if self._cluster.workers:
            most = self._cluster.workers
        elif self._cluster.gpus_per_worker:
            most = int(min(cpus, gpus / self._cluster.gpus_per_worker))
        else:
            most = int(cpus)
        most = max(1, most)  # an actor that waits for a place makes an autoscaler add one
        if most != self._most:
            self._most = most
            self._send_capacity()
            self._start_workers()

    def _send_capacity(self) -> None:
        self._pipe.send(("capacity", DEPTH * self._most * self._message.size))

    def _on_returned(
        self, actor: _Actor, then: Callable[[Any], None], done: Future[Any], others: list[Any]
    ) -> None:
        actor.calls -= 1
        fault = done.exception()
        if fault is None:
            then(b"".join([*self._ray.get(others), done.result()]) if others else done.result())
        elif actor.alive:
            self._stop(actor, _ON_DEAD_NODE if _NODE_DIED in str(fault) else "died")
        if not actor.alive and not actor.calls:
            self._remove(actor)

    # --- actors

    def _watch_size(self) -> None:
        """Report the cluster's size; in a thread of its own, since it blocks while the head node is away."""
        while True:
            with suppress(Exception):
                found = self._ray.cluster_resources()
                self._events.put(("size", found.get("CPU", 0.0), found.get("GPU", 0.0)))
            time.sleep(SIZE_S)

    def _start_workers(self) -> None:
        """Start and stop actors: as many as there is work for, and as the cluster has room for."""
        now = time.monotonic()
        held = sum(len(actor.tasks) for actor in self._actors)
        if self._waiting or held:
            self._used_s = now
        elif now - self._used_s > self._cluster.idle_s:
            for actor in self._actors:
                self._stop(actor, _IDLE, level=logging.INFO)
        surplus = len(self._actors) - self._most
        for actor in [actor for actor in self._actors if actor.placed_s is None][: max(0, surplus)]:
            self._stop(actor, _UNPLACED, level=logging.INFO)
        if now < self._start_after_s:
            return
        while len(self._actors) < min(self._most, len(self._waiting) + held):
            actor = _Actor(self._actor_class.remote(self._key))
            self._actors.append(actor)
            self._call(actor, partial(self._placed, actor), "location")
            self._call(actor, partial(self._started, actor), "start", __version__, self._start_message)
            self._call(actor, lambda _: None, "wait")

    def _call(
        self, actor: _Actor, then: Callable[[Any], None], method: str, *arguments: object, pieces: int = 1
    ) -> None:
        actor.calls += 1
        call = getattr(actor.handle, method)
        if pieces > 1:
            *others, last = call.options(num_returns=pieces).remote(*arguments)
        else:
            others, last = [], call.remote(*arguments)
        last.future().add_done_callback(
            lambda done: self._events.put(("returned", actor, then, done, others))
        )

    def _placed(self, actor: _Actor, place: tuple[str, int]) -> None:
        actor.placed_s, actor.where = time.monotonic(), f"{place[0]}, process {place[1]}"

    def _started(self, actor: _Actor, complaint: str) -> None:
        if complaint:
            self._stop(actor, f"end ({complaint})")
            return
        actor.ready = True
        self._failed_starts, self._start_after_s = 0, 0.0
        self._pauses.reset()
        self._pipe.send(("ready",))
        self._assign()

    def _stop(self, actor: _Actor, why: str, *, level: int = logging.WARNING) -> None:
        """Kill an actor. Its calls return with errors, and then it is removed."""
        if not actor.alive:
            return
        actor.alive, actor.ended = False, why
        log.log(level, "the actor on %s %s", actor.where, why)
        with suppress(Exception):
            self._ray.kill(actor.handle)

    def _remove(self, actor: _Actor) -> None:
        self._actors.remove(actor)
        for task in reversed(actor.tasks):
            task.crashes += 1
            if task.number <= self._forgotten:
                continue
            if task.crashes >= MAX_CRASHES:
                self._pipe.send(("refused", task.number, actor.ended))
            else:
                self._waiting.appendleft(task)
        if not actor.ready and actor.ended not in (_IDLE, _UNPLACED, _ON_DEAD_NODE):
            self._failed_starts += 1
            self._start_after_s = time.monotonic() + self._pauses.next_s()
            hopeless = self._failed_starts >= MAX_FAILED_STARTS and not any(
                other.ready for other in self._actors
            )
            self._pipe.send(("lost", actor.ended if hopeless else ""))
        self._start_workers()
        self._assign()

    # --- tasks

    def _assign(self) -> None:
        ready = [actor for actor in self._actors if actor.ready and actor.alive]
        while self._waiting and ready:
            actor = min(ready, key=lambda actor: actor.load)
            # It is not known which of its tasks killed an actor, so each is assigned alone the next time.
            if actor.load >= DEPTH or (actor.load and self._waiting[0].crashes):
                return
            self._give(actor, self._next_message(sum(max(0, DEPTH - one.load) for one in ready)))

    def _next_message(self, free: int) -> list[_SealedTask]:
        most = share(len(self._waiting), free, self._message.size)
        tasks = [self._waiting.popleft()]
        while not tasks[0].crashes and len(tasks) < most and not self._waiting[0].crashes:
            tasks.append(self._waiting.popleft())
        return tasks

    def _give(self, actor: _Actor, tasks: list[_SealedTask]) -> None:
        if not actor.messages:
            actor.since_s = time.monotonic()
        number, actor.given = actor.given, actor.given + 1
        actor.messages[number] = tasks
        pieces = sum(task.answer_pieces for task in tasks)
        if pieces == len(tasks):  # without kept speech, results are small
            pieces = -(-pieces // RESULTS_A_PIECE)
        counts = tuple(len(task.sealed) for task in tasks)
        sealed = [piece for task in tasks for piece in task.sealed]
        answered = partial(self._answered, actor, number)
        self._call(actor, answered, "execute", number, pieces, counts, *sealed, pieces=pieces)

    def _answered(self, actor: _Actor, number: int, answer: bytes) -> None:
        tasks, head = actor.messages.pop(number), struct.calcsize(SECONDS)
        (seconds,) = struct.unpack(SECONDS, answer[:head])
        if self._message.measured(len(tasks), seconds):
            self._send_capacity()
        actor.since_s = time.monotonic()
        if tasks[0].number > self._forgotten:  # all were given since then, or none
            self._pipe.send(("done", [task.number for task in tasks], answer[head:]))
        self._assign()

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        for actor in [actor for actor in self._actors if actor.alive]:
            if actor.ready:
                late = actor.messages and now - actor.since_s > self._time_limit_s
                what = f"worked on one request for more than {self._time_limit_s:.0f} s"
            else:
                late = actor.placed_s is not None and now - actor.placed_s > self._time_limit_s
                what = f"hang for {self._time_limit_s:.0f} s"
            if late:
                first = next(iter(actor.messages.values()), [])
                if len(first) == 1:
                    first[0].crashes = MAX_CRASHES
                self._stop(actor, what)

    def _end_due(self) -> bool:
        """Whether tasks have waited too long without any actor that is ready."""
        now = time.monotonic()
        if not self._waiting or any(actor.ready for actor in self._actors):
            self._served_s = now
        if now - self._served_s < self._cluster.patience_s:
            return False
        self._pipe.send(
            ("away", f"no actor got a place in {self._cluster.patience_s:.0f} s; it has {self._cpus:g} CPUs")
        )
        return True
