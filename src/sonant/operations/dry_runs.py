"""StartEnrollmentDryRun, DescribeEnrollmentDryRun, ListEnrollmentDryRuns."""

from __future__ import annotations

from typing import Any

from sonant.errors import ServiceQuotaExceeded
from sonant.ids import new_id
from sonant.operations import jobs as shared
from sonant.operations.enrollment_jobs import job_config
from sonant.operations.idempotency import client_token
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.watchlists import require_watchlist
from sonant.store import jobs
from sonant.store.vault import Vault

KIND = jobs.DRY_RUN


def start_enrollment_dry_run(service: Service, caller: Caller, request: Request) -> Answer:
    """Write the dry run down; a runner takes it from there, as it does a job."""
    output = request["OutputDataConfig"]
    config = job_config(request.get("EnrollmentConfig", {}), service.settings.enrollment.risk_threshold)
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        token = client_token(service, connection, caller, "StartEnrollmentDryRun", request)
        if token.found is not None:
            return {
                "Job": _member(shared.require_job(connection, KIND, domain.domain_id, token.found), vault)
            }
        for watchlist_id in config["FraudDetectionConfig"].get("WatchlistIds", []):
            require_watchlist(connection, domain.domain_id, watchlist_id)
        limit = service.settings.quotas.active_enrollment_jobs_per_domain
        if jobs.count_active(connection, KIND, domain.domain_id) >= limit:
            raise ServiceQuotaExceeded(
                f"The domain already has {limit} enrollment dry run(s) in work; wait until one ends."
            )
        job_id, name = new_id(), request.get("JobName")
        jobs.insert_job(
            connection,
            job_id=job_id,
            kind=KIND,
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
        return {"Job": _member(shared.require_job(connection, KIND, domain.domain_id, job_id), vault)}


def describe_enrollment_dry_run(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        job = shared.require_job(connection, KIND, domain.domain_id, request["JobId"])
        return {"Job": _member(job, vault)}


def list_enrollment_dry_runs(service: Service, caller: Caller, request: Request) -> Answer:
    return shared.list_page(service, caller, request, KIND, "ListEnrollmentDryRuns")


def _member(job: jobs.Job, vault: Vault) -> dict[str, Any]:
    """As an enrollment job, with what was counted so far."""
    found = shared.member(job, vault)
    if job.entries_total is not None:
        found["Summary"] = {
            "Requests": job.entries_total,
            "LikelyToSucceed": job.entries_done - job.entries_failed,
            "LikelyToFail": job.entries_failed,
        }
    return found
