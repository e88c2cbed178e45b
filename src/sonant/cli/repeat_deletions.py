"""`sonant domain repeat-deletions`: deletes again what a restore brought back, as the events say."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from sonant.cli.context import CliContext, Command, pass_cli, yes_option
from sonant.cli.service_client import client, service_errors
from sonant.errors import SetupError
from sonant.events.documents import OWN_SOURCE, SOURCE
from sonant.retention.deletions import CutLine, Deletion, DeletionLog, Person, documents
from sonant.settings import Settings

Outcome = Literal["done", "absent", "refused", "no domain"]


@click.command("repeat-deletions", cls=Command)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option(
    "--profile",
    help="Profile of the data folder's credentials files to call with; each account needs its own "
    "[default: $AWS_PROFILE, else the administrator's].",
)
@yes_option
@pass_cli
def repeat_deletions(cli: CliContext, files: tuple[Path, ...], profile: str | None, yes: bool) -> None:
    """After a restore, repeat the deletions and opt-outs of the time since the backup.

    FILES are those of the event file sink, or hold what a webhook received, one document or array a line.
    Exits 0 when all is deleted, 1 when something is left. Doing it twice does no harm.
    """
    settings = cli.settings()
    deletions = _read(settings, files).deletions
    cli.confirm(f"This deletes or opts out {len(deletions)} speakers and fraudsters for good", yes=yes)
    done: Counter[Deletion | Outcome] = Counter()
    left_in_domain: Counter[tuple[str, str]] = Counter()
    with service_errors():
        service = client(settings, profile=profile)
        with cli.progress_bar(deletions.items(), label="deleting again") as people:
            for person, end in people:
                outcome = _forget(service, person, end)
                done[end if outcome == "done" else outcome] += 1
                if outcome == "no domain":
                    left_in_domain[person.account, person.domain_id] += 1
    for (account, domain_id), number in sorted(left_in_domain.items()):
        _warn(
            f"domain {domain_id} of account {account} is not there for this access key, left in it: {number}"
        )
    if left_in_domain:
        _warn("another account's domains need a key of that account (`sonant access create --profile`)")
    left = done["refused"] + done["no domain"]
    document = {
        "SpeakersDeleted": done[Deletion.DELETE_SPEAKER],
        "SpeakersOptedOut": done[Deletion.OPT_OUT_SPEAKER],
        "FraudstersDeleted": done[Deletion.DELETE_FRAUDSTER],
        "Absent": done["absent"],
        "Left": left,
    }
    cli.show(
        document,
        f"speakers deleted: {done[Deletion.DELETE_SPEAKER]}, opted out: {done[Deletion.OPT_OUT_SPEAKER]}, "
        f"fraudsters deleted: {done[Deletion.DELETE_FRAUDSTER]}, not there: {done['absent']}, left: {left}",
    )
    sys.exit(1 if left else 0)


def _read(settings: Settings, files: Sequence[Path]) -> DeletionLog:
    """Read the deletions of all files and warn of what cannot be used. Raises SetupError."""
    found = DeletionLog(sources=frozenset((SOURCE, OWN_SOURCE, settings.events.eventbridge_source)))
    for file in files:
        events, others = found.events, found.others
        for document in documents(file):
            if isinstance(document, CutLine):
                _warn(f"{file}, line {document.line}: cut short; its events are not known")
            else:
                found.add(document)
        if found.others > others and found.events == events:
            raise SetupError(f"{file} holds no event of Sonant's")
        if found.others > others:
            _warn(f"{file}: documents that are no events of Sonant's: {found.others - others}")
    return found


def _forget(service: Any, person: Person, end: Deletion) -> Outcome:
    """Repeat one deletion or opt-out; a refusal is printed, so that the others can go on.

    Raises what the client raises where no call can succeed, as without a connection.
    """
    domain = {"DomainId": person.domain_id}
    refusals = (
        service.exceptions.AccessDeniedException,
        service.exceptions.ConflictException,
        service.exceptions.InternalServerException,
        service.exceptions.ThrottlingException,
        service.exceptions.ValidationException,
    )
    try:
        if end is Deletion.DELETE_FRAUDSTER:
            service.delete_fraudster(**domain, FraudsterId=person.generated_id)
        elif end is Deletion.DELETE_SPEAKER:
            service.delete_speaker(**domain, SpeakerId=person.generated_id)
        else:
            service.opt_out_speaker(**domain, SpeakerId=person.generated_id)
    except service.exceptions.ResourceNotFoundException as fault:
        return "no domain" if fault.response.get("ResourceType") == "DOMAIN" else "absent"
    except refusals as fault:
        error = fault.response["Error"]
        _warn(
            f"{end.name} of {person.generated_id} in {person.domain_id}: {error['Code']}: {error['Message']}"
        )
        return "refused"
    return "done"


def _warn(text: str) -> None:
    click.echo(f"sonant: {text}", err=True)
