"""What is done to a world, one thing at a time, and undone again."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable

from chaos_load import Front
from chaos_world import (
    LEASE_S,
    LOCK_WAIT_S,
    PATIENCE_S,
    SILENT_S,
    Cluster,
    Embedded,
    Member,
    World,
    is_worker,
    open_files,
    wait_for,
)

#: More than a service has threads for.
AT_ONCE = 30
Fault = Callable[[], None]


def _unready(member: Member) -> Callable[[], bool]:
    return lambda: not member.ready()


class Faults:
    """Faults by name. Each returns when the world could go on again."""

    def __init__(self, world: World, rng: random.Random, front: Front) -> None:
        self._world, self._rng, self._front = world, rng, front
        self._off: list[tuple[float, float]] = []
        """When the weak key was off, by the monotonic clock."""
        services, others = world.apis, [member for member in world.members if member not in world.apis]
        self.all: dict[str, Fault] = {
            "service killed": lambda: self._end(services, signal.SIGKILL),
            "service told to end": lambda: self._end(services, signal.SIGTERM),
            "service stands still": lambda: self._freeze(services, 1.0),
            "child process killed": self._kill_child,
            "key disabled": self._key,
            "all killed": self._everything,
            "clock steps": self._clock,
            "clock jumps by days": self._jump,
            "workers killed at birth": self._kill_at_birth,
            "no files left": self._no_files,
            "many calls at once": self._many_calls,
            "keys lost": self._lose_keys,
        }
        if others:
            self.all["runner killed"] = lambda: self._end(others, signal.SIGKILL)
            self.all["runner told to end"] = lambda: self._end(others, signal.SIGTERM)
            self.all["runner stands still beyond its lease"] = lambda: self._freeze(others, LEASE_S + 1.5)
        if isinstance(world, Cluster):
            cluster = world
            self.all["database restarted"] = lambda: self._database(cluster, signal.SIGINT)
            self.all["database falls silent"] = lambda: self._silence(cluster)
            self.all["way to the database falls silent"] = lambda: self._stall(cluster)
            self.all["database crashes"] = lambda: self._database(cluster, signal.SIGQUIT)
            self.all["S3 refuses"] = lambda: self._refuse(cluster)
            self.all["S3 breaks off"] = lambda: self._cut(cluster)
            self.all["S3 is slow"] = lambda: self._slow(cluster)
        if isinstance(world, Embedded):
            embedded = world
            self.all["database locked"] = lambda: self._lock(embedded)
        if world.disk:
            self.all["disk full"] = self._fill

    def key_was_off(self, since_s: float) -> bool:
        return any(until >= since_s for _, until in self._off)

    def settle(self) -> None:
        """Wait until every process is there again."""
        for member in self._world.members:
            member.revive()
        for member in self._world.members:
            wait_for(f"{member.name} is ready", member.ready, PATIENCE_S)

    def _end(self, members: list[Member], number: signal.Signals) -> None:
        member = self._rng.choice(members)
        member.send(number)
        assert member.process is not None
        member.process.wait(PATIENCE_S)

    def _kill_child(self) -> None:
        """A worker of a job or of live calls, or a runner beside its service."""
        pids = [pid for member in self._world.members for pid in member.family()]
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._rng.choice(pids), signal.SIGKILL)
        time.sleep(0.3)

    def _everything(self) -> None:
        for member in self._world.members:
            member.send(signal.SIGKILL)
        for member in self._world.members:
            assert member.process is not None
            member.process.wait(PATIENCE_S)

    def _freeze(self, members: list[Member], seconds: float) -> None:
        member = self._rng.choice(members)
        member.send(signal.SIGSTOP)
        time.sleep(seconds)
        member.send(signal.SIGCONT)

    def _key(self) -> None:
        """Off for two seconds; as long again until every cache has noticed that it is back."""
        begun = time.monotonic()
        self._off.append((begun, float("inf")))
        self._world.enable(False)
        time.sleep(2.0)
        self._world.enable(True)
        time.sleep(1.0)
        self._off[-1] = (begun, time.monotonic())

    def _database(self, cluster: Cluster, number: signal.Signals) -> None:
        cluster.postgres.stop(number)
        time.sleep(self._rng.uniform(0, 1.0))
        cluster.postgres.start()

    def _silence(self, cluster: Cluster) -> None:
        """The server keeps its connections and answers nothing, for longer than a statement may take."""
        cluster.postgres.pause()
        try:
            time.sleep(SILENT_S + self._rng.uniform(0, 1.0))
        finally:
            cluster.postgres.resume()

    def _stall(self, cluster: Cluster) -> None:
        """Nothing passes between the processes and the server; nobody is told so."""
        cluster.proxy.stall()
        try:
            for member in self._world.apis:
                wait_for(f"{member.name} says that it is not ready", _unready(member), PATIENCE_S)
            time.sleep(self._rng.uniform(0, SILENT_S))
        finally:
            cluster.proxy.resume()

    def _lose_keys(self) -> None:
        """All processes end, the folder of the keys is gone: none starts, and nothing is made instead."""
        self._everything()
        keys, away = self._world.data / "keys", self._world.data / "keys-away"
        keys.rename(away)
        try:
            member = self._rng.choice(self._world.members)
            member.start()
            assert member.process is not None
            assert member.process.wait(PATIENCE_S) == 1, f"{member.name} starts without its keys"
            assert not keys.exists(), "keys were made in the place of those that were lost"
        finally:
            away.rename(keys)

    def _refuse(self, cluster: Cluster) -> None:
        # Not on top of those that nobody has met yet: five in a row are an outage, and given up rightly.
        cluster.s3.refuse[:] = [self._rng.choice((500, 503)) for _ in range(3)]
        time.sleep(1.0)

    def _cut(self, cluster: Cluster) -> None:
        cluster.s3.cut[:] = [self._rng.randrange(60_000) for _ in range(3)]
        time.sleep(1.0)

    def _slow(self, cluster: Cluster) -> None:
        cluster.s3.before = lambda _one: time.sleep(0.4)
        time.sleep(2.0)
        cluster.s3.before = None

    def _fill(self) -> None:
        ballast = self._world.data / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            for size in (2**20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        full = os.statvfs(self._world.data)
        assert full.f_bavail * full.f_bsize < 2**20, errno.ENOSPC
        time.sleep(1.5)
        ballast.unlink()

    def _clock(self) -> None:
        """One process's clock steps by up to a minute, and back."""
        member = self._rng.choice(self._world.members)
        member.clock.write_text(str(self._rng.choice((-60, -20, 20, 60))))
        time.sleep(2.0)
        member.clock.write_text("0")

    def _jump(self) -> None:
        """One process's clock, and its children's, jumps by more than a day, and back."""
        member = self._rng.choice(self._world.members)
        member.clock.write_text(str(self._rng.choice((-1, 1)) * self._rng.uniform(25, 1000) * 3600))
        time.sleep(self._rng.uniform(1.0, 4.0))
        member.clock.write_text("0")

    def _kill_at_birth(self) -> None:
        """All workers, and for a while whoever takes their place, before they can be ready."""
        until = time.monotonic() + 4.0
        while time.monotonic() < until:
            for member in self._world.members:
                for pid in filter(is_worker, member.family()):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _no_files(self) -> None:
        """A process of ours, and its runner, cannot open anything for a while."""
        member = self._rng.choice(self._world.members)
        assert member.process is not None
        kept = []
        for pid in [member.process.pid, *(pid for pid in member.family() if not is_worker(pid))]:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files(pid), before[1]))
                kept.append((pid, before))
        time.sleep(3.0)
        for pid, before in kept:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    def _lock(self, embedded: Embedded) -> None:
        """Somebody holds the database's lock for longer than writers wait."""
        with contextlib.closing(sqlite3.connect(embedded.data / "sonant.db", isolation_level=None)) as other:
            wait_for("the lock", lambda: _locked(other))
            time.sleep(3 * LOCK_WAIT_S)
            other.execute("ROLLBACK")

    def _many_calls(self) -> None:
        """More calls that write, at the same moment, than a service has threads."""
        together, made = threading.Barrier(AT_ONCE), []
        member = self._rng.choice(self._world.apis)

        def call() -> None:
            together.wait(PATIENCE_S)
            made.append(
                self._front.call(
                    "create_domain",
                    first=member,
                    Name="many",
                    ServerSideEncryptionConfiguration={"KmsKeyId": self._world.key},
                )
            )

        threads = [threading.Thread(target=call) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert len(made) == AT_ONCE, f"{AT_ONCE - len(made)} of {AT_ONCE} calls were not answered"


def _locked(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
        return True
    except sqlite3.OperationalError:
        return False
