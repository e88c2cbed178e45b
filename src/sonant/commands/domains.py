"""`sonant domain …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from sonant.commands.common import client, show_progress
from sonant.errors import SetupError
from sonant.settings import Settings

#: ImportOptOuts takes this many ids a call.
_BATCH = 1000


def restore(settings: Settings, domain_id: str) -> None:
    with _told() as service_of:
        domain = service_of(settings).restore_domain(DomainId=domain_id)["Domain"]
    click.echo(f"{domain['DomainId']} is {domain['DomainStatus']}")


def import_opt_outs(settings: Settings, domain_id: str, file: Path, *, quiet: bool) -> None:
    """Raises SetupError when the file is not the output of `list-speakers`."""
    ids = _opted_out(file)
    changed = 0
    with _told() as service_of:
        service = service_of(settings)
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


@contextmanager
def _told() -> Iterator[Any]:
    """Our own model's client; a service's refusal becomes one sentence."""
    try:
        yield lambda settings: client(settings, "sonant")
    except Exception as fault:
        if type(fault).__module__.startswith("botocore."):
            raise SetupError(str(fault)) from None
        raise
