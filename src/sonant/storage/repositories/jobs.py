"""Reads and writes batch jobs and their entries. Every change of status checks the present status."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, and_, bindparam, delete, false, func, insert, not_, or_, select, update

from sonant.errors import IntegrityFault
from sonant.storage.database.bound_connection import unverified, without_changed_rows
from sonant.storage.database.bulk import driver_errors, insert_rows
from sonant.storage.database.postgres import storable
from sonant.storage.database.rows import first_row
from sonant.storage.database.schema import ACTIVE_STATUSES, domains, job_entries, jobs
from sonant.storage.repositories import counters
from sonant.storage.times import from_us, latest_lease_us, to_us

ENROLLMENT = "SPEAKER_ENROLLMENT"
REGISTRATION = "FRAUDSTER_REGISTRATION"
DRY_RUN = "ENROLLMENT_DRY_RUN"

#: Rows that are written or read at once.
BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as stored; the domain's vault opens `name_sealed`."""

    job_id: str
    kind: str
    domain_id: str
    status: str
    name_sealed: bytes | None
    role_arn: str
    input_uri: str
    output_uri: str
    output_kms_key: str | None
    config: dict[str, Any]
    entries_total: int | None
    entries_done: int
    entries_failed: int
    failure_code: int | None
    failure_message: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    worked_s: float
    trace_parent: str | None = None
    """The span of the request that started it, as in the header `traceparent`; None without traces."""

    @property
    def percent_complete(self) -> int:
        """Percentage of the manifest's requests that are done, with success or not, rounded down."""
        if not self.entries_total:
            return 0
        return 100 * self.entries_done // self.entries_total


#: Member of the stored configuration that is none of the caller's: the job's `trace_parent`.
_TRACE_PARENT = "traceparent"

_JOB = select(*[jobs.c[name] for name in Job.__slots__ if name in jobs.c])
_FIND = _JOB.where(
    jobs.c.job_id == bindparam("of_job"),
    jobs.c.domain_id == bindparam("of_domain"),
    jobs.c.kind == bindparam("of_kind"),
)


def insert_job(
    connection: Connection,
    *,
    job_id: str,
    kind: str,
    domain_id: str,
    name_sealed: bytes | None,
    role_arn: str,
    input_uri: str,
    output_uri: str,
    output_kms_key: str | None,
    config: dict[str, Any],
    now: datetime,
    trace_parent: str | None = None,
) -> None:
    """Store a submitted job."""
    stored = config if trace_parent is None else {**config, _TRACE_PARENT: trace_parent}
    connection.execute(
        insert(jobs).values(
            job_id=job_id,
            kind=kind,
            domain_id=domain_id,
            status="SUBMITTED",
            name_sealed=name_sealed,
            role_arn=role_arn,
            input_uri=storable(connection, input_uri),
            output_uri=storable(connection, output_uri),
            output_kms_key=None if output_kms_key is None else storable(connection, output_kms_key),
            config=json.dumps(stored),
            entries_done=0,
            entries_failed=0,
            created_at=to_us(now),
        )
    )


def find(connection: Connection, kind: str, domain_id: str, job_id: str) -> Job | None:
    """Return a job of a kind and a domain, or None."""
    wanted = {"of_job": job_id, "of_domain": domain_id, "of_kind": kind}
    row = first_row(connection, _FIND, wanted)
    return None if row is None else _job(row)


def page(
    connection: Connection,
    kind: str,
    domain_id: str,
    status: str | None,
    after: tuple[int, str] | None,
    limit: int,
) -> list[Job]:
    """Return a page: newest first, ties by id; at most `limit` after the position `after`."""
    query = _JOB.where(jobs.c.domain_id == domain_id, jobs.c.kind == kind)
    if status is not None:
        query = query.where(jobs.c.status == status)
    if after is not None:
        query = query.where(
            jobs.c.created_at <= after[0], or_(jobs.c.created_at < after[0], jobs.c.job_id > after[1])
        )
    query = query.order_by(jobs.c.created_at.desc(), jobs.c.job_id).limit(limit)
    return [_job(dict(row)) for row in connection.execute(query).mappings()]


def count_active(connection: Connection, kind: str, domain_id: str) -> int:
    """Return the number of a domain's jobs of a kind that are submitted or in progress."""
    query = select(func.count()).where(
        jobs.c.domain_id == domain_id, jobs.c.kind == kind, jobs.c.status.in_(ACTIVE_STATUSES)
    )
    return connection.execute(query).scalar_one()


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """An active job that no runner has a valid lease of."""

    job_id: str
    kind: str
    domain_id: str
    waiting_since: datetime
    """When its last lease ended, or its last turn began; of a job that never began, when it was submitted."""


def list_waiting(connection: Connection, now: datetime, lease: timedelta) -> list[WaitingJob]:
    """Return the active jobs without a valid lease, those that wait longest first."""
    since = func.coalesce(jobs.c.lease_until, jobs.c.turn_at, jobs.c.created_at)
    query = select(jobs.c.job_id, jobs.c.kind, jobs.c.domain_id, since.label("since")).where(
        jobs.c.status.in_(ACTIVE_STATUSES),
        or_(
            jobs.c.lease_owner.is_(None),
            jobs.c.lease_until < to_us(now),
            jobs.c.lease_until > latest_lease_us(now, lease),
        ),
    )
    return [
        WaitingJob(
            job_id=row.job_id, kind=row.kind, domain_id=row.domain_id, waiting_since=from_us(row.since)
        )
        for row in connection.execute(query.order_by(since))
    ]


def count_running(connection: Connection, now: datetime, lease: timedelta) -> int:
    """Count the active jobs that runners have valid leases of."""
    query = (
        select(func.count())
        .select_from(jobs)
        .where(
            jobs.c.status.in_(ACTIVE_STATUSES),
            jobs.c.lease_owner.is_not(None),
            jobs.c.lease_until.between(to_us(now), latest_lease_us(now, lease)),
        )
    )
    return int(connection.execute(query).scalar_one())


# --- for runners


_CLAIMABLE = _JOB.where(
    jobs.c.kind.in_(bindparam("kinds", expanding=True)),
    jobs.c.status.in_(ACTIVE_STATUSES),
    or_(
        jobs.c.lease_owner.is_(None),
        jobs.c.lease_owner == bindparam("owner"),
        jobs.c.lease_until < bindparam("now_us"),
        jobs.c.lease_until > bindparam("far_us"),
    ),
)
_others, _own_domain, _others_domain = jobs.alias("others"), domains.alias("own"), domains.alias("theirs")
#: When a runner last took a job of the account that a job belongs to; 0 for never.
_ACCOUNT_SERVED = (
    select(func.coalesce(func.max(_others.c.turn_at), 0))
    .join_from(_others, _others_domain, _others_domain.c.domain_id == _others.c.domain_id)
    .where(
        _others_domain.c.account_id
        == select(_own_domain.c.account_id)
        .where(_own_domain.c.domain_id == jobs.c.domain_id)
        .correlate(jobs)
        .scalar_subquery()
    )
    .correlate(jobs)
    .scalar_subquery()
)
#: The same of the job's domain.
_DOMAIN_SERVED = (
    select(func.coalesce(func.max(_others.c.turn_at), 0))
    .where(_others.c.domain_id == jobs.c.domain_id)
    .correlate(jobs)
    .scalar_subquery()
)
#: The same of the jobs of this type in the domain.
_KIND_SERVED = (
    select(func.coalesce(func.max(_others.c.turn_at), 0))
    .where(_others.c.domain_id == jobs.c.domain_id, _others.c.kind == jobs.c.kind)
    .correlate(jobs)
    .scalar_subquery()
)
#: What a runner has left without a word goes on first. Of the rest, the accounts take turns, in each its
#: domains, and in each of these the types of jobs, with what they have begun, and then with their oldest.
_NEXT = without_changed_rows(
    _CLAIMABLE.order_by(
        jobs.c.lease_owner.is_(None),
        _ACCOUNT_SERVED,
        _DOMAIN_SERVED,
        _KIND_SERVED,
        jobs.c.started_at.is_(None),
        jobs.c.created_at,
        jobs.c.job_id,
    )
)
_OTHER_WAITS = unverified(
    _CLAIMABLE.with_only_columns(jobs.c.job_id)
    .where(or_(jobs.c.domain_id != bindparam("of_domain"), jobs.c.kind != bindparam("of_kind")))
    .limit(1),
    "only whether there is one",
)
_CLAIM = _NEXT.limit(1).with_for_update(skip_locked=True, of=jobs)
#: When the first was left out, since something else has changed it.
_CLAIM_FURTHER = _NEXT.limit(100).with_for_update(skip_locked=True, of=jobs)


def claimable(
    connection: Connection, kinds: Sequence[str], owner: str, now: datetime, lease: timedelta
) -> bool:
    """Return whether there is a job of these kinds without a valid lease."""
    return connection.execute(_NEXT, _claim_parameters(kinds, owner, now, lease)).first() is not None


def others_wait(
    connection: Connection,
    kinds: Sequence[str],
    owner: str,
    now: datetime,
    lease: timedelta,
    *,
    of_domain: str,
    of_kind: str,
) -> bool:
    """Return whether a job of these kinds in another domain, or of another kind, waits for a runner."""
    parameters = _claim_parameters(kinds, owner, now, lease)
    parameters |= {"of_domain": of_domain, "of_kind": of_kind}
    return connection.execute(_OTHER_WAITS, parameters).first() is not None


def _claim_parameters(kinds: Sequence[str], owner: str, now: datetime, lease: timedelta) -> dict[str, Any]:
    return {"kinds": kinds, "owner": owner, "now_us": to_us(now), "far_us": latest_lease_us(now, lease)}


def claim(
    connection: Connection, kinds: Sequence[str], owner: str, now: datetime, lease: timedelta
) -> Job | None:
    """Take a job of these kinds without a valid lease (never started, or its lease expired).

    Jobs whose runner died come first. Then accounts take turns, that whose last turn was longest ago first;
    in an account its domains do, and in a domain the types of its jobs, each with one that was begun or its
    oldest one. So many jobs of one do not hold up those of others.
    """
    parameters = _claim_parameters(kinds, owner, now, lease)
    row = connection.execute(_CLAIM, parameters).first()
    if row is None:
        row = connection.execute(_CLAIM_FURTHER, parameters).first()
    if row is None:
        return None
    connection.execute(
        update(jobs)
        .where(jobs.c.job_id == row.job_id)
        .values(
            status="IN_PROGRESS",
            started_at=func.coalesce(jobs.c.started_at, to_us(now)),
            turn_at=to_us(now),
            lease_owner=owner,
            lease_until=to_us(now + lease),
        )
    )
    return find(connection, row.kind, row.domain_id, row.job_id)


def release_all(connection: Connection) -> None:
    """Release all leases, for a runner that is the only one."""
    connection.execute(
        update(jobs).where(jobs.c.status == "IN_PROGRESS").values(lease_owner=None, lease_until=None)
    )


def release(connection: Connection, job_id: str, owner: str) -> None:
    """Release one lease, so that another runner can continue at once."""
    connection.execute(
        update(jobs)
        .where(jobs.c.job_id == job_id, jobs.c.lease_owner == owner)
        .values(lease_owner=None, lease_until=None)
    )


def renew(
    connection: Connection,
    job_id: str,
    owner: str,
    now: datetime,
    lease: timedelta,
    worked_s: float = 0.0,
) -> bool:
    """Extend the lease and add `worked_s` of work; return whether the job is still this runner's."""
    statement = (
        update(jobs)
        .where(jobs.c.job_id == job_id, jobs.c.lease_owner == owner, jobs.c.status == "IN_PROGRESS")
        .values(lease_until=to_us(now + lease), worked_s=jobs.c.worked_s + worked_s)
    )
    return connection.execute(statement).rowcount == 1


def add_requests(connection: Connection, job_id: str, start: int, requests: Sequence[bytes]) -> None:
    """Store sealed requests of a manifest in order, the first at position `start`.

    They count from `finish_import` on; a runner that finds none counted deletes them and imports again.
    """
    rows = [
        {"job_id": job_id, "position": position, "request_sealed": sealed}
        for position, sealed in enumerate(requests, start)
    ]
    insert_rows(connection, job_entries, rows)


def finish_import(connection: Connection, job_id: str, total: int) -> None:
    """Record that all of a manifest's requests are stored, and how many they are."""
    connection.execute(update(jobs).where(jobs.c.job_id == job_id).values(entries_total=total))


def delete_entries(connection: Connection, job_id: str, start: int) -> int | None:
    """Delete up to BATCH entries of a job from a position on.

    Returns the position to go on at, or None when there are no more: a transaction that deletes a million
    rows would keep others waiting.
    """
    few = (
        select(job_entries.c.position)
        .where(job_entries.c.job_id == job_id, job_entries.c.position >= start)
        .order_by(job_entries.c.position)
        .limit(BATCH)
        .subquery()
    )
    last = connection.execute(select(func.max(few.c.position))).scalar()
    if last is None:
        return None
    connection.execute(
        delete(job_entries).where(job_entries.c.job_id == job_id, job_entries.c.position.between(start, last))
    )
    return int(last) + 1


def find_ended_with_entries(connection: Connection) -> str | None:
    """Return a job that has ended and whose entries are still there: its runner was killed in between."""
    left = select(job_entries.c.job_id).where(job_entries.c.job_id == jobs.c.job_id).exists()
    query = select(jobs.c.job_id).where(jobs.c.status.not_in(ACTIVE_STATUSES), left).limit(1)
    found = connection.execute(unverified(query, "deletes what no job needs any more")).scalar()
    return None if found is None else str(found)


def open_entries(connection: Connection, job_id: str, start: int, limit: int) -> list[tuple[int, bytes]]:
    """Return the next (position, sealed request) without an outcome, from position `start` on."""
    query = (
        select(job_entries.c.position, job_entries.c.request_sealed)
        .where(
            job_entries.c.job_id == job_id,
            job_entries.c.position >= start,
            job_entries.c.outcome_sealed.is_(None),
        )
        .order_by(job_entries.c.position)
        .limit(limit)
    )
    return [(row.position, row.request_sealed) for row in connection.execute(query)]


_RECORD_SQLITE = (
    "UPDATE job_entries SET outcome_sealed = ?, failed = ?, speaker_hash = ?"
    " WHERE job_id = ? AND position = ? AND outcome_sealed IS NULL"
)
#: `%b`: as text, bytes would be twice as long.
_RECORD_POSTGRESQL = (
    "UPDATE job_entries SET outcome_sealed = given.sealed, failed = given.failed, speaker_hash = given.voice"
    " FROM unnest(%b::int[], %b::bytea[], %b::bool[], %b::bytea[]) AS given (position, sealed, failed, voice)"
    " WHERE job_entries.job_id = %s AND job_entries.position = given.position"
    " AND job_entries.outcome_sealed IS NULL"
)


class SealedOutcome(NamedTuple):
    """One entry's outcome as it is stored."""

    position: int
    sealed: bytes
    failed: bool
    speaker_hash: bytes | None = None
    """Of an outcome that holds voice data: `Vault.lookup` of the speaker's customer id."""


def record(connection: Connection, job_id: str, outcomes: Sequence[SealedOutcome]) -> None:
    """Store outcomes and count them. All entries must be without one. Raises IntegrityFault if one is not."""
    with driver_errors(connection) as driver:
        if connection.dialect.name == "sqlite":
            rows = [(one.sealed, one.failed, one.speaker_hash, job_id, one.position) for one in outcomes]
            changed = driver.executemany(_RECORD_SQLITE, rows).rowcount
        else:
            positions, sealed, failed, voices = (list(column) for column in zip(*outcomes, strict=True))
            given = (positions, sealed, failed, voices, job_id)
            changed = driver.execute(_RECORD_POSTGRESQL, given).rowcount
    if changed != len(outcomes):
        raise IntegrityFault("job_entries", job_id, "has lost entries, or has outcomes already")
    connection.execute(
        update(jobs)
        .where(jobs.c.job_id == job_id)
        .values(
            entries_done=jobs.c.entries_done + len(outcomes),
            entries_failed=jobs.c.entries_failed + sum(one.failed for one in outcomes),
        )
    )


def outcomes(
    read: Callable[[], AbstractContextManager[Connection]], job_id: str, *, failed: bool
) -> Iterator[tuple[int, bytes]]:
    """Yield (position, sealed outcome) in manifest order, of a job whose requests are all done.

    Reads in batches, each in its own transaction from `read`: the caller may write between them.
    """
    start = -1
    while True:
        with read() as connection:
            rows = connection.execute(
                select(job_entries.c.position, job_entries.c.outcome_sealed)
                .where(
                    job_entries.c.job_id == job_id,
                    job_entries.c.position > start,
                    job_entries.c.failed == failed,
                )
                .order_by(job_entries.c.position)
                .limit(BATCH)
            ).all()
        if not rows:
            return
        for row in rows:
            yield row.position, row.outcome_sealed
        start = rows[-1].position


def voice_outcomes(
    connection: Connection, domain_id: str, speaker_hash: bytes
) -> list[tuple[str, int, bytes]]:
    """Return (job id, position, sealed outcome) of a domain's outcomes with voice data of this speaker."""
    query = (
        select(job_entries.c.job_id, job_entries.c.position, job_entries.c.outcome_sealed)
        .join(jobs, jobs.c.job_id == job_entries.c.job_id)
        .where(jobs.c.domain_id == domain_id, job_entries.c.speaker_hash == speaker_hash)
    )
    return [(row.job_id, row.position, row.outcome_sealed) for row in connection.execute(query)]


def replace_outcome(connection: Connection, job_id: str, position: int, sealed: bytes) -> None:
    """Replace a stored outcome by the same one in another form."""
    at = (job_entries.c.job_id == job_id, job_entries.c.position == position)
    connection.execute(update(job_entries).where(*at).values(outcome_sealed=sealed))


def replace_voice_outcome(connection: Connection, job_id: str, position: int, sealed: bytes) -> None:
    """Replace an outcome that held voice data by one that holds none: the entry has failed."""
    at = (job_entries.c.job_id == job_id, job_entries.c.position == position)
    had_failed = connection.execute(select(job_entries.c.failed).where(*at)).scalar_one()
    connection.execute(
        update(job_entries).where(*at).values(outcome_sealed=sealed, failed=True, speaker_hash=None)
    )
    if not had_failed:
        counted = update(jobs).where(jobs.c.job_id == job_id, jobs.c.status.in_(ACTIVE_STATUSES))
        connection.execute(counted.values(entries_failed=jobs.c.entries_failed + 1))


def finish(
    connection: Connection,
    job_id: str,
    owner: str,
    status: str,
    now: datetime,
    failure: tuple[int, str] | None = None,
) -> bool:
    """End a job that is active and this runner's, and return whether it was.

    Its entries are to be deleted afterwards (`delete_entries`).
    """
    code, message = failure or (None, None)
    statement = (
        update(jobs)
        .where(jobs.c.job_id == job_id, jobs.c.lease_owner == owner, jobs.c.status.in_(ACTIVE_STATUSES))
        .values(
            status=status,
            ended_at=to_us(now),
            failure_code=code,
            failure_message=None if message is None else storable(connection, message),
            lease_owner=None,
            lease_until=None,
        )
    )
    ended = connection.execute(statement).rowcount == 1
    if ended:
        _count_ended(connection, job_id)
    return ended


def _count_ended(connection: Connection, job_id: str) -> None:
    """Count a job that has ended."""
    row = connection.execute(
        select(jobs.c.kind, jobs.c.status, jobs.c.worked_s).where(jobs.c.job_id == job_id)
    ).one()
    counters.count_ended_job(connection, row.kind, row.status, row.worked_s)


def stop(connection: Connection, job_id: str, now: datetime, failure: tuple[int, str]) -> bool:
    """End an active job as FAILED whoever works on it, and return whether it was.

    Its entries are deleted afterwards, by housekeeping. A job whose entries are all done stays while a runner
    has it: its result is being written from them.
    """
    code, message = failure
    writes_result = and_(
        jobs.c.lease_until >= to_us(now),
        jobs.c.entries_total.is_not(None),
        jobs.c.entries_done >= jobs.c.entries_total,
    )
    statement = (
        update(jobs)
        .where(
            jobs.c.job_id == job_id,
            jobs.c.status.in_(ACTIVE_STATUSES),
            not_(func.coalesce(writes_result, false())),
        )
        .values(
            status="FAILED",
            ended_at=to_us(now),
            failure_code=code,
            failure_message=storable(connection, message),
            lease_owner=None,
            lease_until=None,
        )
    )
    stopped = connection.execute(statement).rowcount == 1
    if stopped:
        _count_ended(connection, job_id)
    return stopped


def _job(values: dict[str, Any]) -> Job:
    config = values["config"] = orjson.loads(values["config"])
    values["trace_parent"] = config.pop(_TRACE_PARENT, None)
    for name in ("created_at", "started_at", "ended_at"):
        values[name] = None if values[name] is None else from_us(values[name])
    return Job(**values)
