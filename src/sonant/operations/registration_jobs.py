"""StartFraudsterRegistrationJob, DescribeFraudsterRegistrationJob, ListFraudsterRegistrationJobs."""

from __future__ import annotations

from typing import Any

from sonant.events.documents import batch_registration_event
from sonant.operations import jobs as shared
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.settings import Settings
from sonant.storage.repositories.jobs import REGISTRATION

_START = shared.Start(
    operation="StartFraudsterRegistrationJob",
    kind=REGISTRATION,
    limit=lambda quotas: quotas.active_registration_jobs_per_domain,
    watchlist_ids=lambda config: config.get("WatchlistIds", []),
    event=batch_registration_event,
)


@operation
def start_fraudster_registration_job(service: Service, caller: Caller, request: Request) -> Answer:
    """Store the job for a runner, which also checks manifest and role."""
    config = _config(request.get("RegistrationConfig", {}), service.settings)
    return shared.start(service, caller, request, _START, config)


@operation
def describe_fraudster_registration_job(service: Service, caller: Caller, request: Request) -> Answer:
    return shared.describe(service, caller, request, REGISTRATION)


@operation
def list_fraudster_registration_jobs(service: Service, caller: Caller, request: Request) -> Answer:
    return shared.list_page(service, caller, request, REGISTRATION, "ListFraudsterRegistrationJobs")


def _config(given: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Fill in the documented defaults of a request's configuration."""
    threshold = settings.registration.similarity_threshold
    return {
        "DuplicateRegistrationAction": given.get("DuplicateRegistrationAction", "SKIP"),
        "FraudsterSimilarityThreshold": given.get("FraudsterSimilarityThreshold", threshold),
        **({"WatchlistIds": given["WatchlistIds"]} if "WatchlistIds" in given else {}),
    }
