"""StopJob: ends a job of any type, wherever it is.

A runner renews its lease in each transaction that writes, and a job that has ended has none to renew: the
runner of a stopped job writes nothing more, and leaves the job at its next commit or renewal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection

from sonant.errors import ResourceNotFound
from sonant.events.documents import Event, batch_enrollment_event, batch_registration_event
from sonant.events.error_info import ErrorInfo
from sonant.jobs.result import describe_progress
from sonant.jobs.states import Event as Step
from sonant.jobs.states import Status, advance
from sonant.operations import jobs as shared
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.storage.repositories import jobs
from sonant.storage.repositories.domains import Domain

#: Status code of a job that was stopped: that of a conflict, since it was neither wrong nor a fault.
STOPPED_CODE = 409
STOPPED = "the job was stopped with StopJob"

_END_EVENTS: Mapping[str, Callable[[Domain, jobs.Job, str, ErrorInfo | None], Event]] = {
    jobs.ENROLLMENT: batch_enrollment_event,
    jobs.REGISTRATION: batch_registration_event,
}


@operation
def stop_job(service: Service, caller: Caller, request: Request) -> Answer:
    """End a job as FAILED; one that has ended, or that writes its result, stays as it is."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        job = _find(connection, domain.domain_id, request["JobId"])
        message, now = STOPPED + describe_progress(job), service.clock()
        if jobs.stop(connection, job.job_id, now, (STOPPED_CODE, message)):
            status = advance(Status(job.status), Step.FAIL)
            build = _END_EVENTS.get(job.kind)
            if build is not None:
                error = ErrorInfo.of_code(STOPPED_CODE, STOPPED)
                service.outbox.put(connection, [build(domain, job, status, error)], now)
        return {"Job": shared.summary(_find(connection, domain.domain_id, job.job_id), vault)}


def _find(connection: Connection, domain_id: str, job_id: str) -> jobs.Job:
    """Find a job of any type. Raises ResourceNotFound."""
    for kind in shared.CONFIG_MEMBER:
        job = jobs.find(connection, kind, domain_id, job_id)
        if job is not None:
            return job
    raise ResourceNotFound("BATCH_JOB", "The job does not exist in this domain.")
