"""`sonant audit ...`: reads the audit trail's files, whether the service runs or not."""

from __future__ import annotations

import getpass
import heapq
import json
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click

from sonant.assembly import audit_trail
from sonant.assembly.installation import Store, audit_folders, open_store
from sonant.audit import chain, findings, removal
from sonant.audit.chain_keys import KEY_BYTES
from sonant.audit.key_files import new_kept_key, read_kept_key
from sonant.audit.verification import ChainReport
from sonant.cli.context import CliContext, Group, pass_cli
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.repositories import audit_chains

_kept_keys = click.option(
    "--key",
    "key_files",
    metavar="FILE",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A key of `sonant audit new-key`; the last lines must be sealed with one of those given.",
)

audit = Group("audit", help="Read, check and shorten the audit trail of all calls.")


@audit.command("verify")
@click.option("--head", metavar="HASH", help="A hash noted earlier, which must be in the chain.")
@_kept_keys
@click.option(
    "--elsewhere",
    is_flag=True,
    help="Other hosts have data folders of their own: do not miss their chains here.",
)
@pass_cli
def verify(cli: CliContext, head: str | None, key_files: tuple[Path, ...], elsewhere: bool) -> None:
    """Check every line of every chain; exits 1 for a fault, which it names.

    Lines are compared with the keys that seal them, with the counts in the database, and with the heads that
    were sent outside (`audit.heads_to`).
    """
    settings = cli.settings()
    with _opened(settings) as store:
        if not audit_folders(settings) and not _recorded(settings, store):
            raise _no_trail(settings)
        report = audit_trail.verify(
            settings,
            [read_kept_key(path) for path in key_files],
            store,
            expected=frozenset() if head is None else frozenset((head,)),
            elsewhere=elsewhere,
        )
    seen = head is None or head == chain.BEGINNING or any(head in one.hashes for one in report.reports)
    lines = [line for one in report.reports for line in _report_lines(one)]
    if not seen:
        lines.append(
            f"the hash {head} is not in it: lines were cut off at the end, or the trail was begun anew"
        )
    document: dict[str, Any] = {"Whole": report.whole, "Chains": [_report(one) for one in report.reports]}
    if report.destinations:
        document["ComparedWith"] = list(report.destinations)
    if head is not None:
        document["HeadFound"] = seen
    cli.show(document, lines)
    sys.exit(0 if report.whole and seen else 1)


@audit.command("new-key")
@click.argument("file", type=click.Path(path_type=Path))
@pass_cli
def new_key(cli: CliContext, file: Path) -> None:
    """Write a new key of the audit trail to FILE, to be kept off this machine.

    From the next start of the service and of runners on, lines are sealed with it. Nothing that stays on this
    machine can then compute the seals of lines written before, and `verify` needs --key FILE.
    """
    settings = cli.settings()
    store = open_store(settings, keys_may_lack=True)
    with closing(store.database):
        root = new_kept_key(file, settings.data, secrets.token_bytes(KEY_BYTES))
        audit_trail.audit_keys(settings, store.secret).use_kept_key(root)
    cli.show(
        {"KeyId": root.key_id, "File": str(file)},
        [
            f"{root.key_id} is in {file}; restart the service and its runners, which then seal with it",
            f"move {file} off this machine and delete it here: without it the trail can no longer be "
            "verified, with it the trail can be forged",
        ],
    )


@audit.command("remove")
@click.option(
    "--before", metavar="DAY", required=True, help="Remove files of days before this one, YYYY-MM-DD."
)
@click.option("--reason", required=True, help="Why, for the statement; such as the retention period.")
@_kept_keys
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_cli
def remove(cli: CliContext, before: str, reason: str, key_files: tuple[Path, ...], yes: bool) -> None:
    """Remove old files of the audit trail and leave a sealed statement of what they were.

    The service may run. The last file of a chain always stays, and so do statements. A trail with faults is
    left as it is.
    """
    day = _day(before)
    store = open_store(cli.settings(), keys_may_lack=True)
    by, kept_keys = getpass.getuser(), [read_kept_key(path) for path in key_files]
    with closing(store.database):
        found = audit_trail.remove_before(store, day, kept_keys, by=by, reason=reason, dry_run=True)
        count, lines = sum(len(one.paths) for one in found), sum(one.lines for one in found)
        if found:
            cli.confirm(f"This removes {lines} records of before {day}, in {count} files", yes=yes)
            audit_trail.remove_before(store, day, kept_keys, by=by, reason=reason, dry_run=False)
    document = {
        "Removed": [
            {
                "Folder": str(one.folder),
                "Files": [path.name for path in one.paths],
                "Lines": one.lines,
                "LastHash": one.last_hash,
            }
            for one in found
        ]
    }
    cli.show(
        document,
        f"{lines} records in {count} files were removed" if found else f"nothing is older than {day}",
    )


def _report(report: ChainReport) -> dict[str, Any]:
    """Describe what was found in one chain, for JSON."""
    document: dict[str, Any] = {
        "Folder": str(report.folder),
        "Whole": not report.faults,
        "Lines": report.lines,
        "SealedLines": report.sealed,
        "Files": report.files,
    }
    if report.faults:
        document["Faults"] = [
            {"Reason": fault.reason.value, "Message": fault.message}
            | ({"File": str(report.folder / fault.file), "Line": fault.line} if fault.file else {})
            for fault in report.faults
        ]
        broken = next((fault for fault in report.faults if fault.file), None)
        if broken is not None:
            document["Broken"] = {
                "File": str(report.folder / broken.file),
                "Line": broken.line,
                "Reason": broken.message,
            }
        return document
    document["Head"] = report.head
    if report.first_previous != chain.BEGINNING:
        document["FollowsHash"] = report.first_previous
    return document


def _report_lines(report: ChainReport) -> Iterator[str]:
    for fault in report.faults:
        what = f"{fault.reason}: {fault.message}"
        if fault.file:
            yield f"broken at {report.folder / fault.file}, line {fault.line}: {what}"
        else:
            yield f"{report.name} broken: {what}"
    if report.faults:
        yield f"{report.lines} lines of {report.name} were read, {report.sealed} of them are proven"
        return
    if not report.lines:
        yield f"{report.name} whole: no lines yet"
        return
    sealed = f"{report.sealed} sealed" if report.sealed else "chained only, as an earlier release wrote them"
    counts = f"{report.lines} lines in {report.files} files, {sealed}"
    yield f"{report.name} whole: {counts}, last hash {report.head}"
    if report.first_previous != chain.BEGINNING:
        yield f"the oldest file follows one that is not here; it must have ended with {report.first_previous}"


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
    if record["eventName"] == removal.EVENT_NAME:
        return _removal_text(record)
    if record["eventName"] == findings.RENEWAL:
        details, by = record["serviceEventDetails"], record["userIdentity"].get("userName", "the service")
        return (
            f"{record['eventTime']} {record['eventName']} by {by}{resource}: {details['status']}, "
            f"to version {details['version']} [{record['eventID']}]"
        )
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
        f"{record.get('errorCode', 'done')}{_summed(record)} [{record['requestID']}]"
    )


def _summed(record: Mapping[str, Any]) -> str:
    more = record.get("additionalEventData", {})
    if "summedCalls" not in more:
        return ""
    return f" ({more['summedCalls']} calls since {more['firstEventTime']})"


def _removal_text(record: Mapping[str, Any]) -> str:
    details, by = record[removal.DETAILS], record["userIdentity"].get("userName", "unknown")
    return (
        f"{record['eventTime']} {record['eventName']} by {by}: "
        f"{details['lines']} records of {details['chain']} up to {details['lastHash']} "
        f"({details['reason']}) [{record['eventID']}]"
    )


@contextmanager
def _opened(settings: Settings) -> Iterator[Store | None]:
    """Open the installation; None for a folder that has an audit trail and nothing else, such as a copy."""
    if settings.embedded and not (settings.data / "keys").exists() and audit_folders(settings):
        yield None
        return
    store = open_store(settings, keys_may_lack=True)
    with closing(store.database):
        yield store


def _recorded(settings: Settings, store: Store | None) -> bool:
    """Whether the database or the key files know of a trail."""
    if store is None:
        return False
    with store.database.read() as connection:
        found = audit_chains.list_recorded(connection, store.secret.audit_row_keys())
    return bool(found and found[0]) or bool(audit_trail.audit_keys(settings, store.secret).names())


def _no_trail(settings: Settings) -> SetupError:
    return SetupError(
        f"there is no audit trail in {settings.data / 'audit'}; name another data folder with --data"
    )


def _folders(settings: Settings) -> list[Path]:
    """List the folder of every chain. Raises SetupError when there is none."""
    folders = audit_folders(settings)
    if not folders:
        raise _no_trail(settings)
    return folders


def _day(text: str) -> str:
    """Read the day of --before. Raises SetupError."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise SetupError(f"--before is {text!r}, must be a day such as 2026-11-22") from None


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
