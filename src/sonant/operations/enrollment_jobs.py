"""StartSpeakerEnrollmentJob, DescribeSpeakerEnrollmentJob, ListSpeakerEnrollmentJobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from sonant.errors import ServiceQuotaExceeded
from sonant.events.documents import batch_enrollment_event
from sonant.ids import new_id
from sonant.operations import jobs as shared
from sonant.operations.idempotency import client_token
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.watchlists import require_watchlist
from sonant.store import jobs
from sonant.store.vault import Vault


def start_speaker_enrollment_job(service: Service, caller: Caller, request: Request) -> Answer:
    """Write the job down; a runner takes it from there. Manifest and role are looked at by the runner."""
    output = request["OutputDataConfig"]
    config = _config(request.get("EnrollmentConfig", {}), service.settings.enrollment.risk_threshold)
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        token = client_token(service, connection, caller, "StartSpeakerEnrollmentJob", request)
        if token.found is not None:
            return {"Job": _job(connection, domain.domain_id, token.found, vault)}
        for watchlist_id in config["FraudDetectionConfig"].get("WatchlistIds", []):
            require_watchlist(connection, domain.domain_id, watchlist_id)
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
        job = shared.require_job(connection, jobs.ENROLLMENT, domain.domain_id, job_id)
        told = batch_enrollment_event(domain, job, "SUBMITTED")
        service.outbox.put(connection, [told], service.clock())
        return {"Job": shared.member(job, vault)}


def describe_speaker_enrollment_job(service: Service, caller: Caller, request: Request) -> Answer:
    return shared.describe(service, caller, request, jobs.ENROLLMENT)


def list_speaker_enrollment_jobs(service: Service, caller: Caller, request: Request) -> Answer:
    return shared.list_page(service, caller, request, jobs.ENROLLMENT, "ListSpeakerEnrollmentJobs")


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


def _job(connection: Connection, domain_id: str, job_id: str, vault: Vault) -> dict[str, Any]:
    return shared.member(shared.require_job(connection, jobs.ENROLLMENT, domain_id, job_id), vault)
