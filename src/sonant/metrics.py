"""Measurements in Prometheus' text form: Voice ID's CloudWatch metrics, and what the runners have done.

Calls are counted in this process. What the database knows is asked at scrape time and kept for some seconds.
Labels are operation names, generated ids and fixed words.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict

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

#: Counters of the runners and of the housekeeper: the stored name, the metric, its label, what it says.
_COUNTED = (
    (counters.AUDIO, "sonant_audio_seconds", "", "Audio that jobs listened to"),
    (counters.SPEECH, "sonant_speech_seconds", "", "Net speech that jobs made voiceprints of"),
    (counters.COMPUTE, "sonant_compute_seconds", "", "Processor time that jobs' recordings took"),
    (counters.INFERENCE, "sonant_inference_seconds", "", "Time that the voice model's embedding took"),
    (
        counters.NOT_EXPIRED,
        "sonant_speakers_not_expired",
        "",
        "Speakers that a sweep could not expire for damage to their data; once every sweep",
    ),
    (
        counters.LOST_WORKERS,
        "sonant_workers_lost_at_start",
        "",
        "Worker processes of jobs that ended before they were ready",
    ),
    (counters.OUTCOMES, "sonant_job_requests", "outcome", "Requests of jobs that are finished"),
)


class CallMetrics:
    """Latency and faults by operation. An operation that is never called has no figures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, what: str) -> Counter:
            return Counter(name, what, ["operation"], registry=registry)

        self._latency = Histogram(
            "voiceid_request_latency_seconds",
            "Time from the request's last byte to its answer (RequestLatency)",
            ["operation"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._user = counter("voiceid_user_errors", "Requests refused as bad (UserErrors)")
        self._system = counter(
            "voiceid_system_errors", "Requests that failed by the service's fault (SystemErrors)"
        )
        self._throttled = counter("voiceid_throttles", "Requests over the rate (Throttles)")

    def observe(self, operation: str, seconds: float, error: WireError | None) -> None:
        """Count a call. `operation` is a name of the service model, never what a stranger sent."""
        self._latency.labels(operation).observe(seconds)
        if error is None:
            return
        if isinstance(error, Throttling):
            self._throttled.labels(operation).inc()
        elif error.http_status >= 500:
            self._system.labels(operation).inc()
        else:
            self._user.labels(operation).inc()


class StoreCollector:
    """What the database says; asked at most once in `cache_s`."""

    def __init__(self, database: Database, cache_s: float, audit_failing: Callable[[], bool]) -> None:
        self._database, self._cache_s, self._audit_failing = database, cache_s, audit_failing
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._found: list[Metric] = []

    def describe(self) -> Iterable[Metric]:
        """Nothing: asking the database at start-up would serve nobody."""
        return ()

    def collect(self) -> Iterator[Metric]:
        with self._lock:  # scrapes at the same time share one answer
            if time.monotonic() - self._asked_at >= self._cache_s:
                with self._database.read() as connection:
                    self._found = list(_families(connection))
                self._asked_at = time.monotonic()
            found = self._found
        yield from found
        failing = GaugeMetricFamily("sonant_audit_failing", "1 while the audit trail cannot be written")
        failing.add_metric([], float(self._audit_failing()))
        yield failing


class ThreadCollector:
    """Threads that use the database, and the connections that they share."""

    def __init__(self, database: Database, plan: ThreadPlan) -> None:
        self._database, self._plan = database, plan

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        threads = GaugeMetricFamily(
            "sonant_threads", "Threads of the service that may use the database at once", labels=["use"]
        )
        for use, count in asdict(self._plan).items():
            threads.add_metric([use], count)
        yield threads
        found = self._database.use
        for name, what, value in (
            ("most", "Threads that may have a transaction at once (on SQLite: that write)", found.limit),
            ("in_use", "Threads that have a transaction now (on SQLite: that write)", found.in_use),
            ("waiting", "Threads that wait for their turn", found.waiting),
            ("reading", "Connections kept for reading (SQLite: one for each thread)", found.reading),
        ):
            gauge = GaugeMetricFamily(f"sonant_database_connections_{name}", what)
            gauge.add_metric([], value)
            yield gauge


class ProcessCollector:
    """The processes that this service looks after: its runner, if it has one, and workers of live calls."""

    def __init__(self, runner: Callable[[], RunnerState] | None, lost_workers: Callable[[], int]) -> None:
        self._runner, self._lost_workers = runner, lost_workers

    def describe(self) -> Iterable[Metric]:
        """Nothing, as for all that is asked at scrape time."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "sonant_live_workers_lost_at_start",
            "Worker processes of live calls that ended before they were ready",
            self._lost_workers(),
        )
        if self._runner is None:
            return
        state = self._runner()
        up = float(state.down_s is None)
        yield GaugeMetricFamily("sonant_runner_up", "1 while the runner beside this service can do jobs", up)
        yield GaugeMetricFamily(
            "sonant_runner_down_seconds", "For how long that runner has not been able to", state.down_s or 0.0
        )
        yield CounterMetricFamily(
            "sonant_runner_restarts", "Attempts to start another runner", state.restarts
        )


class Page:
    """The registry and its text form."""

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
        """`runner` tells of the one that this service looks after, `lost_workers` of those of live calls."""
        # Else every counter has a gauge of its birth beside it, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=False)
        self.calls = CallMetrics(self._registry)
        self._registry.register(ProcessCollector(runner, lost_workers))
        self._registry.register(StoreCollector(database, cache_s, audit_failing))
        if plan is not None:
            self._registry.register(ThreadCollector(database, plan))

    def render(self) -> bytes:
        return generate_latest(self._registry)


def _families(connection: Connection) -> Iterator[Metric]:
    active = _by_domain_and_kind(connection)
    for kind, name, what in (
        (ENROLLMENT, "voiceid_active_speaker_enrollment_jobs", "ActiveSpeakerEnrollmentJobs"),
        (REGISTRATION, "voiceid_active_fraudster_registration_jobs", "ActiveFraudsterRegistrationJobs"),
    ):
        jobs_active = GaugeMetricFamily(name, f"Jobs submitted or in progress ({what})", labels=["domain"])
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
    for table, name, what in (
        (speakers, "voiceid_speakers", "Speakers in the domain (Speakers)"),
        (fraudsters, "voiceid_fraudsters", "Fraudsters in the domain (Fraudsters)"),
    ):
        people = GaugeMetricFamily(name, what, labels=["domain"])
        query = select(table.c.domain_id, func.count()).group_by(table.c.domain_id)
        for domain_id, count in connection.execute(query):
            people.add_metric([domain_id], count)
        yield people
    depth = GaugeMetricFamily(
        "sonant_queue_depth", "Requests of active jobs that are not finished yet", labels=["domain"]
    )
    left: dict[str, int] = {}
    for (domain_id, _), (_, open_) in active.items():
        left[domain_id] = left.get(domain_id, 0) + open_
    for domain_id, open_ in left.items():
        depth.add_metric([domain_id], open_)
    yield depth
    untold = GaugeMetricFamily(
        "sonant_events_waiting", "Events that a sink has not taken yet", labels=["sink"]
    )
    for sink, count in outbox.waiting(connection).items():
        untold.add_metric([sink], count)
    yield untold
    yield from _counted(connection)


def _by_domain_and_kind(connection: Connection) -> dict[tuple[str, str], tuple[int, int]]:
    """Active jobs, and their requests not done yet; a job whose manifest is not taken in yet counts none."""
    open_ = func.coalesce(jobs.c.entries_total, 0) - func.coalesce(jobs.c.entries_done, 0)
    query = (
        select(jobs.c.domain_id, jobs.c.kind, func.count(), func.sum(open_))
        .where(jobs.c.status.in_(ACTIVE_STATUSES))
        .group_by(jobs.c.domain_id, jobs.c.kind)
    )
    return {(row[0], row[1]): (int(row[2]), int(row[3])) for row in connection.execute(query)}


def _counted(connection: Connection) -> Iterator[Metric]:
    stored = counters.read(connection)
    damaged = GaugeMetricFamily(
        "sonant_database_damaged",
        "1 when the last check of SQLite's file found damage: `sonant doctor` says more, a backup mends it",
    )
    damaged.add_metric([], stored.get((counters.DAMAGED, ""), 0.0))
    yield damaged
    for name, metric, label, what in _COUNTED:
        family = CounterMetricFamily(metric, what, labels=[label] if label else [])
        for (of_name, of_label), value in stored.items():
            if of_name == name:
                family.add_metric([of_label] if label else [], value)
        yield family
