"""One cluster for all tests of a process, in a network of its own; each test runs inside that network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_cluster import Namespace, NoCluster, RayCluster


@pytest.fixture(scope="session")
def namespace() -> Namespace:
    try:
        return Namespace()
    except NoCluster as why:
        pytest.skip(f"no Ray cluster: {why}")


@pytest.fixture
def inside(namespace: Namespace) -> Iterator[None]:
    namespace.enter()
    yield
    namespace.leave()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder that the hosts of the cluster know."""
    return tmp_path_factory.mktemp("ray") / "data"


@pytest.fixture(scope="session")
def _cluster(namespace: Namespace, data: Path) -> Iterator[RayCluster]:
    namespace.enter()
    try:
        cluster = RayCluster({"SONANT_DATA": str(data)})
    except NoCluster as why:
        pytest.skip(f"no Ray cluster: {why}")
    finally:
        namespace.leave()
    yield cluster
    namespace.enter()
    cluster.close()
    namespace.leave()


@pytest.fixture(scope="session")
def _two_nodes(_cluster: RayCluster, namespace: Namespace) -> RayCluster:
    namespace.enter()
    _cluster.add()
    _cluster.add()
    namespace.leave()
    return _cluster


@pytest.fixture
def cluster(_two_nodes: RayCluster, inside: None) -> RayCluster:
    """A head without CPUs and two nodes of one CPU, which tests share: they must leave it so."""
    return _two_nodes
