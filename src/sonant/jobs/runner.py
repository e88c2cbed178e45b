"""Claim jobs and run each to its end. Only the runner writes their outcomes to the database.

    claim ─► import the manifest in batches ─► window of entries over the engine
          ─► commit outcome and voiceprint together, in manifest order ─► result file ─► final status

It can be killed at any point: committed entries stay, entries in work are processed again by the next runner.
Every transaction that commits work renews the lease first: a runner that lost the job writes nothing more, so
no entry is committed twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from sonant.audit.findings import FindingsTrail
from sonant.backoff import Backoff
from sonant.errors import (
    ClusterUnavailable,
    DatabaseUnavailable,
    DomainNotActive,
    IntegrityFault,
    InvalidObjectName,
    KeyError_,
    KeysUnreachable,
    ObjectsUnavailable,
    SealBroken,
    SonantError,
    StoreError,
)
from sonant.events.error_info import ErrorInfo
from sonant.events.outbox import Outbox
from sonant.jobs import result
from sonant.jobs.batch import BatchWork, open_lines, seal_request
from sonant.jobs.calibration_cache import CalibrationOf
from sonant.jobs.entry import Role
from sonant.jobs.faults import JobFault, code_of
from sonant.jobs.job_type import JobContext, JobType, WorkItem
from sonant.jobs.manifest import Entry, Rules, read_manifest
from sonant.jobs.model_upgrade import ModelUpgrader
from sonant.jobs.states import Event, Status, advance
from sonant.jobs.traced_work import TracedWork, begin_job_span
from sonant.jobs.window import Engine, Window, Work
from sonant.settings import Settings
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.engine import Database
from sonant.storage.keys.store import KeysOf
from sonant.storage.objects.store import ObjectUri, RoleObjects
from sonant.storage.opening import open_active_domain
from sonant.storage.repositories import counters, domains, jobs
from sonant.storage.repositories.access import policy_texts
from sonant.storage.repositories.domains import Domain
from sonant.traces import Span, Tracer
from sonant.voice.calibration.file import calibration_of

log = logging.getLogger(__name__)

#: Renewals of a lease within its duration while nothing else is written.
RENEWALS = 4
#: How often it is asked whether a job of another domain or type waits.
TURN_CHECK_S = 1.0
#: Pauses while the database or the cluster is unavailable.
PAUSE_LEAST_S, PAUSE_MOST_S = 0.5, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerParts:
    """The parts of the service that a runner uses."""

    settings: Settings
    database: Database
    keys_of: KeysOf
    objects_of: Callable[[Role], RoleObjects]
    """Opens the object store with the rights of a role."""
    job_types: Mapping[str, JobType]
    """The types of job that are run here, by name."""
    rules: Mapping[str, Rules]
    """The manifest's rules, by job type."""
    clock: Callable[[], datetime]
    outbox: Outbox = field(default_factory=Outbox)
    calibration_of: CalibrationOf = calibration_of
    """The calibration that comes with a voice model."""
    findings: FindingsTrail | None = None
    """The audit trail of flagged entries."""
    tracer: Tracer | None = None
    """Begins the spans of jobs; None without traces."""
    monotonic_s: Callable[[], float] = time.monotonic
    """Measures working time: the wall clock may jump."""


class LeaseLost(SonantError):
    """Another runner claimed the job, or it was ended from outside: write nothing more."""


class RunnerStopped(SonantError):
    """The runner was stopped; the next one continues the job."""


class TurnOver(SonantError):
    """A job of another domain or type gets its turn; this one is continued later."""


class Runner:
    """Runs jobs. Call `run` in the main thread, `stop` from a signal handler or another thread."""

    def __init__(
        self,
        parts: RunnerParts,
        engine: Engine,
        owner: str,
        upgrades: ModelUpgrader | None = None,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """`upgrades` run while there is no job. `heartbeat` is called repeatedly, also while idle."""
        self._heartbeat = heartbeat
        self._parts, self._engine, self._owner = parts, engine, owner
        self._upgrades = upgrades
        self._type_names = tuple(parts.job_types)
        self._stop = threading.Event()
        self._lease = timedelta(seconds=parts.settings.jobs.lease_s)
        self._renewed = float("-inf")  # by the monotonic clock
        self._started_s = self._counted_s = 0.0
        """When this runner started on the job, and until when its working time is counted in the database."""
        self._asked_s = float("-inf")
        """When it was asked last whether a job of another domain or type waits."""
        self._first_put_back_s: dict[str, float] = {}
        """By job: when it was put back here for the first time, by the monotonic clock."""
        self._workers_lost = 0
        """Workers that did not get ready and are counted in the database."""
        self._unavailable = ""
        """Why the database or the cluster cannot be used; empty while both can."""
        self._span: Span | None = None
        """Of the job in work, if there are traces."""
        self._failure_code = 0
        """Of the job in work, if it has failed."""

    @property
    def problem(self) -> str:
        """Why jobs cannot be run now, in one sentence; empty while they can."""
        return self._unavailable or self._engine.problem

    def stop(self) -> None:
        self._stop.set()

    def run(self, *, alone: bool) -> None:
        """Run jobs until stopped. `alone`: no other runner uses this database, so all leases are void."""
        released = not alone
        pause_s, pauses = 0.0, Backoff(PAUSE_LEAST_S, PAUSE_MOST_S)
        while not self._stop.wait(pause_s):
            self._heartbeat()
            try:
                if not released:
                    with self._parts.database.write() as connection:
                        jobs.release_all(connection)
                    released = True
                busy = self.run_one() or (self._upgrades is not None and self._upgrades.run_batch())
                pause_s = 0.0 if busy else self._parts.settings.jobs.poll_s
                self._unavailable = ""
                pauses.reset()
            except IntegrityFault as fault:  # in the row of a job, which is left out from now on
                log.error("%s", fault)
                self._engine.discard()
            except (ClusterUnavailable, DatabaseUnavailable) as fault:
                self._unavailable, pause_s = str(fault), pauses.next_s()
                log.warning("%s; trying again in %.1f s", fault, pause_s)
        self._engine.close()

    def run_one(self) -> bool:
        """Claim one job and run it to its end; whether there was one."""
        # A read costs next to nothing; the write lock is taken only when there is a job to claim.
        with self._parts.database.read() as connection:
            now = self._parts.clock()
            if not jobs.claimable(connection, self._type_names, self._owner, now, self._lease):
                return False
        with self._parts.database.write() as connection:
            job = jobs.claim(connection, self._type_names, self._owner, self._parts.clock(), self._lease)
        if job is None:
            return False
        if self._parts.tracer is None:
            return self._run_claimed(job)
        self._span, self._failure_code = begin_job_span(self._parts.tracer, job), 0
        error = "interrupted"
        try:
            progress = self._run_claimed(job)
            error = str(self._failure_code or "")
            return progress
        finally:
            self._span.end(error=error, failed=self._failure_code >= 500)
            self._span = None

    def _run_claimed(self, job: jobs.Job) -> bool:
        """Run a job to its end, or until it is left to a later turn; whether there was progress."""
        log.info("job %s: started (%d requests done before)", job.job_id, job.entries_done)
        self._started_s = self._counted_s = self._parts.monotonic_s()
        try:
            status: str = self._run_job(job)
        except JobFault as fault:
            status = self._fail(job, fault)
        except (KeysUnreachable, ObjectsUnavailable) as fault:
            return self._put_back(job, fault)
        except ClusterUnavailable as fault:
            self._put_back(job, fault)
            raise
        except (LeaseLost, RunnerStopped) as why:
            log.info("job %s: left to another runner (%s)", job.job_id, type(why).__name__)
            self._engine.discard()
            return True
        except TurnOver:
            log.info("job %s: waits while another job has its turn", job.job_id)
            return True
        except DatabaseUnavailable:
            self._engine.discard()  # entries in work are processed again when the database is back
            raise
        except IntegrityFault as fault:
            log.error("job %s: %s", job.job_id, fault)
            status = self._fail(job, JobFault(500, "internal failure; see the service's log"))
        except Exception:  # a bug must not occupy the domain's only slot for ever
            log.exception("job %s: internal failure", job.job_id)
            status = self._fail(job, JobFault(500, "internal failure; see the service's log"))
        self._engine.discard()
        self._first_put_back_s.pop(job.job_id, None)
        self._note_end(job, status)
        return True

    def _note_end(self, job: jobs.Job, status: str) -> None:
        log.info("job %s: %s", job.job_id, status)
        if self._span is not None:
            self._span.describe({"sonant.job_status": status})

    def _put_back(self, job: jobs.Job, fault: SonantError) -> bool:
        """Release a job that lacks keys, objects or a cluster; it is claimed again later."""
        log.warning("job %s: put back: %s", job.job_id, fault)
        self._engine.discard()
        limit_s, now_s = self._parts.settings.jobs.time_limit_s, self._parts.monotonic_s()
        if now_s - self._first_put_back_s.setdefault(job.job_id, now_s) >= limit_s:
            self._fail(job, JobFault(500, f"the job ran for longer than {limit_s / 3600:g} h, the limit"))
            self._first_put_back_s.pop(job.job_id)
            return True
        self._release(job)
        return False

    def _release(self, job: jobs.Job) -> None:
        """Release the job for any runner, and count the working time."""
        with suppress(LeaseLost), self._parts.database.write() as connection:
            self._renew_lease(connection, job)
            jobs.release(connection, job.job_id, self._owner)

    def _run_job(self, job: jobs.Job) -> Status:
        role = self._assume_role(job)
        objects = self._parts.objects_of(role)
        manifest, output = _object_uris(job)
        if job.entries_total is None:
            self._check_output(objects, output, job.output_kms_key)
            self._import_manifest(job, objects, manifest)
        with self._parts.database.read() as connection:
            domain, _ = self._open(connection, job)
        context = JobContext(
            job=job,
            role=role,
            settings=self._parts.settings,
            database=self._parts.database,
            open_domain=lambda connection: self._open(connection, job),
            renew_lease=lambda connection: self._renew_lease(connection, job),
            clock=self._parts.clock,
            outbox=self._parts.outbox,
            calibration_of=self._parts.calibration_of,
            findings=self._parts.findings,
            model_id=domain.model_id,  # it cannot change while the domain has jobs
        )
        work = self._work(BatchWork(context, self._parts.job_types[job.kind].processor(context)))
        if not Window(work, self._engine, lambda: self._keep_alive(job)).drain(lambda: self._turn_over(job)):
            self._release(job)
            raise TurnOver
        return self._finish(job, objects, output)

    def _work(self, work: BatchWork) -> Work[WorkItem]:
        return work if self._span is None or not self._span.recorded else TracedWork(work, self._span)

    def _assume_role(self, job: jobs.Job) -> Role:
        with self._parts.database.read() as connection:
            policies = policy_texts(connection, job.role_arn)
            domain = domains.find_by_id(connection, job.domain_id)
        if domain is None:
            raise JobFault(409, "the domain was suspended while the job ran")
        if self._parts.settings.assumes_roles:
            policies = ()
        if policies is None:
            raise JobFault(403, f"the role {job.role_arn} cannot be assumed: it does not exist")
        return Role(arn=job.role_arn, policies=policies, domain_arn=domain.arn, account_id=domain.account_id)

    def _open(self, connection: Connection, job: jobs.Job) -> tuple[Domain, Vault]:
        """Open the job's domain, which must still be active. Raises JobFault."""
        try:
            return open_active_domain(connection, self._parts.keys_of, job.domain_id)
        except DomainNotActive:
            raise JobFault(409, "the domain was suspended while the job ran") from None
        except SealBroken:
            raise JobFault(
                500, "the domain's data key is damaged; restore the database from a backup"
            ) from None
        except KeyError_ as fault:
            raise JobFault(403, f"the domain's KMS key cannot be used: {fault}") from None

    def _check_output(self, objects: RoleObjects, output: ObjectUri, kms_key: str | None) -> None:
        """Check before the work that the result can be written. Raises JobFault."""
        try:
            objects.check_writable(output, kms_key)
        except StoreError as fault:
            raise JobFault(code_of(fault), f"the result file cannot be written: {fault}") from None

    def _import_manifest(self, job: jobs.Job, objects: RoleObjects, uri: ObjectUri) -> None:
        """Read and check the manifest and store its entries, which count once all of them are there."""
        rules = self._parts.rules[job.kind]
        # Of an import that was cut short. A runner that has lost the job would delete those of its successor.
        self._delete_entries(job, lambda connection: self._renew_lease(connection, job))
        try:
            size = objects.size(uri)
            if size > rules.max_bytes:
                raise JobFault(400, f"the manifest has {size} bytes, at most {rules.max_bytes} are read")
            with objects.open(uri) as stream:
                entries = read_manifest(iter(lambda: stream.read(1 << 16), b""), rules)
                total = 0
                while batch := list(islice(entries, jobs.BATCH)):
                    self._keep_alive(job)
                    self._import_requests(job, total, batch)
                    total += len(batch)
        except StoreError as fault:
            raise JobFault(code_of(fault), f"the manifest cannot be read: {fault}") from None
        with self._parts.database.write() as connection:
            self._renew_lease(connection, job)
            jobs.finish_import(connection, job.job_id, total)

    def _import_requests(self, job: jobs.Job, start: int, batch: Sequence[Entry]) -> None:
        """Store requests of the manifest from position `start` on; others wait for the writing alone."""
        with self._parts.database.read() as connection:
            _, vault = self._open(connection, job)
        sealed = [
            seal_request(vault, job.job_id, position, entry) for position, entry in enumerate(batch, start)
        ]
        with self._parts.database.write() as connection:
            self._renew_lease(connection, job)
            jobs.add_requests(connection, job.job_id, start, sealed)

    def _delete_entries(
        self, job: jobs.Job, require: Callable[[Connection], None] = lambda _connection: None
    ) -> None:
        """Delete the job's entries, in transactions that keep nobody waiting. `require` is called in each of
        them first, and may raise."""
        position: int | None = 0
        while position is not None:
            with self._parts.database.write() as connection:
                require(connection)
                position = jobs.delete_entries(connection, job.job_id, position)

    def _finish(self, job: jobs.Job, objects: RoleObjects, output: ObjectUri) -> Status:
        with self._parts.database.read() as connection:
            _, vault = self._open(connection, job)
        read = self._parts.database.read

        def lines(failed: bool) -> Iterator[tuple[int, dict[str, Any]]]:
            return open_lines(vault, job.job_id, jobs.outcomes(read, job.job_id, failed=failed))

        try:
            for file, pieces in self._parts.job_types[job.kind].result_files(output, lines):
                objects.write(file, self._with_lease(job, pieces), job.output_kms_key)
        except StoreError as fault:
            raise JobFault(code_of(fault), f"the result file cannot be written: {fault}") from None
        with self._parts.database.write() as connection:
            self._renew_lease(connection, job)
            now = jobs.find(connection, job.kind, job.domain_id, job.job_id)
            if now is None:
                raise LeaseLost
            event = Event.SUCCEED_PARTLY if now.entries_failed else Event.SUCCEED
            status = advance(Status(now.status), event)
            ended = jobs.finish(connection, job.job_id, self._owner, status, self._parts.clock())
            if ended:
                self._put_end_event(connection, job, status, None)
        if ended:
            self._delete_entries(job)
        return status

    def _fail(self, job: jobs.Job, fault: JobFault) -> str:
        """End the job as FAILED, unless this runner has lost it; the status for the log."""
        self._failure_code = fault.code
        status, now = advance(Status.IN_PROGRESS, Event.FAIL), self._parts.clock()
        with self._parts.database.write() as connection:
            found = jobs.find(connection, job.kind, job.domain_id, job.job_id)
            why = (fault.code, fault.message + ("" if found is None else result.describe_progress(found)))
            ended = jobs.finish(connection, job.job_id, self._owner, status, now, why)
            if ended:
                self._put_end_event(connection, job, status, fault.event_error)
        if ended:
            self._delete_entries(job)
        return status if ended else "left to another runner"

    def _put_end_event(
        self, connection: Connection, job: jobs.Job, status: Status, error: ErrorInfo | None
    ) -> None:
        """Put the event of the job's end into the outbox, in the transaction that ends it."""
        domain = domains.find_by_id(connection, job.domain_id)
        if domain is None:
            return
        try:
            event = self._parts.job_types[job.kind].end_event(domain, job, status, error)
        except Exception:  # the job must end, even if its stored form is the fault
            log.exception("job %s: its event cannot be built", job.job_id)
            return
        if event is not None:
            self._parts.outbox.put(connection, [event], self._parts.clock())

    def _keep_alive(self, job: jobs.Job) -> None:
        """Check the stop flag, the time limit and lost workers, and renew the lease; called repeatedly."""
        self._heartbeat()
        if self._stop.is_set():
            self._release(job)
            raise RunnerStopped
        limit_s = self._parts.settings.jobs.time_limit_s
        if job.worked_s + self._parts.monotonic_s() - self._started_s > limit_s:
            raise JobFault(500, f"the job ran for longer than {limit_s / 3600:g} h, the limit")
        if (lost := self._engine.workers_lost) != self._workers_lost:
            with self._parts.database.write() as connection:
                counters.add(connection, {(counters.LOST_WORKERS, ""): lost - self._workers_lost})
            self._workers_lost = lost
        if time.monotonic() - self._renewed > self._lease.total_seconds() / RENEWALS:
            with self._parts.database.write() as connection:
                self._renew_lease(connection, job)

    def _turn_over(self, job: jobs.Job) -> bool:
        """Return whether the job has had its turn and a job of another domain or another type waits."""
        now_s, settings = self._parts.monotonic_s(), self._parts.settings.jobs
        if now_s < max(self._started_s + settings.turn_s, self._asked_s + TURN_CHECK_S):
            return False
        self._asked_s = now_s
        now, kinds = self._parts.clock(), self._type_names
        with self._parts.database.read() as connection:
            return jobs.others_wait(
                connection, kinds, self._owner, now, self._lease, of_domain=job.domain_id, of_kind=job.kind
            )

    def _with_lease(self, job: jobs.Job, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Pass the pieces on and renew the lease between them: writing may take longer than it lasts."""
        for piece in pieces:
            if time.monotonic() - self._renewed > self._lease.total_seconds() / RENEWALS:
                with self._parts.database.write() as connection:
                    self._renew_lease(connection, job)
            yield piece

    def _renew_lease(self, connection: Connection, job: jobs.Job) -> None:
        """Renew the lease, in the transaction that depends on it. Raises LeaseLost."""
        now, now_s = self._parts.clock(), self._parts.monotonic_s()
        worked_s = now_s - self._counted_s
        if not jobs.renew(connection, job.job_id, self._owner, now, self._lease, worked_s):
            raise LeaseLost
        self._renewed, self._counted_s = time.monotonic(), now_s


def _object_uris(job: jobs.Job) -> tuple[ObjectUri, ObjectUri]:
    """Parse the URIs of the manifest and the result file. Raises JobFault for an invalid name."""
    try:
        manifest = ObjectUri.parse(job.input_uri)
        output = ObjectUri.parse(job.output_uri)
        return manifest, output.child(job.job_id, result.output_name(manifest.name))
    except InvalidObjectName as fault:
        raise JobFault(code_of(fault), f"the manifest or the result file cannot be named: {fault}") from None
