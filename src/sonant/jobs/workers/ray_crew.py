"""The actors that one runner has on a Ray cluster, and the parcels that they have or wait for.

Hires actors, hands out parcels, tells what came of them; does not open them. One thread does everything,
woken by events: a message of the runner, a call that returned, a look at the cluster.
"""

from __future__ import annotations

import logging
import queue
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
from sonant.jobs.workers.local import DEPTH, MAX_CRASHES
from sonant.jobs.workers.parcels import cut
from sonant.jobs.workers.ray_actor import Listener
from sonant.threads import start_loop

if TYPE_CHECKING:
    from concurrent.futures import Future

log = logging.getLogger(__name__)

#: So many actors in a row that end before they are ready, with none that is, show that none will be.
MAX_STILLBORN = 5
#: How often the cluster's size is asked for, and limits are looked at.
LOOK_S, TICK_S = 2.0, 0.5
#: Pauses before actors are hired again after one that did not get ready.
_PAUSE_LEAST_S, _PAUSE_MOST_S = 0.5, 60.0
_NODE_DIED = "node has died"  # in the text of Ray's errors; nothing else of them says so
#: Ends that tell nothing about the next actor.
_IDLE, _PLACELESS, _ON_DEAD_NODE = "was idle", "has no place", "was on a node that died"

Events = queue.SimpleQueue[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Which cluster, and how much of it."""

    address: str
    """`host:port` of the head node, or `auto` for the cluster that this host belongs to."""
    namespace: str = "sonant"
    workers: int = 0
    """Most actors; 0 means as many as the cluster has CPUs."""
    gpus_per_worker: float = 0.0
    idle_s: float = 300.0
    """Actors without tasks for so long give their CPUs back."""
    patience_s: float = 300.0
    """The longest that tasks wait while no actor can be placed."""


@dataclass(slots=True, eq=False)
class _Parcel:
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
    hired: bool = True  # until we let it go, or it died
    ended: str = ""
    parcels: dict[int, _Parcel] = field(default_factory=dict)  # in the order they were given
    since_s: float = 0.0  # when the parcel in work began
    given: int = 0
    calls: int = 0  # that have not returned

    @property
    def load(self) -> int:
        return DEPTH if any(parcel.crashes for parcel in self.parcels.values()) else len(self.parcels)


class Crew:
    """The actors, and the parcels that they have or wait for."""

    def __init__(
        self,
        ray: Any,
        pipe: Connection,
        events: Events,
        cluster: Cluster,
        time_limit_s: float,
        key: bytes,
        begin: bytes,
    ) -> None:
        """`ray` is the module, connected; `begin` the sealed (maker, arguments) of the actors."""
        self._ray, self._pipe, self._events, self._cluster = ray, pipe, events, cluster
        self._time_limit_s, self._key, self._begin = time_limit_s, key, begin
        self._listener = ray.remote(
            num_cpus=1,
            num_gpus=cluster.gpus_per_worker,
            max_restarts=0,  # whether a task is tried again is decided here
            max_task_retries=0,
            max_concurrency=DEPTH + 1,
        )(Listener)
        self._actors: list[_Actor] = []
        self._waiting: deque[_Parcel] = deque()
        self._newest = self._forgotten = 0  # numbers of parcels
        self._most = 0
        self._stillborn, self._hire_after_s = 0, 0.0
        self._pauses = Backoff(_PAUSE_LEAST_S, _PAUSE_MOST_S)
        self._served_s = self._used_s = time.monotonic()
        self._cpus = 0.0

    def run(self) -> None:
        start_loop(self._look, "size of the Ray cluster")
        ticked_s = 0.0
        while not self._end_due():
            with suppress(queue.Empty):
                kind, *values = self._events.get(timeout=TICK_S)
                getattr(self, f"_on_{kind}")(*values)
            if time.monotonic() - ticked_s > TICK_S:
                self._enforce_limits()
                self._staff()
                ticked_s = time.monotonic()
        self._ray.shutdown()

    # --- events

    def _on_do(self, number: int, sealed: bytes, answer_pieces: int) -> None:
        self._newest = number
        self._waiting.append(_Parcel(number, cut(sealed), answer_pieces))
        self._staff()
        self._hand_out()

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
        most = max(1, most)  # one that waits for a place tells an autoscaler what is wanted
        if most != self._most:
            self._most = most
            self._pipe.send(("room", DEPTH * most))
            self._staff()

    def _on_returned(
        self, actor: _Actor, then: Callable[[Any], None], done: Future[Any], others: list[Any]
    ) -> None:
        actor.calls -= 1
        fault = done.exception()
        if fault is None:
            then(b"".join([*self._ray.get(others), done.result()]) if others else done.result())
        elif actor.hired:
            self._let_go(actor, _ON_DEAD_NODE if _NODE_DIED in str(fault) else "died")
        if not actor.hired and not actor.calls:
            self._bury(actor)

    # --- actors

    def _look(self) -> None:
        """In a thread of its own: it may take as long as the cluster's head is away."""
        while True:
            with suppress(Exception):
                found = self._ray.cluster_resources()
                self._events.put(("size", found.get("CPU", 0.0), found.get("GPU", 0.0)))
            time.sleep(LOOK_S)

    def _staff(self) -> None:
        """Have as many actors as there is work for, and as the cluster has room for."""
        now = time.monotonic()
        held = sum(len(actor.parcels) for actor in self._actors)
        if self._waiting or held:
            self._used_s = now
        elif now - self._used_s > self._cluster.idle_s:
            for actor in self._actors:
                self._let_go(actor, _IDLE, level=logging.INFO)
        surplus = len(self._actors) - self._most
        for actor in [actor for actor in self._actors if actor.placed_s is None][: max(0, surplus)]:
            self._let_go(actor, _PLACELESS, level=logging.INFO)
        if now < self._hire_after_s:
            return
        while len(self._actors) < min(self._most, len(self._waiting) + held):
            actor = _Actor(self._listener.remote(self._key))
            self._actors.append(actor)
            self._call(actor, partial(self._was_placed, actor), "place")
            self._call(actor, partial(self._has_begun, actor), "begin", __version__, self._begin)
            self._call(actor, lambda _: None, "stay")

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

    def _was_placed(self, actor: _Actor, place: tuple[str, int]) -> None:
        actor.placed_s, actor.where = time.monotonic(), f"{place[0]}, process {place[1]}"

    def _has_begun(self, actor: _Actor, complaint: str) -> None:
        if complaint:
            self._let_go(actor, f"end ({complaint})")
            return
        actor.ready = True
        self._stillborn, self._hire_after_s = 0, 0.0
        self._pauses.reset()
        self._pipe.send(("ready",))
        self._hand_out()

    def _let_go(self, actor: _Actor, why: str, *, level: int = logging.WARNING) -> None:
        """Its calls return with errors; then it is buried."""
        if not actor.hired:
            return
        actor.hired, actor.ended = False, why
        log.log(level, "the actor on %s %s", actor.where, why)
        with suppress(Exception):
            self._ray.kill(actor.handle)

    def _bury(self, actor: _Actor) -> None:
        self._actors.remove(actor)
        for parcel in reversed(actor.parcels.values()):
            parcel.crashes += 1
            if parcel.number <= self._forgotten:
                continue
            if parcel.crashes >= MAX_CRASHES:
                self._pipe.send(("refused", parcel.number, actor.ended))
            else:
                self._waiting.appendleft(parcel)
        if not actor.ready and actor.ended not in (_IDLE, _PLACELESS, _ON_DEAD_NODE):
            self._stillborn += 1
            self._hire_after_s = time.monotonic() + self._pauses.next_s()
            hopeless = self._stillborn >= MAX_STILLBORN and not any(other.ready for other in self._actors)
            self._pipe.send(("lost", actor.ended if hopeless else ""))
        self._staff()
        self._hand_out()

    # --- parcels

    def _hand_out(self) -> None:
        ready = [actor for actor in self._actors if actor.ready and actor.hired]
        while self._waiting and ready:
            actor = min(ready, key=lambda actor: actor.load)
            # Which of two parcels killed an actor nobody knows, so either goes out alone the next time.
            if actor.load >= DEPTH or (actor.load and self._waiting[0].crashes):
                return
            parcel = self._waiting.popleft()
            if not actor.parcels:
                actor.since_s = time.monotonic()
            actor.parcels[parcel.number] = parcel
            answered = partial(self._answered, actor, parcel)
            pieces = parcel.answer_pieces
            self._call(actor, answered, "hear", actor.given, pieces, *parcel.sealed, pieces=pieces)
            actor.given += 1

    def _answered(self, actor: _Actor, parcel: _Parcel, answer: bytes) -> None:
        del actor.parcels[parcel.number]
        actor.since_s = time.monotonic()
        if parcel.number > self._forgotten:
            self._pipe.send(("done", parcel.number, answer))
        self._hand_out()

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        for actor in [actor for actor in self._actors if actor.hired]:
            if actor.ready:
                late = actor.parcels and now - actor.since_s > self._time_limit_s
                what = f"worked on one request for more than {self._time_limit_s:.0f} s"
            else:
                late = actor.placed_s is not None and now - actor.placed_s > self._time_limit_s
                what = f"hang for {self._time_limit_s:.0f} s"
            if late:
                for parcel in list(actor.parcels.values())[:1]:
                    parcel.crashes = MAX_CRASHES
                self._let_go(actor, what)

    def _end_due(self) -> bool:
        """Whether nobody has been there for too long to do what waits."""
        now = time.monotonic()
        if not self._waiting or any(actor.ready for actor in self._actors):
            self._served_s = now
        if now - self._served_s < self._cluster.patience_s:
            return False
        self._pipe.send(
            ("away", f"no actor got a place in {self._cluster.patience_s:.0f} s; it has {self._cpus:g} CPUs")
        )
        return True
