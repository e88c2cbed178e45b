"""`sonant job watch`: a job's progress until it ends, through the signed API."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from sonant.cli.common import client, show_progress
from sonant.errors import SetupError
from sonant.settings import Settings

#: Describing jobs allows two calls a second by default.
POLL_S = 0.6
_FINAL = ("COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED")
_EXIT_CODES = {"COMPLETED": 0, "COMPLETED_WITH_ERRORS": 3, "FAILED": 1}


def watch(settings: Settings, job_id: str, domain_id: str | None, *, quiet: bool) -> int:
    """Follow one job of either kind; the exit code says how it ended (0, 3 with errors, 1 failed)."""
    from botocore.exceptions import ParamValidationError

    service = client(settings)
    try:
        domain_id, describe = _find(service, job_id, domain_id)
        job = follow(describe, domain_id, job_id, label="done", quiet=quiet)
    except service.exceptions.ClientError as fault:
        raise SetupError(str(fault)) from None
    except ParamValidationError as fault:
        raise SetupError(" ".join(str(fault).split())) from None
    except Exception as fault:
        if type(fault).__module__.startswith("botocore."):
            raise SetupError(f"{fault}; is `sonant serve` running?") from None
        raise
    line = f"{job_id} {job['JobStatus']}"
    if "FailureDetails" in job:
        line += f": {job['FailureDetails']['StatusCode']} {job['FailureDetails']['Message']}"
    click.echo(line)
    return _EXIT_CODES[job["JobStatus"]]


def follow(
    describe: Callable[..., Any], domain_id: str, job_id: str, *, label: str, quiet: bool
) -> dict[str, Any]:
    """Describe a job until it ends, with a bar; returns the last description.

    `describe` is the client's method for the job's kind.
    """
    shown = 0
    bar = click.progressbar(length=100, label=label, hidden=not show_progress(quiet), file=sys.stderr)
    with bar:
        while True:
            job: dict[str, Any] = describe(DomainId=domain_id, JobId=job_id)["Job"]
            percent = job["JobProgress"]["PercentComplete"]
            bar.update(percent - shown)
            shown = percent
            if job["JobStatus"] in _FINAL:
                return job
            time.sleep(POLL_S)


def _find(service: Any, job_id: str, domain_id: str | None) -> tuple[str, Callable[..., Any]]:
    """The job's domain and the method that describes it. Raises SetupError when there is no such job."""
    kinds = (service.describe_speaker_enrollment_job, service.describe_fraudster_registration_job)
    domains: Iterable[str] = [domain_id] if domain_id is not None else _domains(service)
    for found in domains:
        for describe in kinds:
            try:
                describe(DomainId=found, JobId=job_id)
            except service.exceptions.ResourceNotFoundException:
                continue
            except service.exceptions.AccessDeniedException:
                if domain_id is not None:
                    raise
                continue  # a domain whose key is disabled hides no other
            return found, describe
    if domain_id is None:
        raise SetupError(f"no domain has a job {job_id}")
    raise SetupError(f"the domain {domain_id} has no job {job_id}")


def _domains(service: Any) -> Iterator[str]:
    for page in service.get_paginator("list_domains").paginate():
        for domain in page["DomainSummaries"]:
            yield str(domain["DomainId"])
