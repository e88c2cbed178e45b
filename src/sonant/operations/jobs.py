"""Start, describe and list jobs: what all types of job share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from sonant.errors import ResourceNotFound, ServiceQuotaExceeded
from sonant.events.documents import SUBMITTED, Event
from sonant.ids import new_id
from sonant.operations.idempotency import client_token, note_use, require_first_use
from sonant.operations.paging import paged
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.watchlists import require_watchlist
from sonant.settings import Quotas
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import jobs
from sonant.storage.repositories.domains import Domain
from sonant.traces import current_span

#: The member with a job's own configuration, by job type.
CONFIG_MEMBER = {
    jobs.ENROLLMENT: "EnrollmentConfig",
    jobs.REGISTRATION: "RegistrationConfig",
    jobs.DRY_RUN: "EnrollmentConfig",
}
_NAMES = {
    jobs.ENROLLMENT: "speaker enrollment",
    jobs.REGISTRATION: "fraudster registration",
    jobs.DRY_RUN: "enrollment dry-run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The differences between the start calls of job types."""

    operation: str
    kind: str
    limit: Callable[[Quotas], int]
    """How many jobs of the type a domain may run at once."""
    watchlist_ids: Callable[[dict[str, Any]], list[str]]
    """Lists the watchlists that a job's configuration names."""
    event: Callable[[Domain, jobs.Job, str], Event] | None
    """Builds the event of the start; None for no event."""
    least: Callable[[Service, Caller, Domain, dict[str, Any]], None] | None = None
    """Checks thresholds that need a right of their own. None: all are accepted, as Voice ID does."""


def start(service: Service, caller: Caller, request: Request, what: Start, config: dict[str, Any]) -> Answer:
    """Store a job with its configuration. Raises ServiceQuotaExceeded while the domain runs too many."""
    output = request["OutputDataConfig"]
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        token = client_token(service, connection, caller, what.operation, request)
        if token.found is not None:
            return {"Job": member(require_job(connection, what.kind, domain.domain_id, token.found), vault)}
        if "ClientToken" not in request:
            # A call that is sent again must not enroll whom a deletion has removed since.
            require_first_use(service, connection, caller)
            note_use(service, connection, caller)
        if what.least is not None:
            what.least(service, caller, domain, config)
        for watchlist_id in what.watchlist_ids(config):
            require_watchlist(connection, domain.domain_id, watchlist_id)
        limit = what.limit(service.settings.quotas)
        if jobs.count_active(connection, what.kind, domain.domain_id) >= limit:
            raise ServiceQuotaExceeded(
                f"The domain already runs {limit} {_NAMES[what.kind]} job(s), its quota; wait until one ends."
            )
        job_id, name, span = new_id(), request.get("JobName"), current_span()
        jobs.insert_job(
            connection,
            job_id=job_id,
            kind=what.kind,
            domain_id=domain.domain_id,
            name_sealed=None if name is None else vault.seal("job name", job_id, name),
            role_arn=request["DataAccessRoleArn"],
            input_uri=request["InputDataConfig"]["S3Uri"],
            output_uri=output["S3Uri"],
            output_kms_key=output.get("KmsKeyId"),
            config=config,
            now=service.clock(),
            trace_parent=None if span is None else span.context,
        )
        token.keep(service, connection, job_id)
        job = require_job(connection, what.kind, domain.domain_id, job_id)
        if what.event is not None:
            service.outbox.put(connection, [what.event(domain, job, SUBMITTED)], service.clock())
        return {"Job": member(job, vault)}


def describe(service: Service, caller: Caller, request: Request, kind: str) -> Answer:
    opened = service.open_domain(caller, request["DomainId"], write=False, snapshot=False)
    with opened as (connection, domain, vault):
        memory, key = service.database.read_cache(connection), (kind, domain.domain_id, request["JobId"])
        job = memory.get(key)
        if job is None:
            job = memory[key] = require_job(connection, *key)
        return {"Job": member(job, vault)}


def list_page(service: Service, caller: Caller, request: Request, kind: str, operation: str) -> Answer:
    """List jobs, newest first; `JobStatus` filters exactly."""
    status = request.get("JobStatus")
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        items, next_token = paged(
            service,
            request,
            (operation, domain.domain_id, status or ""),
            lambda after, limit: jobs.page(connection, kind, domain.domain_id, status, after, limit),
            lambda job: (job.created_at, job.job_id),
        )
        return {"JobSummaries": [summary(job, vault) for job in items], "NextToken": next_token}


def require_job(connection: Connection, kind: str, domain_id: str, job_id: str) -> jobs.Job:
    job = jobs.find(connection, kind, domain_id, job_id)
    if job is None:
        raise ResourceNotFound("BATCH_JOB", f"The {_NAMES[kind]} job does not exist in this domain.")
    return job


def member(job: jobs.Job, vault: Vault) -> dict[str, Any]:
    """Build a job as its describe call shows it."""
    return {
        **summary(job, vault),
        "DataAccessRoleArn": job.role_arn,
        CONFIG_MEMBER[job.kind]: job.config,
        "InputDataConfig": {"S3Uri": job.input_uri},
        "OutputDataConfig": {"S3Uri": job.output_uri, "KmsKeyId": job.output_kms_key},
    }


def summary(job: jobs.Job, vault: Vault) -> dict[str, Any]:
    """Build a job as its list call shows it."""
    return {
        "CreatedAt": job.created_at,
        "DomainId": job.domain_id,
        "EndedAt": job.ended_at,
        "FailureDetails": None
        if job.failure_code is None
        else {"Message": job.failure_message, "StatusCode": job.failure_code},
        "JobId": job.job_id,
        "JobName": None if job.name_sealed is None else vault.open("job name", job.job_id, job.name_sealed),
        "JobProgress": {"PercentComplete": job.percent_complete},
        "JobStatus": job.status,
    }
