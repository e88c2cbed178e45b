"""`sonant job ...`: follows a batch job until it ends, through the signed API."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from sonant.cli.context import CliContext, Group, pass_cli
from sonant.cli.service_client import client, service_errors
from sonant.errors import SetupError

#: Describing jobs allows two calls a second by default.
POLL_S = 0.6
#: Exit codes by the job's last status.
EXIT_CODES = {"COMPLETED": 0, "COMPLETED_WITH_ERRORS": 3, "FAILED": 1}

job = Group("job", help="Watch batch jobs.")


@job.command("watch")
@click.argument("job_id")
@click.option("--domain-id", help="The job's domain; found when not given.")
@pass_cli
def watch(cli: CliContext, job_id: str, domain_id: str | None) -> None:
    """Show a job's progress until it ends.

    Exits 0 when every request succeeded, 3 when some did not, 1 when the job failed.
    """
    service = client(cli.settings())
    with service_errors():
        domain_id, describe = _find(service, job_id, domain_id)
        last = follow(cli, describe, domain_id, job_id, label="done")
    line = f"{job_id} {last['JobStatus']}"
    if "FailureDetails" in last:
        line += f": {last['FailureDetails']['StatusCode']} {last['FailureDetails']['Message']}"
    cli.show({"Job": last}, line)
    sys.exit(EXIT_CODES[last["JobStatus"]])


def follow(
    cli: CliContext, describe: Callable[..., Any], domain_id: str, job_id: str, *, label: str
) -> dict[str, Any]:
    """Describe a job until it ends, with a progress bar; returns the last description.

    `describe` is the client's method for the job's type.
    """
    shown = 0
    with cli.progress_bar(length=100, label=label) as bar:
        while True:
            job: dict[str, Any] = describe(DomainId=domain_id, JobId=job_id)["Job"]
            percent = job["JobProgress"]["PercentComplete"]
            bar.update(percent - shown)
            shown = percent
            if job["JobStatus"] in EXIT_CODES:
                return job
            time.sleep(POLL_S)


def _find(service: Any, job_id: str, domain_id: str | None) -> tuple[str, Callable[..., Any]]:
    """Find the job's domain and the method that describes it. Raises SetupError when there is no such job."""
    methods = (service.describe_speaker_enrollment_job, service.describe_fraudster_registration_job)
    domains: Iterable[str] = [domain_id] if domain_id is not None else _domains(service)
    for candidate in domains:
        for describe in methods:
            try:
                describe(DomainId=candidate, JobId=job_id)
            except service.exceptions.ResourceNotFoundException:
                continue
            except service.exceptions.AccessDeniedException:
                if domain_id is not None:
                    raise
                continue  # a domain whose key is disabled must not hide the others
            return candidate, describe
    if domain_id is None:
        raise SetupError(f"no domain has a job {job_id}")
    raise SetupError(f"the domain {domain_id} has no job {job_id}")


def _domains(service: Any) -> Iterator[str]:
    for page in service.get_paginator("list_domains").paginate():
        for domain in page["DomainSummaries"]:
            yield str(domain["DomainId"])
