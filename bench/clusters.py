"""A Ray cluster on this host for the benchmarks, in a network of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent / "tests" / "support"))
from ray_cluster import Namespace, NoCluster, RayCluster  # noqa: E402

__all__ = ["NoCluster", "own_network", "ray_cluster"]


def own_network() -> None:
    """Go into a network that has loopback only, for good. Raises NoCluster."""
    Namespace().enter()


@contextmanager
def ray_cluster(cpus: int, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address of a cluster with one node of so many CPUs beside the head. Raises NoCluster.

    Its actors can import what lies in this folder.
    """
    paths = [str(_HERE), str(_HERE.parent / "src")]
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
    cluster = RayCluster(environment)
    try:
        cluster.add(cpus)
        yield cluster.address
    finally:
        cluster.close()
