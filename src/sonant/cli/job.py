"""`sonant job ...`: lists, starts, follows, stops and repeats batch jobs, through the signed API."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sonant.assembly.installation import role_arn
from sonant.cli.context import CliContext, Group, pass_cli, shown, table, yes_option
from sonant.cli.domain_client import DomainClient, domain_option
from sonant.cli.job_results import (
    as_csv,
    manifest_of,
    read_errors,
    read_json,
    reasons,
    result_uri,
    write_json,
)
from sonant.cli.job_types import TYPES, FoundJob, find_job
from sonant.cli.service_client import service_errors
from sonant.errors import SetupError
from sonant.storage.objects.store import ObjectUri

#: Describing jobs allows two calls a second by default.
POLL_S = 0.6
#: Exit codes by the job's last status.
EXIT_CODES = {"COMPLETED": 0, "COMPLETED_WITH_ERRORS": 3, "FAILED": 1}
#: Reasons that `watch` lists.
_MOST_REASONS = 10

job = Group("job", help="Start, list, watch, stop and repeat batch jobs.")

_domain_id_option = click.option("--domain-id", help="The job's domain; found when not given.")
_type_option = click.option(
    "--type", "type_name", type=click.Choice(list(TYPES)), help="Jobs of this type alone."
)


@job.command("list")
@domain_option
@_type_option
@click.option("--status", help="Jobs with this status alone, such as IN_PROGRESS.")
@pass_cli
def list_jobs(cli: CliContext, domain_id: str | None, type_name: str | None, status: str | None) -> None:
    """List the jobs of a domain, the newest first."""
    domain = DomainClient(cli.settings(), domain_id)
    more = {} if status is None else {"JobStatus": status}
    found: list[dict[str, Any]] = []
    with service_errors():
        for name in TYPES if type_name is None else (type_name,):
            pages = domain.pages(
                f"list_{TYPES[name].noun}s", "JobSummaries", DomainId=domain.domain_id, **more
            )
            found += [{"Type": name, **one} for one in pages]
    found.sort(key=lambda one: one["CreatedAt"], reverse=True)
    rows = [
        (
            one["JobId"],
            one["Type"],
            one["JobStatus"],
            f"{one['JobProgress']['PercentComplete']} %",
            f"{one['CreatedAt']:%Y-%m-%d %H:%M:%S}",
            f"{one['EndedAt']:%Y-%m-%d %H:%M:%S}" if "EndedAt" in one else "-",
            one.get("JobName", "-"),
        )
        for one in found
    ]
    text = table(rows, ("JOB", "TYPE", "STATUS", "DONE", "CREATED (UTC)", "ENDED", "NAME"))
    cli.show({"Jobs": found}, text if rows else "no jobs")


@job.command("start")
@click.argument("manifest_uri", metavar="MANIFEST")
@click.argument("output_uri", metavar="OUTPUT")
@domain_option
@click.option("--type", "type_name", type=click.Choice(list(TYPES)), default="enrollment", show_default=True)
@click.option("--role", metavar="ARN", help="Read and write as this role [default: the first role].")
@click.option("--name", help="Name of the job.")
@click.option(
    "--existing",
    type=click.Choice(("SKIP", "OVERWRITE", "REGISTER_AS_NEW")),
    help="What to do with speakers who are enrolled, or fraudsters who are known, already [default: SKIP].",
)
@click.option("--fraud-action", type=click.Choice(("FAIL", "IGNORE")), help="What to do with risky voices.")
@click.option("--risk-threshold", type=click.IntRange(0, 100), help="From this risk on a voice is risky.")
@click.option("--watchlist", metavar="ID", help="Compare with, or register on, this watchlist.")
@click.option("--kms-key", metavar="KEY", help="Encrypt the result under this key.")
@click.option("--watch", "follow_it", is_flag=True, help="Follow the job until it ends.")
@pass_cli
def start(cli: CliContext, /, domain_id: str | None, follow_it: bool, **given: Any) -> None:
    """Start a job on MANIFEST, whose result goes under OUTPUT; both are s3:// URIs."""
    domain = DomainClient(cli.settings(), domain_id)
    members: dict[str, Any] = {
        "DataAccessRoleArn": given["role"] or role_arn(domain.settings),
        "InputDataConfig": {"S3Uri": given["manifest_uri"]},
        "OutputDataConfig": {"S3Uri": given["output_uri"]},
    }
    if given["kms_key"]:
        members["OutputDataConfig"]["KmsKeyId"] = given["kms_key"]
    if given["name"]:
        members["JobName"] = given["name"]
    config = _config(**given)
    if config:
        members[TYPES[given["type_name"]].config] = config
    _begin(cli, domain, given["type_name"], members, follow_it=follow_it)


@job.command("watch")
@click.argument("job_id")
@_domain_id_option
@pass_cli
def watch(cli: CliContext, job_id: str, domain_id: str | None) -> None:
    """Show a job's progress until it ends, and then what became of its requests.

    Exits 0 when every request succeeded, 3 when some did not, 1 when the job failed.
    """
    domain = DomainClient(cli.settings())
    with service_errors():
        found = find_job(domain, job_id, domain_id)
    _watch(cli, domain, found)


@job.command("errors")
@click.argument("job_id")
@_domain_id_option
@click.option("--csv", "as_table", is_flag=True, help="Print CSV, for a spreadsheet.")
@pass_cli
def errors(cli: CliContext, job_id: str, domain_id: str | None, as_table: bool) -> None:
    """List the requests of a job that failed, each with its reason; reads the result file."""
    domain, found, described = _described(cli, job_id, domain_id)
    failed = read_errors(domain.settings, found, described)
    if as_table and not cli.as_json:
        click.echo(as_csv(failed), nl=False)
        return
    rows = [(shown(one["RequestId"]), one["ErrorCode"], shown(one["ErrorMessage"])) for one in failed]
    text = table(rows, ("REQUEST", "CODE", "REASON"))
    cli.show({"JobId": job_id, "Errors": failed}, text if rows else "no request failed")


@job.command("manifest-of-failed")
@click.argument("job_id")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@_domain_id_option
@pass_cli
def manifest_of_failed(cli: CliContext, job_id: str, file: Path | None, domain_id: str | None) -> None:
    """Write a manifest with the requests of a job that failed, to FILE or standard output."""
    domain, found, described = _described(cli, job_id, domain_id)
    document = _failed_requests(domain, found, described)
    text = json.dumps(document, indent=1) + "\n"
    if file is None:
        click.echo(text, nl=False)
        return
    if file.exists():
        raise SetupError(f"{file} exists already; choose another name")
    file.write_text(text, "utf-8")
    count = len(document[found.calls.requests])
    cli.show({"File": str(file), "Requests": count}, f"{count} requests written to {file}")


@job.command("retry")
@click.argument("job_id")
@_domain_id_option
@click.option("--watch", "follow_it", is_flag=True, help="Follow the new job until it ends.")
@pass_cli
def retry(cli: CliContext, job_id: str, domain_id: str | None, follow_it: bool) -> None:
    """Start a job of the same configuration with the requests of JOB_ID that failed.

    A job that failed as a whole is started again with its whole manifest: unless it overwrites, what it did
    before is skipped.
    """
    domain, found, described = _described(cli, job_id, domain_id)
    calls = found.calls
    members = {
        name: described[name]
        for name in ("DataAccessRoleArn", "InputDataConfig", "OutputDataConfig", calls.config, "JobName")
        if name in described
    }
    if described["JobStatus"] != "FAILED":
        document = _failed_requests(domain, found, described)
        name = f"{result_uri(described).name.removesuffix('.out')}.failed-{secrets.token_hex(4)}.json"
        target = ObjectUri.parse(described["OutputDataConfig"]["S3Uri"]).child(job_id, name)
        write_json(domain.settings, described, target, document)
        members["InputDataConfig"] = {"S3Uri": str(target)}
    named = DomainClient(domain.settings, found.domain_id)
    _begin(cli, named, found.type_name, members, follow_it=follow_it)


@job.command("cancel")
@click.argument("job_id")
@_domain_id_option
@yes_option
@pass_cli
def cancel(cli: CliContext, job_id: str, domain_id: str | None, yes: bool) -> None:
    """Stop a job: it ends as FAILED without a result file; what it enrolled before stays."""
    domain = DomainClient(cli.settings())
    with service_errors():
        found = find_job(domain, job_id, domain_id)
    cli.confirm(f"This stops job {job_id}, which then has no result file", yes=yes)
    with service_errors():
        stopped = domain.own.stop_job(DomainId=found.domain_id, JobId=job_id)["Job"]
    cli.show({"Job": stopped}, _status_line(stopped))


def follow(
    cli: CliContext, describe: Callable[..., Any], domain_id: str, job_id: str, *, label: str
) -> dict[str, Any]:
    """Describe a job until it ends, with a progress bar; returns the last description.

    `describe` is the client's method for the job's type.
    """
    before = 0
    with cli.progress_bar(length=100, label=label) as bar:
        while True:
            job: dict[str, Any] = describe(DomainId=domain_id, JobId=job_id)["Job"]
            percent = job["JobProgress"]["PercentComplete"]
            bar.update(percent - before)
            before = percent
            if job["JobStatus"] in EXIT_CODES:
                return job
            time.sleep(POLL_S)


def _watch(cli: CliContext, domain: DomainClient, found: FoundJob) -> None:
    """Follow a job and print its end; exits by its status."""
    with service_errors():
        describe = getattr(found.service, f"describe_{found.calls.noun}")
        last = follow(cli, describe, found.domain_id, found.job_id, label="done")
    document, lines = {"Job": last}, [_status_line(last)]
    if last["JobStatus"] != "FAILED":
        more, told = _end(domain, found, last)
        document |= more
        lines += told
    cli.show(document, lines)
    sys.exit(EXIT_CODES[last["JobStatus"]])


def _end(domain: DomainClient, found: FoundJob, last: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Describe the end of a job that has a result file: as members of the document, and as lines."""
    uri = result_uri(last)
    lines = [f"result: {uri.shown}"]
    if last["JobStatus"] == "COMPLETED":
        return {"ResultUri": str(uri)}, lines
    try:
        failed = read_errors(domain.settings, found, last)
    except SetupError as fault:
        return {"ResultUri": str(uri)}, [*lines, str(fault)]
    found_reasons = reasons(failed)
    lines.append(f"{len(failed):,} requests failed (`sonant job errors {found.job_id}` lists them):")
    lines += [f"  {count:>6,}  {code} {shown(text)}" for count, code, text in found_reasons[:_MOST_REASONS]]
    if len(found_reasons) > _MOST_REASONS:
        lines.append(f"  and {len(found_reasons) - _MOST_REASONS} more reasons")
    counted = [{"Count": count, "Code": code, "Reason": text} for count, code, text in found_reasons]
    return {"ResultUri": str(uri), "Failed": len(failed), "Reasons": counted}, lines


def _begin(
    cli: CliContext, domain: DomainClient, type_name: str, members: dict[str, Any], *, follow_it: bool
) -> None:
    """Start a job, print its id, and follow it if that is asked for."""
    calls = TYPES[type_name]
    service = domain.own if calls.own else domain.voice_id
    with service_errors():
        started = getattr(service, f"start_{calls.noun}")(DomainId=domain.domain_id, **members)["Job"]
    found = FoundJob(
        domain_id=domain.domain_id, job_id=started["JobId"], type_name=type_name, service=service
    )
    if not follow_it:
        cli.show({"Job": started}, f"{found.job_id} (`sonant job watch {found.job_id}` follows it)")
        return
    cli.report(found.job_id)
    _watch(cli, domain, found)


def _described(
    cli: CliContext, job_id: str, domain_id: str | None
) -> tuple[DomainClient, FoundJob, dict[str, Any]]:
    domain = DomainClient(cli.settings())
    with service_errors():
        found = find_job(domain, job_id, domain_id)
        return domain, found, found.describe()


def _failed_requests(domain: DomainClient, found: FoundJob, described: dict[str, Any]) -> dict[str, Any]:
    """Build a manifest of the requests that failed. Raises SetupError when none did."""
    failed = [str(one["RequestId"]) for one in read_errors(domain.settings, found, described)]
    if not failed:
        raise SetupError(f"no request of job {found.job_id} failed")
    manifest = read_json(domain.settings, described, ObjectUri.parse(described["InputDataConfig"]["S3Uri"]))
    return manifest_of(manifest, found.calls.requests, failed)


def _config(*, type_name: str, **given: Any) -> dict[str, Any]:
    """Build the configuration of a job from options; what is not given is left to the service."""
    if type_name == "registration":
        own = {
            "DuplicateRegistrationAction": given["existing"],
            "FraudsterSimilarityThreshold": given["risk_threshold"],
            "WatchlistIds": given["watchlist"] and [given["watchlist"]],
        }
        return {name: value for name, value in own.items() if value is not None}
    fraud = {
        "FraudDetectionAction": given["fraud_action"],
        "RiskThreshold": given["risk_threshold"],
        "WatchlistIds": given["watchlist"] and [given["watchlist"]],
    }
    fraud = {name: value for name, value in fraud.items() if value is not None}
    config = {"ExistingEnrollmentAction": given["existing"], "FraudDetectionConfig": fraud or None}
    return {name: value for name, value in config.items() if value is not None}


def _status_line(described: dict[str, Any]) -> str:
    line = f"{described['JobId']} {described['JobStatus']}"
    if "FailureDetails" in described:
        line += f": {described['FailureDetails']['StatusCode']} {described['FailureDetails']['Message']}"
    return line
