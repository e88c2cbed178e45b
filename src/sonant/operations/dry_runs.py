"""StartEnrollmentDryRun, DescribeEnrollmentDryRun, ListEnrollmentDryRuns."""

from __future__ import annotations

from typing import Any

from sonant.operations import jobs as shared
from sonant.operations.enrollment_jobs import job_config
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service, require_tight
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import jobs
from sonant.storage.repositories.domains import Domain

KIND = jobs.DRY_RUN


def _require_tight(service: Service, caller: Caller, domain: Domain, config: dict[str, Any]) -> None:
    settings = service.settings
    least = min(settings.scores.least_risk_threshold, settings.enrollment.risk_threshold)
    threshold = config["FraudDetectionConfig"]["RiskThreshold"]
    require_tight(caller, domain, "RiskThreshold", threshold, least)


_START = shared.Start(
    operation="StartEnrollmentDryRun",
    kind=KIND,
    limit=lambda quotas: quotas.active_enrollment_jobs_per_domain,
    watchlist_ids=lambda config: config["FraudDetectionConfig"].get("WatchlistIds", []),
    event=None,
    least=_require_tight,
)


@operation
def start_enrollment_dry_run(service: Service, caller: Caller, request: Request) -> Answer:
    """Store the dry run for a runner, as a job."""
    config = job_config(request.get("EnrollmentConfig", {}), service.settings.enrollment.risk_threshold)
    return shared.start(service, caller, request, _START, config)


@operation
def describe_enrollment_dry_run(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        job = shared.require_job(connection, KIND, domain.domain_id, request["JobId"])
        return {"Job": _member(job, vault)}


@operation
def list_enrollment_dry_runs(service: Service, caller: Caller, request: Request) -> Answer:
    return shared.list_page(service, caller, request, KIND, "ListEnrollmentDryRuns")


def _member(job: jobs.Job, vault: Vault) -> dict[str, Any]:
    """Describe a dry run as an enrollment job, with its counts so far."""
    found = shared.member(job, vault)
    if job.entries_total is not None:
        found["Summary"] = {
            "Requests": job.entries_total,
            "LikelyToSucceed": job.entries_done - job.entries_failed,
            "LikelyToFail": job.entries_failed,
        }
    return found
