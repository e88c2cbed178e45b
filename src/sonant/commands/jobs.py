"""`sonant job watch`: a job's progress until it ends, through the signed API."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from sonant.commands.common import client, show_progress
from sonant.errors import SetupError
from sonant.settings import Settings

#: DescribeSpeakerEnrollmentJob allows two calls a second by default.
POLL_S = 0.6
_FINAL = ("COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED")
_EXIT_CODES = {"COMPLETED": 0, "COMPLETED_WITH_ERRORS": 3, "FAILED": 1}


def watch(settings: Settings, job_id: str, domain_id: str | None, *, quiet: bool) -> int:
    """Follow one enrollment job; the exit code says how it ended (0, 3 with errors, 1 failed)."""
    from botocore.exceptions import ParamValidationError

    service = client(settings)
    try:
        if domain_id is None:
            domain_id = _domain_of(service, job_id)
        job = follow(service, domain_id, job_id, quiet=quiet)
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


def follow(service: Any, domain_id: str, job_id: str, *, quiet: bool) -> dict[str, Any]:
    """Describe a job until it ends, with a bar; returns the last description."""
    shown = 0
    bar = click.progressbar(length=100, label="enrolling", hidden=not show_progress(quiet), file=sys.stderr)
    with bar:
        while True:
            job: dict[str, Any] = service.describe_speaker_enrollment_job(DomainId=domain_id, JobId=job_id)[
                "Job"
            ]
            percent = job["JobProgress"]["PercentComplete"]
            bar.update(percent - shown)
            shown = percent
            if job["JobStatus"] in _FINAL:
                return job
            time.sleep(POLL_S)


def _domain_of(service: Any, job_id: str) -> str:
    for page in service.get_paginator("list_domains").paginate():
        for domain in page["DomainSummaries"]:
            try:
                service.describe_speaker_enrollment_job(DomainId=domain["DomainId"], JobId=job_id)
            except (
                service.exceptions.ResourceNotFoundException,
                service.exceptions.AccessDeniedException,  # a domain whose key is disabled hides no other
            ):
                continue
            return str(domain["DomainId"])
    raise SetupError(f"no domain has a speaker enrollment job {job_id}")
