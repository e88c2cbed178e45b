"""`sonant speaker list`, `describe`, `opt-out`, `delete`, `export`: calls through the signed API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import click

from sonant.assembly.installation import write_private
from sonant.cli.context import CliContext, Command, pass_cli, shown, table, without_metadata, yes_option
from sonant.cli.domain_client import DomainClient, domain_option
from sonant.cli.service_client import service_errors
from sonant.errors import SetupError

_STATUSES = ("ENROLLED", "EXPIRED", "OPTED_OUT", "PENDING")


@click.command("list", cls=Command)
@domain_option
@click.option("--status", type=click.Choice(_STATUSES), help="Speakers with this status alone.")
@click.option("--most", type=click.IntRange(1), help="List so many [default: all].")
@pass_cli
def list_speakers(cli: CliContext, domain_id: str | None, status: str | None, most: int | None) -> None:
    """List the speakers of a domain."""
    domain = DomainClient(cli.settings(), domain_id)
    with service_errors():
        pages = domain.pages("list_speakers", "SpeakerSummaries", DomainId=domain.domain_id)
        wanted = (one for one in pages if status is None or one["Status"] == status)
        found = list(islice(wanted, most))
    rows = [
        (
            one["GeneratedSpeakerId"],
            shown(one.get("CustomerSpeakerId", "-")),
            one["Status"],
            f"{one['UpdatedAt']:%Y-%m-%d %H:%M:%S}",
            f"{one['LastAccessedAt']:%Y-%m-%d %H:%M}" if "LastAccessedAt" in one else "-",
        )
        for one in found
    ]
    text = table(rows, ("SPEAKER", "YOUR ID", "STATUS", "CHANGED (UTC)", "USED"))
    cli.show({"Speakers": found}, text if rows else "no speakers")


@click.command("describe", cls=Command)
@click.argument("speaker_id")
@domain_option
@pass_cli
def describe(cli: CliContext, speaker_id: str, domain_id: str | None) -> None:
    """Show a speaker. SPEAKER_ID is your own id or the generated one, here and in the commands below."""
    domain = DomainClient(cli.settings(), domain_id)
    with service_errors():
        found = domain.voice_id.describe_speaker(DomainId=domain.domain_id, SpeakerId=speaker_id)["Speaker"]
    cli.show({"Speaker": found}, _members(found))


@click.command("opt-out", cls=Command)
@click.argument("speaker_id")
@domain_option
@yes_option
@pass_cli
def opt_out(cli: CliContext, speaker_id: str, domain_id: str | None, yes: bool) -> None:
    """Opt a speaker out: the voiceprint is destroyed, and no job and no call enrolls the speaker again."""
    domain = DomainClient(cli.settings(), domain_id)
    named = {"DomainId": domain.domain_id, "SpeakerId": speaker_id}
    cli.confirm(f"This destroys the voiceprint of speaker {speaker_id}", yes=yes)
    with service_errors():
        found = domain.voice_id.opt_out_speaker(**named)["Speaker"]
    cli.show({"Speaker": found}, f"{found['GeneratedSpeakerId']} is {found['Status']}")


@click.command("delete", cls=Command)
@click.argument("speaker_id")
@domain_option
@yes_option
@pass_cli
def delete(cli: CliContext, speaker_id: str, domain_id: str | None, yes: bool) -> None:
    """Delete a speaker with the voiceprint; `receipt` states it, `prove-deleted` looks for remains."""
    domain = DomainClient(cli.settings(), domain_id)
    named = {"DomainId": domain.domain_id, "SpeakerId": speaker_id}
    cli.confirm(f"This deletes speaker {speaker_id} with the voiceprint", yes=yes)
    with service_errors():
        generated = domain.voice_id.describe_speaker(**named)["Speaker"]["GeneratedSpeakerId"]
        domain.voice_id.delete_speaker(**named)
    cli.show({"Deleted": generated}, f"{generated} is gone")


@click.command("export", cls=Command)
@click.argument("speaker_id")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@domain_option
@pass_cli
def export(cli: CliContext, speaker_id: str, file: Path | None, domain_id: str | None) -> None:
    """Write what is stored of a speaker, with the voiceprint, to FILE for its owner alone, or print it."""
    domain = DomainClient(cli.settings(), domain_id)
    with service_errors():
        response = domain.own.export_speaker(DomainId=domain.domain_id, SpeakerId=speaker_id)
    text = json.dumps(without_metadata(response), indent=2, default=str) + "\n"
    if file is None:
        click.echo(text, nl=False)
        return
    if file.exists():
        raise SetupError(f"{file} exists already; choose another name")
    write_private(file, text)
    cli.show(
        {"File": str(file)}, f"written to {file}: it holds the voiceprint, keep it as safe as the database"
    )


def _members(found: Mapping[str, Any]) -> str:
    rows = [
        (name, value.isoformat() if hasattr(value, "isoformat") else shown(value))
        for name, value in found.items()
    ]
    return table(rows, ("member", "value"))
