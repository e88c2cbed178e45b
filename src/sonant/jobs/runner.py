"""The runner: claims jobs and carries each to its end. It alone commits.

    claim ─► take the manifest in (one transaction) ─► window of requests over the engine
          ─► commit outcome and voiceprint together, in manifest order ─► result file ─► final status

Kill it anywhere: what was committed stays, what was in hand is done again by the next runner. Every
transaction that commits work renews the lease first: a runner that lost the job writes nothing more, so
nothing is done twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from sonant.audit.findings import FindingsTrail
from sonant.errors import (
    ClusterUnavailable,
    DatabaseUnavailable,
    DomainNotActive,
    InvalidObjectName,
    KeyError_,
    KeysUnreachable,
    ObjectsUnavailable,
    SealBroken,
    SonantError,
    StoreError,
)
from sonant.events.documents import ErrorInfo
from sonant.events.outbox import Outbox
from sonant.jobs import result
from sonant.jobs.batch import BatchWork, open_lines, seal_request
from sonant.jobs.calibration_cache import CalibrationOf
from sonant.jobs.entry import Role
from sonant.jobs.faults import JobFault, code_of
from sonant.jobs.job_type import JobContext, JobType
from sonant.jobs.manifest import Rules, read_manifest
from sonant.jobs.model_upgrade import Upgrades
from sonant.jobs.states import Event, Status, advance
from sonant.jobs.window import Engine, Window
from sonant.settings import Settings
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.engine import Database
from sonant.storage.keys.store import KeysOf
from sonant.storage.objects.store import ObjectUri, RoleObjects
from sonant.storage.opening import open_active_domain
from sonant.storage.repositories import counters, domains, jobs
from sonant.storage.repositories.access import policy_texts
from sonant.storage.repositories.domains import Domain
from sonant.threads import Backoff
from sonant.voice.calibration.file import calibration_of

log = logging.getLogger(__name__)

#: How often in its life a lease is renewed while nothing else is written.
RENEWALS = 4
#: Pauses while the database or the cluster cannot be had.
PAUSE_LEAST_S, PAUSE_MOST_S = 0.5, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a runner works with; made by `app`."""

    settings: Settings
    database: Database
    keys_of: KeysOf
    objects_of: Callable[[Role], RoleObjects]
    """The object store as a role may use it."""
    kinds: Mapping[str, JobType]
    """The kinds of job that are done here, by their names."""
    rules: Mapping[str, Rules]
    """The manifest's rules, by kind."""
    clock: Callable[[], datetime]
    outbox: Outbox = field(default_factory=Outbox)
    calibration_of: CalibrationOf = calibration_of
    """What comes with a voice model."""
    findings: FindingsTrail | None = None
    """Where jobs write down what fraud detection found."""
    monotonic_s: Callable[[], float] = time.monotonic
    """Measures how long is worked: the wall clock may jump."""


class LostJob(SonantError):
    """Another runner took the job, or it ended from outside: leave it alone."""


class Stopped(SonantError):
    """The runner was told to stop; the job waits for the next one."""


class Runner:
    """Call `run` in the main thread; `stop` from a signal handler or another thread."""

    def __init__(
        self,
        parts: Parts,
        engine: Engine,
        owner: str,
        upgrades: Upgrades | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        """`upgrades` is done while there is no job. `beat` is called again and again, idle or not."""
        self._beat = beat
        self._parts, self._engine, self._owner = parts, engine, owner
        self._upgrades = upgrades
        self._kinds = tuple(parts.kinds)
        self._stop = threading.Event()
        self._lease = timedelta(seconds=parts.settings.jobs.lease_s)
        self._renewed = float("-inf")  # by the monotonic clock
        self._begun_s = self._counted_s = 0.0
        """Since when the job in hand is worked on here, and until when that is counted in the database."""
        self._waits: dict[str, float] = {}
        """When jobs were put back here for the first time, by the monotonic clock."""
        self._lost = 0
        """Workers that did not get ready, as far as they are counted in the database."""
        self._away = ""
        """What the runner waits for."""

    @property
    def problem(self) -> str:
        """Why jobs cannot be done now, in one sentence; empty while they can."""
        return self._away or self._engine.problem

    def stop(self) -> None:
        self._stop.set()

    def run(self, *, alone: bool) -> None:
        """Work until stopped. `alone`: no other runner uses this database, so every lease is a dead one's."""
        released = not alone
        pause_s, pauses = 0.0, Backoff(PAUSE_LEAST_S, PAUSE_MOST_S)
        while not self._stop.wait(pause_s):
            self._beat()
            try:
                if not released:
                    with self._parts.database.write() as connection:
                        jobs.release_all(connection)
                    released = True
                busy = self.run_one() or (self._upgrades is not None and self._upgrades.run_some())
                pause_s = 0.0 if busy else self._parts.settings.jobs.poll_s
                self._away = ""
                pauses.reset()
            except (ClusterUnavailable, DatabaseUnavailable) as fault:
                self._away, pause_s = str(fault), pauses.next_s()
                log.warning("%s; trying again in %.1f s", fault, pause_s)
        self._engine.close()

    def run_one(self) -> bool:
        """Claim one job and carry it to its end; whether there was one."""
        # A look costs next to nothing; the write lock is taken only when there is something to claim.
        with self._parts.database.read() as connection:
            now = self._parts.clock()
            if not jobs.claimable(connection, self._kinds, self._owner, now, self._lease):
                return False
        with self._parts.database.write() as connection:
            job = jobs.claim(connection, self._kinds, self._owner, self._parts.clock(), self._lease)
        if job is None:
            return False
        log.info("job %s: begun (%d requests done before)", job.job_id, job.entries_done)
        self._begun_s = self._counted_s = self._parts.monotonic_s()
        try:
            status: str = self._carry(job)
        except JobFault as fault:
            status = self._fail(job, fault)
        except (KeysUnreachable, ObjectsUnavailable) as fault:
            return self._put_back(job, fault)
        except ClusterUnavailable as fault:
            self._put_back(job, fault)
            raise
        except (LostJob, Stopped) as why:
            log.info("job %s: left to another runner (%s)", job.job_id, type(why).__name__)
            self._engine.discard()
            return True
        except DatabaseUnavailable:
            self._engine.discard()  # what was in hand is done again when the database is back
            raise
        except Exception:  # a fault of ours must not hold the domain's only slot for ever
            log.exception("job %s: internal failure", job.job_id)
            status = self._fail(job, JobFault(500, "internal failure; see the service's log"))
        self._engine.discard()
        self._waits.pop(job.job_id, None)
        log.info("job %s: %s", job.job_id, status)
        return True

    def _put_back(self, job: jobs.Job, fault: SonantError) -> bool:
        """Without keys, objects or a cluster it waits: nothing can be done, and nothing is its fault."""
        log.warning("job %s: put back: %s", job.job_id, fault)
        self._engine.discard()
        limit_s, now_s = self._parts.settings.jobs.time_limit_s, self._parts.monotonic_s()
        if now_s - self._waits.setdefault(job.job_id, now_s) >= limit_s:
            self._fail(job, JobFault(500, f"the job ran for longer than {limit_s / 3600:g} h, the limit"))
            self._waits.pop(job.job_id)
            return True
        self._release(job)
        return False

    def _release(self, job: jobs.Job) -> None:
        """Leave the job to whoever looks next, and count what was worked here."""
        with suppress(LostJob), self._parts.database.write() as connection:
            self._hold(connection, job)
            jobs.release(connection, job.job_id, self._owner)

    def _carry(self, job: jobs.Job) -> Status:
        role = self._assume(job)
        objects = self._parts.objects_of(role)
        manifest, output = _places(job)
        if job.entries_total is None:
            self._check_output(objects, output, job.output_kms_key)
            self._take_in(job, objects, manifest)
        with self._parts.database.read() as connection:
            domain, _ = self._open(connection, job)
        context = JobContext(
            job=job,
            role=role,
            settings=self._parts.settings,
            database=self._parts.database,
            open_domain=lambda connection: self._open(connection, job),
            hold=lambda connection: self._hold(connection, job),
            clock=self._parts.clock,
            outbox=self._parts.outbox,
            calibration_of=self._parts.calibration_of,
            findings=self._parts.findings,
            model_id=domain.model_id,  # it stays the same while the domain has jobs
        )
        work = BatchWork(context, self._parts.kinds[job.kind].processor(context))
        Window(work, self._engine, lambda: self._keep_alive(job)).drain()
        return self._finish(job, objects, output)

    def _assume(self, job: jobs.Job) -> Role:
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
        """The job's domain, still active, its key still usable. Raises JobFault."""
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
        """Find out before the work, not after it, that its result could not be written."""
        try:
            objects.check_writable(output, kms_key)
        except StoreError as fault:
            raise JobFault(code_of(fault), f"the result file cannot be written: {fault}") from None

    def _take_in(self, job: jobs.Job, objects: RoleObjects, uri: ObjectUri) -> None:
        """Read and check the whole manifest and store its requests, all or none."""
        rules = self._parts.rules[job.kind]
        try:
            size = objects.size(uri)
            if size > rules.max_bytes:
                raise JobFault(400, f"the manifest has {size} bytes, at most {rules.max_bytes} are read")
            with objects.open(uri) as stream, self._parts.database.write() as connection:
                self._hold(connection, job)
                _, vault = self._open(connection, job)
                chunks = iter(lambda: stream.read(1 << 16), b"")
                sealed = (
                    seal_request(vault, job.job_id, position, entry)
                    for position, entry in enumerate(read_manifest(chunks, rules))
                )
                jobs.import_manifest(connection, job.job_id, sealed)
        except StoreError as fault:
            raise JobFault(code_of(fault), f"the manifest cannot be read: {fault}") from None

    def _finish(self, job: jobs.Job, objects: RoleObjects, output: ObjectUri) -> Status:
        with self._parts.database.read() as connection:
            _, vault = self._open(connection, job)
        read = self._parts.database.read

        def lines(failed: bool) -> Iterator[tuple[int, dict[str, Any]]]:
            return open_lines(vault, job.job_id, jobs.outcomes(read, job.job_id, failed=failed))

        try:
            for file, pieces in self._parts.kinds[job.kind].result_files(output, lines):
                objects.write(file, self._holding(job, pieces), job.output_kms_key)
        except StoreError as fault:
            raise JobFault(code_of(fault), f"the result file cannot be written: {fault}") from None
        with self._parts.database.write() as connection:
            self._hold(connection, job)
            now = jobs.find(connection, job.kind, job.domain_id, job.job_id)
            if now is None:
                raise LostJob
            event = Event.SUCCEED_PARTLY if now.entries_failed else Event.SUCCEED
            status = advance(Status(now.status), event)
            if jobs.finish(connection, job.job_id, self._owner, status, self._parts.clock()):
                self._tell(connection, job, status, None)
        return status

    def _fail(self, job: jobs.Job, fault: JobFault) -> str:
        """The status, FAILED unless the job is no longer ours to end."""
        status, now = advance(Status.IN_PROGRESS, Event.FAIL), self._parts.clock()
        why = (fault.code, fault.message)
        with self._parts.database.write() as connection:
            ended = jobs.finish(connection, job.job_id, self._owner, status, now, why)
            if ended:
                self._tell(connection, job, status, fault.told)
        return status if ended else "left to another runner"

    def _tell(self, connection: Connection, job: jobs.Job, status: Status, error: ErrorInfo | None) -> None:
        """The job's end as an event, in the transaction that ends it."""
        domain = domains.find_by_id(connection, job.domain_id)
        if domain is None:
            return
        try:
            told = self._parts.kinds[job.kind].told(domain, job, status, error)
        except Exception:  # the job must end, also one whose stored form is what is at fault
            log.exception("job %s: its event cannot be made", job.job_id)
            return
        if told is not None:
            self._parts.outbox.put(connection, [told], self._parts.clock())

    def _keep_alive(self, job: jobs.Job) -> None:
        """Called again and again while a job runs: stop, time limit, lost workers, lease."""
        self._beat()
        if self._stop.is_set():
            self._release(job)
            raise Stopped
        limit_s = self._parts.settings.jobs.time_limit_s
        if job.worked_s + self._parts.monotonic_s() - self._begun_s > limit_s:
            raise JobFault(500, f"the job ran for longer than {limit_s / 3600:g} h, the limit")
        if (lost := self._engine.lost) != self._lost:
            with self._parts.database.write() as connection:
                counters.add(connection, {(counters.LOST_WORKERS, ""): lost - self._lost})
            self._lost = lost
        if time.monotonic() - self._renewed > self._lease.total_seconds() / RENEWALS:
            with self._parts.database.write() as connection:
                self._hold(connection, job)

    def _holding(self, job: jobs.Job, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces, with the lease renewed between them: writing them may take longer than it lasts."""
        for piece in pieces:
            if time.monotonic() - self._renewed > self._lease.total_seconds() / RENEWALS:
                with self._parts.database.write() as connection:
                    self._hold(connection, job)
            yield piece

    def _hold(self, connection: Connection, job: jobs.Job) -> None:
        """Renew the lease, in the transaction that depends on it. Raises LostJob."""
        now, now_s = self._parts.clock(), self._parts.monotonic_s()
        worked_s = now_s - self._counted_s
        if not jobs.renew(connection, job.job_id, self._owner, now, self._lease, worked_s):
            raise LostJob
        self._renewed, self._counted_s = time.monotonic(), now_s


def _places(job: jobs.Job) -> tuple[ObjectUri, ObjectUri]:
    """The manifest and the result file. Raises JobFault for a name that no object can have."""
    try:
        manifest = ObjectUri.parse(job.input_uri)
        output = ObjectUri.parse(job.output_uri)
        return manifest, output.child(job.job_id, result.output_name(manifest.name))
    except InvalidObjectName as fault:
        raise JobFault(code_of(fault), f"the manifest or the result file cannot be named: {fault}") from None
