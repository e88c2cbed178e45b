"""`sonant audit …`: works on the files alone, also while the service runs and when it does not start."""

from __future__ import annotations

import heapq
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from sonant.assembly.installation import audit_folders
from sonant.audit import chain
from sonant.errors import SetupError
from sonant.settings import Settings


def verify(settings: Settings, head: str | None) -> int:
    """0 when in every chain each line follows from the one before, and `head` was met in one; else 1."""
    verdicts = [(folder, chain.verify(folder, head)) for folder in _folders(settings)]
    whole = min(_tell(folder, verdict) for folder, verdict in verdicts)
    seen = head is None or any(verdict.has_expected for _, verdict in verdicts)
    if not seen:
        click.echo(
            f"the hash {head} is not in it: lines were cut off at the end, or the trail was begun anew"
        )
    return 0 if whole and seen else 1


def _tell(folder: Path, verdict: chain.Verification) -> bool:
    """Whether the chain is whole."""
    if verdict.broken is not None:
        broken = verdict.broken
        click.echo(f"broken at {folder / broken.file}, line {broken.line}: {broken.reason}")
        click.echo(f"{verdict.lines} lines before it are whole")
        return False
    counted = f"{verdict.lines} lines in {verdict.files} files"
    click.echo(f"{folder.name} whole: {counted}, last hash {verdict.head}")
    if verdict.first_previous != chain.BEGINNING:
        click.echo(
            f"the oldest file follows one that is not here; it must have ended with {verdict.first_previous}"
        )
    return True


def show(
    settings: Settings, since: str | None, operation: str | None, principal: str | None, *, as_json: bool
) -> None:
    moment = _moment(since)
    chains = [
        chain.records(folder, since=moment, operation=operation, principal=principal)
        for folder in _folders(settings)
    ]
    for told, line in heapq.merge(*chains, key=lambda found: str(found[0]["eventTime"])):
        if as_json:
            sys.stdout.write(line.decode("utf-8", "replace"))
            continue
        who = told["userIdentity"]
        resource = "".join(f" on {one['ARN']}" for one in told.get("resources", ()))
        if told["eventType"] == "AwsServiceEvent":
            details = told["serviceEventDetails"]
            found = details["fraudDetectionResult"]
            click.echo(
                f"{told['eventTime']} {told['eventName']} by the service{resource}: {found['decision']} "
                f"{', '.join(found['reasons'])}, outcome {details['outcome']} "
                f"(request {details['requestNumber']} of job {details['jobId']}) [{told['eventID']}]"
            )
            continue
        click.echo(
            f"{told['eventTime']} {told['eventName']} by {who.get('arn', 'unknown')} "
            f"({who.get('accessKeyId') or 'no key'}) from {told['sourceIPAddress']}{resource}: "
            f"{told.get('errorCode', 'done')} [{told['requestID']}]"
        )


def _folders(settings: Settings) -> list[Path]:
    """The folder of every chain. Raises SetupError when there is none."""
    found = audit_folders(settings)
    if not found:
        raise SetupError(
            f"there is no audit trail in {settings.data / 'audit'}; name another data folder with --data"
        )
    return found


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SetupError(
            f"--since is {text!r}, must be a time such as 2026-11-22 or 2026-11-22T10:15"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
