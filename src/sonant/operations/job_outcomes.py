"""Sonant's own ListJobOutcomes: what became of a job's requests, and why they failed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from sonant.errors import (
    AccessDenied,
    BucketNotFound,
    InternalServer,
    KeyError_,
    ObjectDenied,
    ObjectNotFound,
    ResourceNotFound,
    StoreError,
    Validation,
    WireError,
)
from sonant.jobs.batch import open_lines
from sonant.jobs.entry import Role
from sonant.jobs.result import output_name
from sonant.jobs.result_reading import Outcome, outcomes_of, reason_of
from sonant.operations.paging import paged
from sonant.operations.registry import ExecutorKind, operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.schema import ACTIVE_STATUSES
from sonant.storage.objects.store import ObjectUri
from sonant.storage.repositories import access, jobs
from sonant.storage.repositories.domains import Domain

log = logging.getLogger(__name__)

#: Reasons that are listed, the most frequent first.
MOST_REASONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where a job's outcomes are: the database while it runs, its result file afterwards."""

    service: Service
    job: jobs.Job
    vault: Vault
    role: Role

    @property
    def result_uri(self) -> ObjectUri:
        manifest = ObjectUri.parse(self.job.input_uri)
        return ObjectUri.parse(self.job.output_uri).child(self.job.job_id, output_name(manifest.name))

    def outcomes(self, *, failed: bool) -> Iterator[Outcome]:
        """Yield the outcomes of one kind in manifest order, none of a job that has failed as a whole."""
        if self.job.status in ACTIVE_STATUSES:
            read, job_id = self.service.database.read, self.job.job_id
            lines = open_lines(self.vault, job_id, jobs.outcomes(read, job_id, failed=failed))
            yield from (Outcome.of_line(line) for _, line in lines)
        elif self.job.status != "FAILED":
            with self.service.objects_of(self.role).open(self.result_uri) as stream:
                yield from (one for one in outcomes_of(stream) if one.failed == failed)


@operation(executor=ExecutorKind.LONG)
def list_job_outcomes(service: Service, caller: Caller, request: Request) -> Answer:
    """List what became of a job's requests: of a running job those that are done, of one that has ended
    those in its result file, which is read with the rights of the job's role."""
    failed, wanted = request.get("Outcome", "FAILED") == "FAILED", request.get("Reason")
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        source = _source(service, connection, domain, vault, request["JobId"])
    job, reasons = source.job, Counter[tuple[int, str]]()

    def page(after: tuple[int, str] | None, limit: int) -> list[tuple[int, Outcome]]:
        first, shown = -1 if after is None else int(after[1]), list[tuple[int, Outcome]]()
        for number, outcome in enumerate(source.outcomes(failed=failed)):
            reason = reason_of(outcome.error_message or "")
            if failed:
                reasons[outcome.error_code or 0, reason] += 1
            if number > first and len(shown) < limit and wanted in (None, reason):
                shown.append((number, outcome))
            if len(shown) == limit and not failed:
                break  # nothing is counted of those that succeeded
        return shown

    scope = ("ListJobOutcomes", domain.domain_id, job.job_id, str(failed), wanted or "")
    try:
        items, next_token = paged(service, request, scope, page, lambda one: (job.created_at, str(one[0])))
    except StoreError as fault:
        raise _unreadable(fault) from None
    except ValueError:
        raise Validation("The job's result file is not the one that the job has written.") from None
    return {
        "JobStatus": job.status,
        "Requests": job.entries_total,
        "Done": job.entries_done,
        "Failed": job.entries_failed,
        "ResultS3Uri": None if job.status in (*ACTIVE_STATUSES, "FAILED") else str(source.result_uri),
        "Reasons": [
            {"ErrorCode": code, "Reason": text, "Requests": count}
            for (code, text), count in reasons.most_common(MOST_REASONS)
        ],
        "Outcomes": [_member(outcome) for _, outcome in items],
        "NextToken": next_token,
    }


def _source(service: Service, connection: Connection, domain: Domain, vault: Vault, job_id: str) -> _Source:
    """Find a job of any type. Raises ResourceNotFound."""
    kinds = (jobs.ENROLLMENT, jobs.REGISTRATION, jobs.DRY_RUN)
    found = (jobs.find(connection, kind, domain.domain_id, job_id) for kind in kinds)
    job = next((one for one in found if one is not None), None)
    if job is None:
        raise ResourceNotFound("BATCH_JOB", "The job does not exist in this domain.")
    role = Role(
        arn=job.role_arn,
        policies=access.policy_texts(connection, job.role_arn) or (),
        domain_arn=domain.arn,
        account_id=domain.account_id,
    )
    return _Source(service=service, job=job, vault=vault, role=role)


def _unreadable(fault: StoreError) -> WireError:
    if isinstance(fault, (ObjectNotFound, BucketNotFound)):
        return ResourceNotFound("BATCH_JOB", f"The job's result file is not there any more: {fault}")
    if isinstance(fault, (ObjectDenied, KeyError_)):
        return AccessDenied(
            f"The job's result file cannot be read: {fault}. Allow the job's role s3:GetObject on it, and "
            "kms:Decrypt where it is encrypted."
        )
    log.error("the result file of a job cannot be read: %s", fault)
    return InternalServer()


def _member(outcome: Outcome) -> dict[str, Any]:
    return {
        "RequestId": outcome.request_id,
        "SpeakerId": outcome.speaker_id,
        "GeneratedSpeakerId": outcome.generated_speaker_id,
        "GeneratedFraudsterId": outcome.generated_fraudster_id,
        "Status": outcome.status,
        "ErrorCode": outcome.error_code,
        "ErrorMessage": outcome.error_message,
        "Reason": None if outcome.error_message is None else reason_of(outcome.error_message),
        "Warnings": list(outcome.warnings) or None,
    }
