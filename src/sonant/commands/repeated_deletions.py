"""`sonant domain repeat-deletions`: whom a restore brought back, and events tell to forget."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sonant.commands.common import client, refusals_told, show_progress
from sonant.errors import SetupError
from sonant.events.documents import FRAUDSTER, SPEAKER
from sonant.settings import Settings

#: Far longer than the events of one delivery to a webhook.
_MAX_LINE_BYTES = 64 << 20
_IDS = {SPEAKER: "generatedSpeakerId", FRAUDSTER: "generatedFraudsterId"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """Somebody whose last event is that nothing is to be known of the voice any more."""

    action: str
    """DELETE_SPEAKER, OPT_OUT_SPEAKER or DELETE_FRAUDSTER."""
    domain_id: str
    identifier: str
    """The generated id, which nobody else ever has."""


def repeat(settings: Settings, files: Sequence[Path], *, quiet: bool) -> None:
    """Ask the running service to do again what the events tell. Raises SetupError."""
    wanted = forgotten(document for file in files for document in _documents(file))
    done: Counter[str] = Counter()
    with refusals_told():
        service = client(settings)
        bar = click.progressbar(
            wanted, label="deleting again", hidden=not show_progress(quiet), file=sys.stderr
        )
        with bar as people:
            for one in people:
                done[one.action if _forget(service, one) else "absent"] += 1
    click.echo(
        f"{done['DELETE_SPEAKER']} speakers deleted, {done['OPT_OUT_SPEAKER']} opted out, "
        f"{done['DELETE_FRAUDSTER']} fraudsters deleted; {done['absent']} were not there"
    )


def forgotten(documents: Iterator[Mapping[str, Any]]) -> list[Forgotten]:
    """Who is to be forgotten, each once, by the times of the events.

    A deletion is final, since a generated id is never given again; an opt-out is not when an enrollment
    follows it. What is no event of a speaker or fraudster, or tells of a failure, says nothing.
    """
    last: dict[tuple[str, str], Forgotten] = {}
    for document in sorted(documents, key=lambda document: str(document.get("time", ""))):
        detail = document.get("detail")
        if not isinstance(detail, dict) or detail.get("status") != "SUCCESS":
            continue
        told = [
            detail.get(name) for name in ("action", "domainId", _IDS.get(str(document.get("detail-type"))))
        ]
        if not all(isinstance(text, str) and text for text in told):
            continue
        action, domain_id, identifier = map(str, told)
        person = (domain_id, identifier)
        if person not in last or not last[person].action.startswith("DELETE_"):
            last[person] = Forgotten(action=action, domain_id=domain_id, identifier=identifier)
    return [one for one in last.values() if one.action.startswith(("DELETE_", "OPT_OUT_"))]


def _forget(service: Any, one: Forgotten) -> bool:
    """Whether somebody was there to be forgotten."""
    try:
        if one.action == "DELETE_FRAUDSTER":
            service.delete_fraudster(DomainId=one.domain_id, FraudsterId=one.identifier)
        elif one.action == "DELETE_SPEAKER":
            service.delete_speaker(DomainId=one.domain_id, SpeakerId=one.identifier)
        else:
            service.opt_out_speaker(DomainId=one.domain_id, SpeakerId=one.identifier)
    except service.exceptions.ResourceNotFoundException:
        return False
    return True


def _documents(file: Path) -> Iterator[Mapping[str, Any]]:
    """The documents in a file. Raises SetupError for a line that holds none; a torn last one is left out."""
    try:
        with file.open("rb") as lines:
            number = 0
            while line := lines.readline(_MAX_LINE_BYTES):
                number += 1
                try:
                    found = json.loads(line) if line.strip() else []
                    documents = found if isinstance(found, list) else [found]
                    if not all(isinstance(document, dict) for document in documents):
                        raise ValueError("neither an object nor an array of them")
                except ValueError:
                    if not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES:
                        return
                    raise SetupError(f"{file}, line {number}: this is no event of Sonant's") from None
                yield from documents
    except OSError as fault:
        raise SetupError(f"{file} cannot be read: {fault.strerror}") from None
