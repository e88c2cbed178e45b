"""StartSpeakerEnrollmentJob, DescribeSpeakerEnrollmentJob, ListSpeakerEnrollmentJobs."""

from __future__ import annotations

from typing import Any

from sonant.events.documents import batch_enrollment_event
from sonant.operations import jobs as shared
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.storage.repositories import jobs

_START = shared.Start(
    operation="StartSpeakerEnrollmentJob",
    kind=jobs.ENROLLMENT,
    limit=lambda quotas: quotas.active_enrollment_jobs_per_domain,
    watchlist_ids=lambda config: config["FraudDetectionConfig"].get("WatchlistIds", []),
    event=batch_enrollment_event,
)


@operation
def start_speaker_enrollment_job(service: Service, caller: Caller, request: Request) -> Answer:
    """Store the job for a runner, which also checks manifest and role."""
    config = job_config(request.get("EnrollmentConfig", {}), service.settings.enrollment.risk_threshold)
    return shared.start(service, caller, request, _START, config)


@operation
def describe_speaker_enrollment_job(service: Service, caller: Caller, request: Request) -> Answer:
    return shared.describe(service, caller, request, jobs.ENROLLMENT)


@operation
def list_speaker_enrollment_jobs(service: Service, caller: Caller, request: Request) -> Answer:
    return shared.list_page(service, caller, request, jobs.ENROLLMENT, "ListSpeakerEnrollmentJobs")


def job_config(given: dict[str, Any], risk_threshold: int) -> dict[str, Any]:
    """Fill in the documented defaults of a request's configuration."""
    fraud = given.get("FraudDetectionConfig", {})
    return {
        "ExistingEnrollmentAction": given.get("ExistingEnrollmentAction", "SKIP"),
        "FraudDetectionConfig": {
            "FraudDetectionAction": fraud.get("FraudDetectionAction", "FAIL"),
            "RiskThreshold": fraud.get("RiskThreshold", risk_threshold),
            **({"WatchlistIds": fraud["WatchlistIds"]} if "WatchlistIds" in fraud else {}),
        },
    }
