"""Export metrics in Prometheus' text format: Voice ID's CloudWatch metrics, and those of jobs and processes.

Calls are counted in this process. Figures of the database are read at scrape time and reused for some
seconds. Labels are operation names, generated ids and fixed words.
"""

from __future__ import annotations

import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import Connection, func, select

from sonant.errors import Throttling, WireError
from sonant.events import outbox
from sonant.runner_state import RunnerState
from sonant.storage.database.engine import Database
from sonant.storage.database.schema import ACTIVE_STATUSES, fraudsters, jobs, speakers
from sonant.storage.repositories import counters, sessions
from sonant.storage.repositories.jobs import ENROLLMENT, REGISTRATION
from sonant.storage.times import now
from sonant.thread_plan import ThreadPlan

#: Upper bounds of the latency histogram, in seconds.
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: Counters that are stored in the database: stored name, metric, label, help text.
_STORED_COUNTERS = (
    (counters.AUDIO, "sonant_audio_seconds", "", "Audio that jobs processed"),
    (counters.SPEECH, "sonant_speech_seconds", "", "Net speech that jobs made voiceprints from"),
    (counters.COMPUTE, "sonant_compute_seconds", "", "Processor time spent on jobs' recordings"),
    (counters.INFERENCE, "sonant_inference_seconds", "", "Time spent on embedding by the voice model"),
    (
        counters.NOT_EXPIRED,
        "sonant_speakers_not_expired",
        "",
        "Speakers that a sweep could not expire because their data is damaged, counted at every sweep",
    ),
    (
        counters.LOST_WORKERS,
        "sonant_workers_lost_at_start",
        "",
        "Worker processes of jobs that ended before they were ready",
    ),
    (
        counters.INTEGRITY_FAULTS,
        "sonant_integrity_faults",
        "table",
        "Rows of the database that something else than Sonant has changed, each counted once an hour at most",
    ),
    (
        counters.LOCKED_SPEAKERS,
        "sonant_speakers_locked",
        "",
        "Speakers that were locked because many callers were rejected",
    ),
    (
        counters.PROBE_BUDGETS_USED,
        "sonant_probe_budgets_used",
        "",
        "How often a user or role, or all of an account, used up its comparisons with one speaker",
    ),
    (
        counters.FRAUDSTER_BUDGETS_USED,
        "sonant_fraudster_budgets_used",
        "",
        "How often a budget of answers about one known fraudster was used up",
    ),
    (counters.OUTCOMES, "sonant_job_requests", "outcome", "Finished requests of jobs"),
)


class CallMetrics:
    """Latency and errors by operation. An operation that was never called has no samples."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, ["operation"], registry=registry)

        self._latency = Histogram(
            "voiceid_request_latency_seconds",
            "Time from the request's last byte to its response (RequestLatency)",
            ["operation"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._user_errors = counter("voiceid_user_errors", "Requests refused as invalid (UserErrors)")
        self._system_errors = counter(
            "voiceid_system_errors", "Requests that failed in the service (SystemErrors)"
        )
        self._throttled = counter("voiceid_throttles", "Requests over the rate limit (Throttles)")
        self._refused_streams = Counter(
            "sonant_streams_refused",
            "Streams of calls that were refused",
            ["carrier", "reason"],
            registry=registry,
        )

    def count_refusal(self, carrier: str, reason: str) -> None:
        """Count a refused stream. Both are fixed words, never text of the caller."""
        self._refused_streams.labels(carrier, reason).inc()

    def observe(self, operation: str, seconds: float, error: WireError | None) -> None:
        """Count a call. `operation` is a name of the service model, never text of the caller."""
        self._latency.labels(operation).observe(seconds)
        if error is None:
            return
        if isinstance(error, Throttling):
            self._throttled.labels(operation).inc()
        elif error.http_status >= 500:
            self._system_errors.labels(operation).inc()
        else:
            self._user_errors.labels(operation).inc()


class DatabaseCollector:
    """Figures of the database, read at most once in `cache_s` seconds."""

    def __init__(self, database: Database, cache_s: float, audit_failing: Callable[[], bool]) -> None:
        self._database, self._cache_s, self._audit_failing = database, cache_s, audit_failing
        self._lock = threading.Lock()
        self._read_at_s = float("-inf")
        self._families: list[Metric] = []

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that registering does not read the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the figures. Simultaneous scrapes share one read."""
        with self._lock:
            if time.monotonic() - self._read_at_s >= self._cache_s:
                with self._database.read() as connection:
                    self._families = list(_database_families(connection))
                self._read_at_s = time.monotonic()
            families = self._families
        yield from families
        failing = GaugeMetricFamily("sonant_audit_failing", "1 while the audit trail cannot be written")
        failing.add_metric([], float(self._audit_failing()))
        yield failing


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
    ) -> None:
        """Register the collectors.

        `runner` returns the state of the service's runner; None when the service has none. `lost_workers`
        counts workers of live calls that ended before they were ready.
        """
        # Otherwise prometheus_client adds a gauge with its creation time to every counter.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=False)
        self.calls = CallMetrics(self._registry)
        self._registry.register(ProcessCollector(runner, lost_workers))
        self._registry.register(DatabaseCollector(database, cache_s, audit_failing))
        if plan is not None:
            self._registry.register(ThreadCollector(database, plan))

    def register_connections(self, counts: Callable[[], ConnectionCounts]) -> None:
        """Add the connections of the server."""
        self._registry.register(ConnectionCollector(counts))

    def render(self) -> bytes:
        """Collect all metrics and format them."""
        return generate_latest(self._registry)


def _database_families(connection: Connection) -> Iterator[Metric]:
    active = _by_domain_and_kind(connection)
    for kind, name, text in (
        (ENROLLMENT, "voiceid_active_speaker_enrollment_jobs", "ActiveSpeakerEnrollmentJobs"),
        (REGISTRATION, "voiceid_active_fraudster_registration_jobs", "ActiveFraudsterRegistrationJobs"),
    ):
        jobs_active = GaugeMetricFamily(name, f"Jobs submitted or in progress ({text})", labels=["domain"])
        for (domain_id, of_kind), (count, _) in active.items():
            if of_kind == kind:
                jobs_active.add_metric([domain_id], count)
        yield jobs_active
    sessions_active = GaugeMetricFamily(
        "voiceid_active_sessions", "Sessions pending or ongoing (ActiveSessions)", labels=["domain"]
    )
    for domain_id, count in sessions.active_by_domain(connection, now()).items():
        sessions_active.add_metric([domain_id], count)
    yield sessions_active
    for table, name, text in (
        (speakers, "voiceid_speakers", "Speakers in the domain (Speakers)"),
        (fraudsters, "voiceid_fraudsters", "Fraudsters in the domain (Fraudsters)"),
    ):
        people = GaugeMetricFamily(name, text, labels=["domain"])
        query = select(table.c.domain_id, func.count()).group_by(table.c.domain_id)
        for domain_id, count in connection.execute(query):
            people.add_metric([domain_id], count)
        yield people
    depth = GaugeMetricFamily("sonant_queue_depth", "Unfinished requests of active jobs", labels=["domain"])
    unfinished = Counts[str]()
    for (domain_id, _), (_, entries) in active.items():
        unfinished[domain_id] += entries
    for domain_id, entries in unfinished.items():
        depth.add_metric([domain_id], entries)
    yield depth
    waiting = GaugeMetricFamily(
        "sonant_events_waiting", "Events that a sink has not taken yet", labels=["sink"]
    )
    for sink, count in outbox.waiting(connection).items():
        waiting.add_metric([sink], count)
    yield waiting
    yield from _stored_counters(connection)


def _by_domain_and_kind(connection: Connection) -> dict[tuple[str, str], tuple[int, int]]:
    """Count active jobs and their unfinished requests; a job without an imported manifest has none."""
    unfinished = func.coalesce(jobs.c.entries_total, 0) - func.coalesce(jobs.c.entries_done, 0)
    query = (
        select(jobs.c.domain_id, jobs.c.kind, func.count(), func.sum(unfinished))
        .where(jobs.c.status.in_(ACTIVE_STATUSES))
        .group_by(jobs.c.domain_id, jobs.c.kind)
    )
    return {(row[0], row[1]): (int(row[2]), int(row[3])) for row in connection.execute(query)}


def _stored_counters(connection: Connection) -> Iterator[Metric]:
    stored = counters.read(connection)
    damaged = GaugeMetricFamily(
        "sonant_database_damaged",
        "1 when the last check of SQLite's file found damage: see `sonant doctor`, and restore a backup",
    )
    damaged.add_metric([], stored.get((counters.DAMAGED, ""), 0.0))
    yield damaged
    for name, metric, label, text in _STORED_COUNTERS:
        family = CounterMetricFamily(metric, text, labels=[label] if label else [])
        for (of_name, of_label), value in stored.items():
            if of_name == name:
                family.add_metric([of_label] if label else [], value)
        yield family
