"""Show the processes, threads and connections of a service, and its build."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from sonant import __version__
from sonant.runner_state import RunnerState
from sonant.storage.database.engine import Database
from sonant.thread_plan import ThreadPlan


class BuildCollector:
    """The release and the Python that run, as labels of a gauge that is always 1."""

    def describe(self) -> Iterable[Metric]:
        """Describe the metric by collecting it."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the gauge."""
        build = GaugeMetricFamily(
            "sonant_build_info", "Release of Sonant and of Python", labels=["version", "python"]
        )
        build.add_metric([__version__, platform.python_version()], 1.0)
        yield build


class ThreadCollector:
    """Threads that use the database, and the connections that they share."""

    def __init__(self, database: Database, plan: ThreadPlan) -> None:
        self._database, self._plan = database, plan

    def describe(self) -> Iterable[Metric]:
        """Describe all metrics by collecting them, which is cheap."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the planned threads and the present use of connections."""
        threads = GaugeMetricFamily(
            "sonant_threads", "Threads of the service that may use the database at once", labels=["use"]
        )
        for use, count in asdict(self._plan).items():
            threads.add_metric([use], count)
        yield threads
        connections = self._database.use
        for name, text, value in (
            (
                "most",
                "Threads that may have a transaction at once (SQLite: a writing one)",
                connections.limit,
            ),
            ("in_use", "Threads that have a transaction now (SQLite: a writing one)", connections.in_use),
            ("waiting", "Threads that wait for a transaction", connections.waiting),
            (
                "reading",
                "Open connections for reading (SQLite: one per thread)",
                connections.reading,
            ),
        ):
            gauge = GaugeMetricFamily(f"sonant_database_connections_{name}", text)
            gauge.add_metric([], value)
            yield gauge


class ProcessCollector:
    """Child processes of this service: its runner, if it has one, and the workers of live calls."""

    def __init__(self, runner: Callable[[], RunnerState] | None, lost_workers: Callable[[], int]) -> None:
        self._runner, self._lost_workers = runner, lost_workers

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that registering does not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the state of the processes."""
        yield CounterMetricFamily(
            "sonant_live_workers_lost_at_start",
            "Worker processes of live calls that ended before they were ready",
            self._lost_workers(),
        )
        if self._runner is None:
            return
        state = self._runner()
        up = float(state.down_s is None)
        yield GaugeMetricFamily("sonant_runner_up", "1 while the runner of this service can run jobs", up)
        yield GaugeMetricFamily(
            "sonant_runner_down_seconds", "Time since that runner last could", state.down_s or 0.0
        )
        yield CounterMetricFamily(
            "sonant_runner_restarts", "Attempts to start another runner", state.restarts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionCounts:
    """The connections of a service, and its file descriptors."""

    open: int
    most: int
    lost: Mapping[str, int]
    """Since the start, by reason."""
    descriptors: int | None
    """In use; None where the system does not say."""


class ConnectionCollector:
    """Connections of clients, and file descriptors."""

    def __init__(self, counts: Callable[[], ConnectionCounts]) -> None:
        self._counts = counts

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that registering does not count."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the present numbers."""
        counts = self._counts()
        yield GaugeMetricFamily("sonant_connections_open", "Open connections of clients", counts.open)
        yield GaugeMetricFamily("sonant_connections_most", "Most connections of clients at once", counts.most)
        lost = CounterMetricFamily(
            "sonant_connections_lost", "Connections that ended before their request", labels=["reason"]
        )
        for reason, count in counts.lost.items():
            lost.add_metric([reason], count)
        yield lost
        if counts.descriptors is not None:
            yield GaugeMetricFamily(
                "sonant_file_descriptors", "File descriptors that the service has open", counts.descriptors
            )


class FigureCollector:
    """Gauges of an installation, made by a function at each scrape."""

    def __init__(self, figures: Callable[[], Iterable[Metric]]) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that registering does not make them."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Make the gauges."""
        return self._figures()
