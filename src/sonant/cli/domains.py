"""`sonant domain …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sonant.cli.common import client, refusals_told, show_progress
from sonant.errors import SetupError
from sonant.settings import Settings

#: ImportOptOuts takes this many ids a call.
_BATCH = 1000


def restore(settings: Settings, domain_id: str) -> None:
    with refusals_told():
        domain = client(settings, "sonant").restore_domain(DomainId=domain_id)["Domain"]
    click.echo(f"{domain['DomainId']} is {domain['DomainStatus']}")


def import_opt_outs(settings: Settings, domain_id: str, file: Path, *, quiet: bool) -> None:
    """Raises SetupError when the file is not the output of `list-speakers`."""
    ids = _opted_out(file)
    changed = 0
    with refusals_told():
        service = client(settings, "sonant")
        bar = click.progressbar(
            list(_batches(ids)), label="opting out", hidden=not show_progress(quiet), file=sys.stderr
        )
        with bar as batches:
            for batch in batches:
                changed += service.import_opt_outs(DomainId=domain_id, SpeakerIds=batch)["OptedOut"]
    click.echo(f"{changed} speakers opted out, {len(ids) - changed} were so before")


def _batches(ids: list[str]) -> Iterator[list[str]]:
    return (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))


def _opted_out(file: Path) -> list[str]:
    """The customer ids of those who refused, in the file's order, each once."""
    try:
        speakers = json.loads(file.read_text("utf-8-sig"))["SpeakerSummaries"]
        refused = [one["CustomerSpeakerId"] for one in speakers if one["Status"] == "OPTED_OUT"]
    except (OSError, ValueError, KeyError, TypeError):
        raise SetupError(
            f"{file} is not the JSON output of `aws voice-id list-speakers` "
            "(an object with SpeakerSummaries, each with CustomerSpeakerId and Status)"
        ) from None
    return list(dict.fromkeys(refused))
