"""`sonant audit ...`: reads the audit trail's files, whether the service runs or not."""

from __future__ import annotations

import heapq
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sonant.assembly.installation import audit_folders
from sonant.audit import chain
from sonant.cli.context import CliContext, Group, pass_cli
from sonant.errors import SetupError
from sonant.settings import Settings

audit = Group("audit", help="Read and check the audit trail of all calls.")


@audit.command("verify")
@click.option("--head", metavar="HASH", help="A hash noted earlier, which must be in the chain.")
@pass_cli
def verify(cli: CliContext, head: str | None) -> None:
    """Check that in every chain each line follows from the one before; exits 1 when one does not."""
    verdicts = [(folder, chain.verify(folder, head)) for folder in _folders(cli.settings())]
    whole = all(verdict.broken is None for _, verdict in verdicts)
    seen = head is None or any(verdict.has_expected for _, verdict in verdicts)
    lines = [line for folder, verdict in verdicts for line in _verdict_lines(folder, verdict)]
    if not seen:
        lines.append(
            f"the hash {head} is not in it: lines were cut off at the end, or the trail was begun anew"
        )
    document: dict[str, Any] = {"Whole": whole, "Chains": [_verdict(*one) for one in verdicts]}
    if head is not None:
        document["HeadFound"] = seen
    cli.show(document, lines)
    sys.exit(0 if whole and seen else 1)


def _verdict(folder: Path, verdict: chain.Verification) -> dict[str, Any]:
    """Describe what was found in one chain, for JSON."""
    document: dict[str, Any] = {
        "Folder": str(folder),
        "Whole": verdict.broken is None,
        "Lines": verdict.lines,
        "Files": verdict.files,
    }
    if verdict.broken is not None:
        broken = verdict.broken
        document["Broken"] = {"File": str(folder / broken.file), "Line": broken.line, "Reason": broken.reason}
        return document
    document["Head"] = verdict.head
    if verdict.first_previous != chain.BEGINNING:
        document["FollowsHash"] = verdict.first_previous
    return document


def _verdict_lines(folder: Path, verdict: chain.Verification) -> Iterator[str]:
    if verdict.broken is not None:
        broken = verdict.broken
        yield f"broken at {folder / broken.file}, line {broken.line}: {broken.reason}"
        yield f"{verdict.lines} lines before it are whole"
        return
    yield (f"{folder.name} whole: {verdict.lines} lines in {verdict.files} files, last hash {verdict.head}")
    if verdict.first_previous != chain.BEGINNING:
        yield (
            f"the oldest file follows one that is not here; it must have ended with {verdict.first_previous}"
        )


@audit.command("show")
@click.option("--since", metavar="TIME", help="Not before this time, ISO 8601, UTC unless it has an offset.")
@click.option("--operation", help="Only calls of this operation.")
@click.option("--principal", help="Only calls of this ARN or access key id, or part of either.")
@click.option("--json", "json_lines", is_flag=True, help="Whole records as they are stored, one a line.")
@pass_cli
def show(
    cli: CliContext, since: str | None, operation: str | None, principal: str | None, json_lines: bool
) -> None:
    """Print calls, oldest first."""
    moment = _moment(since)
    chains = [
        chain.records(folder, since=moment, operation=operation, principal=principal)
        for folder in _folders(cli.settings())
    ]
    records = heapq.merge(*chains, key=lambda found: str(found[0]["eventTime"]))
    if json_lines:
        for _, line in records:
            sys.stdout.write(line.decode("utf-8", "replace"))
    elif cli.as_json:
        _write_array(record for record, _ in records)
    else:
        for record, _ in records:
            click.echo(_record_text(record))


def _write_array(records: Iterable[Mapping[str, Any]]) -> None:
    """Print records as one JSON document, without holding all of them at once."""
    separator = ""
    click.echo('{"Records": [', nl=False)
    for record in records:
        click.echo(f"{separator}\n  {json.dumps(record)}", nl=False)
        separator = ","
    click.echo("\n]}")


def _record_text(record: Mapping[str, Any]) -> str:
    resource = "".join(f" on {one['ARN']}" for one in record.get("resources", ()))
    if record["eventType"] == "AwsServiceEvent":
        details = record["serviceEventDetails"]
        result = details["fraudDetectionResult"]
        return (
            f"{record['eventTime']} {record['eventName']} by the service{resource}: {result['decision']} "
            f"{', '.join(result['reasons'])}, outcome {details['outcome']} "
            f"(request {details['requestNumber']} of job {details['jobId']}) [{record['eventID']}]"
        )
    caller = record["userIdentity"]
    return (
        f"{record['eventTime']} {record['eventName']} by {caller.get('arn', 'unknown')} "
        f"({caller.get('accessKeyId') or 'no key'}) from {record['sourceIPAddress']}{resource}: "
        f"{record.get('errorCode', 'done')} [{record['requestID']}]"
    )


def _folders(settings: Settings) -> list[Path]:
    """List the folder of every chain. Raises SetupError when there is none."""
    folders = audit_folders(settings)
    if not folders:
        raise SetupError(
            f"there is no audit trail in {settings.data / 'audit'}; name another data folder with --data"
        )
    return folders


def _moment(text: str | None) -> datetime | None:
    """Read the time of --since. Raises SetupError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SetupError(
            f"--since is {text!r}, must be a time such as 2026-11-22 or 2026-11-22T10:15"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
