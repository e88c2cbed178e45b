"""The types of jobs for commands: how each is called, and the job that an id names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sonant.cli.domain_client import DomainClient
from sonant.errors import SetupError


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCalls:
    """Names of the calls and members of a type of job."""

    own: bool
    """Whether its operations are Sonant's own."""
    noun: str
    """As in the client's methods `describe_<noun>`."""
    config: str
    """The member with its configuration."""
    successes: str
    """The member of its result file that lists what succeeded."""
    requests: str
    """The member of its manifest that lists the requests."""


TYPES: Mapping[str, JobCalls] = {
    "enrollment": JobCalls(
        own=False,
        noun="speaker_enrollment_job",
        config="EnrollmentConfig",
        successes="SuccessfulEnrollments",
        requests="SpeakerEnrollmentRequests",
    ),
    "registration": JobCalls(
        own=False,
        noun="fraudster_registration_job",
        config="RegistrationConfig",
        successes="SuccessfulRegistrations",
        requests="FraudsterRegistrationRequests",
    ),
    "dry-run": JobCalls(
        own=True,
        noun="enrollment_dry_run",
        config="EnrollmentConfig",
        successes="Requests",
        requests="SpeakerEnrollmentRequests",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundJob:
    """A job that the service knows: where it is, and its type."""

    domain_id: str
    job_id: str
    type_name: str
    service: Any
    """The client that has the operations of its type."""

    @property
    def calls(self) -> JobCalls:
        """The calls of its type."""
        return TYPES[self.type_name]

    def describe(self) -> dict[str, Any]:
        """Ask the service for the job as it is now."""
        method = getattr(self.service, f"describe_{self.calls.noun}")
        found: dict[str, Any] = method(DomainId=self.domain_id, JobId=self.job_id)["Job"]
        return found


def find_job(domain: DomainClient, job_id: str, domain_id: str | None) -> FoundJob:
    """Find a job's domain and type. Raises SetupError when there is no such job, and the client's errors."""
    for candidate in [domain_id] if domain_id is not None else _domains(domain):
        for type_name, calls in TYPES.items():
            service = domain.own if calls.own else domain.voice_id
            found = FoundJob(domain_id=candidate, job_id=job_id, type_name=type_name, service=service)
            try:
                found.describe()
            except service.exceptions.ResourceNotFoundException:
                continue
            except service.exceptions.AccessDeniedException:
                if domain_id is not None and not calls.own:
                    raise
                continue  # a domain whose key is disabled must not hide the others
            return found
    if domain_id is None:
        raise SetupError(f"no domain has a job {job_id}")
    raise SetupError(f"the domain {domain_id} has no job {job_id}")


def _domains(domain: DomainClient) -> list[str]:
    """List the domains, the newest first: each is asked for the job, as often as the rate of calls allows."""
    found = domain.pages("list_domains", "DomainSummaries")
    return [str(one["DomainId"]) for one in sorted(found, key=lambda one: one["CreatedAt"], reverse=True)]
