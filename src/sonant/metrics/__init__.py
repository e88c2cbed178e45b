"""Export metrics in Prometheus' text format: Voice ID's CloudWatch metrics, and those of jobs and processes.

Calls and decisions are counted in this process. Figures of the database are read at scrape time and reused
for some seconds. Labels are operation names, generated ids and fixed words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client import ProcessCollector as SystemCollector
from prometheus_client.metrics_core import Metric

from sonant.metrics.calls import CallMetrics, DecisionMetrics
from sonant.metrics.processes import (
    BuildCollector,
    ConnectionCollector,
    ConnectionCounts,
    FigureCollector,
    ProcessCollector,
    ThreadCollector,
)
from sonant.metrics.stored import DatabaseCollector
from sonant.runner_state import RunnerState
from sonant.storage.database.engine import Database
from sonant.thread_plan import ThreadPlan

__all__ = ["CallMetrics", "ConnectionCounts", "DecisionMetrics", "MetricsRegistry"]


class MetricsRegistry:
    """All metrics of a service, and their text form."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(
        self,
        database: Database,
        cache_s: float,
        audit_failing: Callable[[], bool],
        runner: Callable[[], RunnerState] | None = None,
        lost_workers: Callable[[], int] = lambda: 0,
        plan: ThreadPlan | None = None,
        operations: Iterable[str] = (),
    ) -> None:
        """Register the collectors.

        `runner` returns the state of the service's runner; None when the service has none. `lost_workers`
        counts workers of live calls that ended before they were ready. Errors of `operations` are counted
        from 0.
        """
        # Otherwise prometheus_client adds a gauge with its creation time to every counter.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=False)
        self.calls = CallMetrics(self._registry, operations)
        self.decisions = DecisionMetrics(self._registry)
        self._registry.register(BuildCollector())
        SystemCollector(registry=self._registry)
        self._registry.register(ProcessCollector(runner, lost_workers))
        self._registry.register(DatabaseCollector(database, cache_s, audit_failing))
        if plan is not None:
            self._registry.register(ThreadCollector(database, plan))

    def register_connections(self, counts: Callable[[], ConnectionCounts]) -> None:
        """Add the connections of the server."""
        self._registry.register(ConnectionCollector(counts))

    def register_figures(self, figures: Callable[[], Iterable[Metric]]) -> None:
        """Add gauges that are made at each scrape, such as free space and ages of keys."""
        self._registry.register(FigureCollector(figures))

    def render(self) -> bytes:
        """Collect all metrics and format them."""
        return generate_latest(self._registry)
