"""DescribeFraudsterRegistrationJob, ListFraudsterRegistrationJobs."""

from __future__ import annotations

from sonant.operations import jobs as shared
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.store.jobs import REGISTRATION


def describe_fraudster_registration_job(service: Service, caller: Caller, request: Request) -> Answer:
    return shared.describe(service, caller, request, REGISTRATION)


def list_fraudster_registration_jobs(service: Service, caller: Caller, request: Request) -> Answer:
    return shared.list_page(service, caller, request, REGISTRATION, "ListFraudsterRegistrationJobs")
