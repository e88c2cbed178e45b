"""`sonant domain repeat-deletions`: whom a restore brought back, and events tell to forget."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from sonant.cli.common import client, refusals_told, show_progress
from sonant.errors import SetupError
from sonant.events.documents import OWN_SOURCE, SOURCE
from sonant.retention.deletions import CutLine, Deletion, DeletionLog, Person, documents
from sonant.settings import Settings

Outcome = Literal["done", "absent", "refused", "no domain"]


def repeat(settings: Settings, files: Sequence[Path], *, profile: str, quiet: bool) -> bool:
    """Ask the running service to do again what the events tell; whether all of it is done.

    Raises SetupError for a file that holds no events, and when the service cannot be asked at all. What it
    refuses of one person is told, and the others' turn comes.
    """
    ends = _read(settings, files).deletions
    done: Counter[Deletion | Outcome] = Counter()
    left_in: Counter[tuple[str, str]] = Counter()
    with refusals_told():
        service = client(settings, profile=profile)
        bar = click.progressbar(
            ends.items(), label="deleting again", hidden=not show_progress(quiet), file=sys.stderr
        )
        with bar as people:
            for person, end in people:
                outcome = _forget(service, person, end)
                done[end if outcome == "done" else outcome] += 1
                if outcome == "no domain":
                    left_in[person.account, person.domain_id] += 1
    for (account, domain_id), number in sorted(left_in.items()):
        _say(
            f"domain {domain_id} of account {account} is not there for this access key, left in it: {number}"
        )
    if left_in:
        _say("another account's domains need a key of that account (`sonant access create --profile`)")
    left = done["refused"] + done["no domain"]
    click.echo(
        f"speakers deleted: {done[Deletion.DELETE_SPEAKER]}, opted out: {done[Deletion.OPT_OUT_SPEAKER]}, "
        f"fraudsters deleted: {done[Deletion.DELETE_FRAUDSTER]}, not there: {done['absent']}, left: {left}"
    )
    return not left


def _read(settings: Settings, files: Sequence[Path]) -> DeletionLog:
    """Whom all the files tell to forget; what of them was no help is told."""
    told = DeletionLog(sources=frozenset((SOURCE, OWN_SOURCE, settings.events.eventbridge_source)))
    for file in files:
        events, others = told.events, told.others
        for document in documents(file):
            if isinstance(document, CutLine):
                _say(f"{file}, line {document.line}: cut short; its events are not known")
            else:
                told.add(document)
        if told.others > others and told.events == events:
            raise SetupError(f"{file} holds no event of Sonant's")
        if told.others > others:
            _say(f"{file}: documents that are no events of Sonant's: {told.others - others}")
    return told


def _forget(service: Any, person: Person, end: Deletion) -> Outcome:
    """Ask for it. Raises what the client raises when nobody's turn could come, as without a connection."""
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
        told = fault.response["Error"]
        _say(f"{end.name} of {person.generated_id} in {person.domain_id}: {told['Code']}: {told['Message']}")
        return "refused"
    return "done"


def _say(text: str) -> None:
    click.echo(f"sonant: {text}", err=True)
