"""What describe and list of both kinds of job share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from sonant.errors import ResourceNotFound
from sonant.operations.paging import paged
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.store import jobs
from sonant.store.vault import Vault

#: The member that holds a job's own configuration, by kind.
CONFIG_MEMBER = {jobs.ENROLLMENT: "EnrollmentConfig", jobs.REGISTRATION: "RegistrationConfig"}
_NAMES = {jobs.ENROLLMENT: "speaker enrollment", jobs.REGISTRATION: "fraudster registration"}


def describe(service: Service, caller: Caller, request: Request, kind: str) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        memory, place = service.database.memory(connection), (kind, domain.domain_id, request["JobId"])
        job = memory.get(place)
        if job is None:
            job = memory[place] = require_job(connection, *place)
        return {"Job": member(job, vault)}


def list_page(service: Service, caller: Caller, request: Request, kind: str, operation: str) -> Answer:
    """Newest first; `JobStatus` filters exactly."""
    status = request.get("JobStatus")
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        items, next_token = paged(
            service,
            request,
            (operation, domain.domain_id, status or ""),
            lambda after, limit: jobs.page(connection, kind, domain.domain_id, status, after, limit),
            lambda job: (job.created_at, job.job_id),
        )
        return {"JobSummaries": [_summary(job, vault) for job in items], "NextToken": next_token}


def require_job(connection: Connection, kind: str, domain_id: str, job_id: str) -> jobs.Job:
    job = jobs.find(connection, kind, domain_id, job_id)
    if job is None:
        raise ResourceNotFound("BATCH_JOB", f"The {_NAMES[kind]} job does not exist in this domain.")
    return job


def member(job: jobs.Job, vault: Vault) -> dict[str, Any]:
    """A job as its describe call shows it."""
    return {
        **_summary(job, vault),
        "DataAccessRoleArn": job.role_arn,
        CONFIG_MEMBER[job.kind]: job.config,
        "InputDataConfig": {"S3Uri": job.input_uri},
        "OutputDataConfig": {"S3Uri": job.output_uri, "KmsKeyId": job.output_kms_key},
    }


def _summary(job: jobs.Job, vault: Vault) -> dict[str, Any]:
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
