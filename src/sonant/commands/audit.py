"""`sonant audit …`: works on the files alone, also while the service runs and when it does not start."""

from __future__ import annotations

import heapq
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from sonant.errors import SetupError
from sonant.events import audit_chain
from sonant.events.audit_findings import FOLDER
from sonant.installation import audit_folder
from sonant.settings import Settings


def verify(settings: Settings, head: str | None) -> int:
    """0 when every line follows from the one before and `head` was met; else 1."""
    folder = _folder(settings)
    whole, seen = True, head is None
    for chain, told in ((folder, "calls"), (folder / FOLDER, "jobs")):
        if chain.is_dir():
            verdict = audit_chain.verify(chain, head)
            whole = _tell(chain, told, verdict) and whole
            seen = seen or verdict.saw_expected
    if not seen:
        click.echo(
            f"the hash {head} is not in it: lines were cut off at the end, or the trail was begun anew"
        )
    return 0 if whole and seen else 1


def _tell(folder: Path, told: str, verdict: audit_chain.Verdict) -> bool:
    """Whether the chain is whole."""
    if verdict.broken is not None:
        broken = verdict.broken
        click.echo(f"broken at {folder / broken.file}, line {broken.line}: {broken.why}")
        click.echo(f"{verdict.lines} lines before it are whole")
        return False
    click.echo(f"{told} whole: {verdict.lines} lines in {verdict.files} files, last hash {verdict.head}")
    if verdict.first_previous != audit_chain.BEGINNING:
        click.echo(
            f"the oldest file follows one that is not here; it must have ended with {verdict.first_previous}"
        )
    return True


def show(
    settings: Settings, since: str | None, operation: str | None, principal: str | None, *, as_json: bool
) -> None:
    folder, moment = _folder(settings), _moment(since)
    chains = [
        audit_chain.records(chain, since=moment, operation=operation, principal=principal)
        for chain in (folder, folder / FOLDER)
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


def _folder(settings: Settings) -> Path:
    folder = audit_folder(settings)
    if not folder.is_dir():
        raise SetupError(f"there is no audit trail in {folder}; name another data folder with --data")
    return folder


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
