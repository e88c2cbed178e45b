"""Show figures of the database, and counters that it stores."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from sonant.errors import SonantError
from sonant.events import outbox
from sonant.storage.database.engine import Database
from sonant.storage.database.errors import error_text
from sonant.storage.database.schema import (
    ACTIVE_STATUSES,
    fraudsters,
    jobs,
    speakers,
    template_keys,
)
from sonant.storage.database.schema.binding import BOUND
from sonant.storage.repositories import counters, sessions
from sonant.storage.repositories.jobs import DRY_RUN, ENROLLMENT, REGISTRATION
from sonant.storage.times import from_us, now

log = logging.getLogger(__name__)

#: What becomes of a request of a job: the statuses of result files, and the codes of errors.
_OUTCOMES = (
    "NEW_ENROLLMENT",
    "ENROLLMENT_OVERWRITE",
    "DUPLICATE_SKIPPED",
    "NEW_REGISTRATION",
    *(f"ERROR_{code}" for code in (400, 402, 403, 404, 409, 500)),
)
#: Types of jobs and how they end.
_KINDS = (ENROLLMENT, REGISTRATION, DRY_RUN)
_ENDS = ("COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED")


#: Why streams end: `sessions.calls.EndReason`.
STREAM_ENDS = (
    "CALL_ENDED",
    "DISCONNECTED",
    "REQUESTED",
    "IDLE",
    "TOO_LONG",
    "MALFORMED",
    "OVERRUN",
    "DOMAIN_GONE",
    "NEVER_BEGAN",
    "SERVICE_STOPPED",
)


class _Stored(NamedTuple):
    """A counter that the database stores. Counters with a label are there from 0 with these values of it."""

    stored: str
    metric: str
    help: str
    label: str = ""
    known: Sequence[str] = ()


_STORED_COUNTERS = (
    _Stored(counters.AUDIO, "sonant_audio_seconds", "Audio that jobs processed"),
    _Stored(counters.SPEECH, "sonant_speech_seconds", "Net speech that jobs made voiceprints from"),
    _Stored(counters.COMPUTE, "sonant_compute_seconds", "Processor time spent on jobs' recordings"),
    _Stored(counters.INFERENCE, "sonant_inference_seconds", "Time spent on embedding by the voice model"),
    _Stored(
        counters.NOT_EXPIRED,
        "sonant_speakers_not_expired",
        "Speakers that a sweep could not expire because their data is damaged, counted at every sweep",
    ),
    _Stored(
        counters.LOST_WORKERS,
        "sonant_workers_lost_at_start",
        "Worker processes of jobs that ended before they were ready",
    ),
    _Stored(
        counters.INTEGRITY_FAULTS,
        "sonant_integrity_faults",
        "Rows of the database that something else than Sonant has changed, each counted once an hour at most",
        "table",
        tuple(sorted(BOUND)),
    ),
    _Stored(
        counters.LOCKED_SPEAKERS,
        "sonant_speakers_locked",
        "Speakers that were locked because many callers were rejected",
    ),
    _Stored(
        counters.PROBE_BUDGETS_USED,
        "sonant_probe_budgets_used",
        "How often a user or role, or all of an account, used up its comparisons with one speaker",
    ),
    _Stored(
        counters.FRAUDSTER_BUDGETS_USED,
        "sonant_fraudster_budgets_used",
        "How often a budget of answers about one known fraudster was used up",
    ),
    _Stored(counters.OUTCOMES, "sonant_job_requests", "Finished requests of jobs", "outcome", _OUTCOMES),
    _Stored(
        counters.STREAMS,
        "sonant_streams_ended",
        "Streams of live calls that have ended, by the reason",
        "reason",
        STREAM_ENDS,
    ),
)


class DatabaseCollector:
    """Figures of the database, read at most once in `cache_s` seconds.

    While the database cannot be read there are none of them, and all other metrics are as ever.
    """

    def __init__(self, database: Database, cache_s: float, audit_failing: Callable[[], bool]) -> None:
        self._database, self._cache_s, self._audit_failing = database, cache_s, audit_failing
        self._lock = threading.Lock()
        self._read_at_s = float("-inf")
        self._families: list[Metric] = []
        self._available = True

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that registering does not read the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the figures. Simultaneous scrapes share one read."""
        with self._lock:
            if time.monotonic() - self._read_at_s >= self._cache_s:
                self._families = self._read()
                # Scrapes that waited for a database that does not answer do not wait for it again.
                self._read_at_s = time.monotonic()
            families, available = self._families, self._available
        yield from families
        reached = GaugeMetricFamily(
            "sonant_database_available",
            "1 when the last scrape could read the database; at 0 its figures are missing",
        )
        reached.add_metric([], float(available))
        yield reached
        failing = GaugeMetricFamily("sonant_audit_failing", "1 while the audit trail cannot be written")
        failing.add_metric([], float(self._audit_failing()))
        yield failing

    def _read(self) -> list[Metric]:
        try:
            with self._database.read() as connection:
                found = list(_database_families(connection))
        except (SonantError, SQLAlchemyError) as fault:
            if self._available:
                log.warning("metrics lack the figures of the database: %s", error_text(fault) or fault)
            self._available = False
            return []
        self._available = True
        return found


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
    yield from _ages(connection)
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
    yield GaugeMetricFamily(
        "sonant_database_damaged",
        "1 when the last check of SQLite's file found damage: see `sonant doctor`, and restore a backup",
        stored.get((counters.DAMAGED, ""), 0.0),
    )
    yield GaugeMetricFamily(
        "sonant_last_backup_timestamp_seconds",
        "When `sonant backup` made the last backup, in seconds since 1970; 0 when it has made none",
        stored.get((counters.LAST_BACKUP, ""), 0.0),
    )
    for one in _STORED_COUNTERS:
        family = CounterMetricFamily(one.metric, one.help, labels=[one.label] if one.label else [])
        values = dict.fromkeys(one.known if one.label else ("",), 0.0)
        values |= {label: value for (name, label), value in stored.items() if name == one.stored}
        for label, value in values.items():
            family.add_metric([label] if one.label else [], value)
        yield family
    yield from _ended_jobs(stored)


def _ended_jobs(stored: Mapping[tuple[str, str], float]) -> Iterator[Metric]:
    """Count ended jobs by type and status, and their working time by type."""
    ended = CounterMetricFamily("sonant_jobs", "Jobs that have ended", labels=["type", "status"])
    worked = HistogramMetricFamily(
        "sonant_job_seconds", "Time that runners worked on jobs that have ended", labels=["type"]
    )
    for kind in _KINDS:
        count = 0.0
        for status in _ENDS:
            value = stored.get((counters.JOBS, f"{kind}:{status}"), 0.0)
            ended.add_metric([kind, status], value)
            count += value
        below, buckets = 0.0, []
        for bound in counters.JOB_BUCKETS_S:
            below += stored.get((counters.JOB_SECONDS_BUCKET, f"{kind}:{bound:g}"), 0.0)
            buckets.append((f"{bound:g}", below))
        worked.add_metric([kind], [*buckets, ("+Inf", count)], stored.get((counters.JOB_SECONDS, kind), 0.0))
    yield ended
    yield worked


def _ages(connection: Connection) -> Iterator[Metric]:
    """Show how old waiting events and the keys of template spaces are."""
    oldest = GaugeMetricFamily(
        "sonant_events_oldest_seconds", "Age of the oldest event that waits for the sink", labels=["sink"]
    )
    waiting_since = outbox.oldest_waiting(connection)
    for sink in outbox.waiting(connection):
        since = waiting_since.get(sink)
        oldest.add_metric([sink], 0.0 if since is None else (now() - since).total_seconds())
    yield oldest
    spaces = GaugeMetricFamily(
        "sonant_template_key_age_seconds", "Age of the key of the domain's template space", labels=["domain"]
    )
    query = select(template_keys.c.domain_id, func.max(template_keys.c.created_at))
    for domain_id, created_us in connection.execute(query.group_by(template_keys.c.domain_id)):
        spaces.add_metric([domain_id], (now() - from_us(created_us)).total_seconds())
    yield spaces
