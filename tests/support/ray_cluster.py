"""A real Ray cluster of several nodes on this host, in a network namespace that has loopback only.

Ray listens on all interfaces, whatever it is told; in the namespace there is nobody to hear it. Root makes
one for the tests. Others run the tests inside one: `python tests/ray_cluster.py -m slow tests/cluster`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
_SUPPORT = Path(__file__).parent
STORE_BYTES = 80 << 20  # the least that Ray takes


class NoCluster(Exception):
    """There is no Ray cluster to be had, and why."""


class Namespace:
    """A network of our own. Threads enter and leave it; what they start meanwhile stays in it."""

    def __init__(self) -> None:
        """Raises NoCluster."""
        self._ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._inside = self._ours
        if alone():
            return
        if _libc().unshare(_NEW_NETWORK):
            raise NoCluster(
                "a network namespace needs root, or: python tests/ray_cluster.py -m slow tests/cluster"
            )
        self._inside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _loopback_up()
        self.leave()

    def enter(self) -> None:
        _check(_libc().setns(self._inside, _NEW_NETWORK) if self._inside != self._ours else 0)

    def leave(self) -> None:
        _check(_libc().setns(self._ours, _NEW_NETWORK) if self._inside != self._ours else 0)


class RayCluster:
    """Nodes on this host. The first has no CPUs: what happens to others leaves it alone."""

    def __init__(self, environment: Mapping[str, str] | None = None, port: int = 0) -> None:
        """`environment` is what actors find, as on hosts where Ray was started with it; `port` is the head's,
        0 for a free one. Raises NoCluster."""
        if find_spec("ray") is None:
            raise NoCluster("Ray is not installed (extra `ray`)")
        from ray.cluster_utils import Cluster

        path = os.pathsep.join([str(_SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
        # Short whatever TMPDIR is, because the names of sockets are.
        self.folder = Path(tempfile.mkdtemp(prefix="sonant-ray-", dir="/tmp"))
        self._environment = {
            "RAY_USAGE_STATS_ENABLED": "0",
            # A node's own option would not do: the cluster's address is written where this says.
            "RAY_TMPDIR": str(self.folder),
            "PYTHONPATH": path,
            **(environment or {}),
        }
        with self._environed():
            self._cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 0,
                    "object_store_memory": STORE_BYTES,
                    "include_dashboard": False,
                    **({"gcs_server_port": port} if port else {}),
                    # A node that is gone is noticed in 3 s, not in half a minute.
                    "_system_config": {
                        "health_check_initial_delay_ms": 0,
                        "health_check_period_ms": 1000,
                        "health_check_timeout_ms": 1000,
                        "health_check_failure_threshold": 3,
                    },
                },
            )

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, cpus: int = 1) -> Any:
        """A new node."""
        with self._environed():
            return self._cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES)

    def kill(self, node: Any) -> None:
        """Kill a node as a power cut would: all its processes, at once."""
        for name in list(node.all_processes):
            for info in node.all_processes[name]:
                for pid in [*_below(info.process.pid), info.process.pid]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        with suppress(Exception):
            self._cluster.remove_node(node, allow_graceful=False)

    def kill_all(self) -> None:
        """A power cut for the whole cluster."""
        for node in self._cluster.list_all_nodes():
            self.kill(node)

    def remove(self, node: Any) -> None:
        self._cluster.remove_node(node)

    def close(self) -> None:
        with suppress(Exception):
            self._cluster.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _environed(self) -> Iterator[None]:
        kept = dict(os.environ)
        os.environ.update(self._environment)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(kept)


def actors() -> list[int]:
    """Process ids of our actors that have been placed, on all nodes of this host."""
    return processes(b"ray::RayWorker")


def processes(*names: bytes) -> list[int]:
    """Process ids of programs of these names, in our network only."""
    found = []
    ours = os.stat("/proc/thread-self/ns/net").st_ino
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                program = (place / "cmdline").read_bytes().split(b"\0")[0].rpartition(b"/")[2]
                if program.startswith(names) and os.stat(place / "ns" / "net").st_ino == ours:
                    found.append(int(place.name))
    return sorted(found)


def alone() -> bool:
    """Whether loopback is all there is."""
    return [name for _, name in socket.if_nameindex()] == ["lo"]


def _below(pid: int) -> list[int]:
    """All processes that descend from one."""
    parents = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # "pid (name) state parent ...", and a name may hold anything
            rest = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()
            parents.append((int(place.name), int(rest[1])))
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents if its_parent == parent]
    return found[1:]


def _libc() -> Any:
    if sys.platform != "linux":
        raise NoCluster("network namespaces are Linux's")
    return ctypes.CDLL(None, use_errno=True)


def _check(code: int) -> None:
    if code:
        raise OSError(ctypes.get_errno(), "setns")


def _loopback_up() -> None:
    with socket.socket() as probe:
        asked = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(probe, _GET_FLAGS, asked))[1]
        fcntl.ioctl(probe, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))


def main() -> None:
    """Run pytest in a namespace, as any user that may make one."""
    if not alone():
        unshare = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
        os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])
    _loopback_up()
    os.execv(sys.executable, [sys.executable, "-m", "pytest", "-n", "0", *sys.argv[1:]])


if __name__ == "__main__":
    main()
