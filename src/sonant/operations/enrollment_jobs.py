"""StartSpeakerEnrollmentJob, DescribeSpeakerEnrollmentJob, ListSpeakerEnrollmentJobs."""

from __future__ import annotations

from typing import Any

from sonant.errors import ResourceNotFound, ServiceQuotaExceeded
from sonant.ids import new_id
from sonant.operations.idempotency import client_token
from sonant.operations.paging import paged
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.store import domains, jobs
from sonant.store.vault import Vault


def start_speaker_enrollment_job(service: Service, caller: Caller, request: Request) -> Answer:
    """Write the job down; a runner takes it from there. Manifest and role are looked at by the runner."""
    output = request["OutputDataConfig"]
    config = _config(request.get("EnrollmentConfig", {}), service.settings.enrollment.risk_threshold)
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        token = client_token(service, connection, caller, "StartSpeakerEnrollmentJob", request)
        if token.found is not None:
            return {"Job": _member(_require(connection, domain.domain_id, token.found), vault)}
        for watchlist_id in config["FraudDetectionConfig"].get("WatchlistIds", []):
            if not domains.has_watchlist(connection, domain.domain_id, watchlist_id):
                raise ResourceNotFound("WATCHLIST", "The watchlist does not exist in this domain.")
        limit = service.settings.quotas.active_enrollment_jobs_per_domain
        if jobs.count_active(connection, jobs.ENROLLMENT, domain.domain_id) >= limit:
            raise ServiceQuotaExceeded(
                f"The domain already runs {limit} speaker enrollment job(s), its quota; wait until one ends."
            )
        job_id, name = new_id(), request.get("JobName")
        jobs.insert_job(
            connection,
            job_id=job_id,
            kind=jobs.ENROLLMENT,
            domain_id=domain.domain_id,
            name_sealed=None if name is None else vault.seal("job name", job_id, name),
            role_arn=request["DataAccessRoleArn"],
            input_uri=request["InputDataConfig"]["S3Uri"],
            output_uri=output["S3Uri"],
            output_kms_key=output.get("KmsKeyId"),
            config=config,
            now=service.clock(),
        )
        token.keep(service, connection, job_id)
        return {"Job": _member(_require(connection, domain.domain_id, job_id), vault)}


def describe_speaker_enrollment_job(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        return {"Job": _member(_require(connection, domain.domain_id, request["JobId"]), vault)}


def list_speaker_enrollment_jobs(service: Service, caller: Caller, request: Request) -> Answer:
    """Newest first; `JobStatus` filters exactly."""
    status = request.get("JobStatus")
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        items, next_token = paged(
            service,
            request,
            ("ListSpeakerEnrollmentJobs", domain.domain_id, status or ""),
            lambda after, limit: jobs.page(
                connection, jobs.ENROLLMENT, domain.domain_id, status, after, limit
            ),
            lambda job: (job.created_at, job.job_id),
        )
        return {"JobSummaries": [_summary(job, vault) for job in items], "NextToken": next_token}


def _config(given: dict[str, Any], risk_threshold: int) -> dict[str, Any]:
    """What was sent, with the documented defaults filled in."""
    fraud = given.get("FraudDetectionConfig", {})
    return {
        "ExistingEnrollmentAction": given.get("ExistingEnrollmentAction", "SKIP"),
        "FraudDetectionConfig": {
            "FraudDetectionAction": fraud.get("FraudDetectionAction", "FAIL"),
            "RiskThreshold": fraud.get("RiskThreshold", risk_threshold),
            **({"WatchlistIds": fraud["WatchlistIds"]} if "WatchlistIds" in fraud else {}),
        },
    }


def _require(connection: Any, domain_id: str, job_id: str) -> jobs.Job:
    job = jobs.find(connection, jobs.ENROLLMENT, domain_id, job_id)
    if job is None:
        raise ResourceNotFound("BATCH_JOB", "The speaker enrollment job does not exist in this domain.")
    return job


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


def _member(job: jobs.Job, vault: Vault) -> dict[str, Any]:
    return {
        **_summary(job, vault),
        "DataAccessRoleArn": job.role_arn,
        "EnrollmentConfig": job.config,
        "InputDataConfig": {"S3Uri": job.input_uri},
        "OutputDataConfig": {"S3Uri": job.output_uri, "KmsKeyId": job.output_kms_key},
    }
