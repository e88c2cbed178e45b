"""`sonant domain ...`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from sonant.assembly.jobs import build_outbox
from sonant.cli.context import CliContext, Group, pass_cli, shown, table, yes_option
from sonant.cli.domain_client import DomainClient
from sonant.cli.folder_domains import opened_domain
from sonant.cli.repeat_deletions import repeat_deletions
from sonant.cli.service_client import client, service_errors
from sonant.errors import SetupError
from sonant.events.documents import fraudster_protection_event
from sonant.storage.repositories import fraudster_probes, watchlists
from sonant.storage.times import now

#: ImportOptOuts takes this many ids a call.
_BATCH_SIZE = 1000

domain = Group(
    "domain", help="List domains, import opt-outs, restore a domain, repeat deletions, unlock a fraudster."
)


@domain.command("list")
@pass_cli
def list_domains(cli: CliContext) -> None:
    """List the domains of the account."""
    with service_errors():
        found = list(DomainClient(cli.settings()).pages("list_domains", "DomainSummaries"))
    rows = [
        (
            one["DomainId"],
            one["DomainStatus"],
            f"{one['CreatedAt']:%Y-%m-%d %H:%M:%S}",
            one["ServerSideEncryptionConfiguration"]["KmsKeyId"],
            shown(one.get("Name", "")),
        )
        for one in found
    ]
    text = table(rows, ("DOMAIN", "STATUS", "CREATED (UTC)", "KEY", "NAME"))
    cli.show({"Domains": found}, text if rows else "no domains")


@domain.command("restore")
@click.argument("domain_id")
@pass_cli
def restore(cli: CliContext, domain_id: str) -> None:
    """Undo the deletion of a domain, within 30 days."""
    with service_errors():
        restored = client(cli.settings(), "sonant").restore_domain(DomainId=domain_id)["Domain"]
    cli.show({"Domain": restored}, f"{restored['DomainId']} is {restored['DomainStatus']}")


@domain.command("import-opt-outs")
@click.argument("domain_id")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@yes_option
@pass_cli
def import_opt_outs(cli: CliContext, domain_id: str, file: Path, yes: bool) -> None:
    """Opt out all speakers that are OPTED_OUT in FILE, the output of Voice ID's `list-speakers`.

    Voiceprints and audio of speakers that opt out are deleted.
    """
    speaker_ids = _opted_out(file)
    cli.confirm(
        f"This opts out {len(speaker_ids)} speakers of {domain_id} and deletes their voiceprints", yes=yes
    )
    changed = 0
    with service_errors():
        service = client(cli.settings(), "sonant")
        with cli.progress_bar(list(_batches(speaker_ids)), label="opting out") as batches:
            for batch in batches:
                changed += service.import_opt_outs(DomainId=domain_id, SpeakerIds=batch)["OptedOut"]
    unchanged = len(speaker_ids) - changed
    cli.show(
        {"OptedOut": changed, "AlreadyOptedOut": unchanged},
        f"{changed} speakers opted out, {unchanged} were so before",
    )


@domain.command("unlock-fraudster")
@click.argument("domain_id")
@click.argument("fraudster_id")
@pass_cli
def unlock_fraudster(cli: CliContext, domain_id: str, fraudster_id: str) -> None:
    """Tell risks of a fraudster again that were told as often as the budgets allow. Reads the data folder."""
    settings = cli.settings()
    with opened_domain(settings, domain_id, write=True) as (connection, opened, _):
        if watchlists.find_fraudster(connection, domain_id, fraudster_id) is None:
            raise SetupError(f"domain {domain_id} has no such fraudster")
        forgotten = fraudster_probes.delete_of(connection, fraudster_id)
        if forgotten:
            event = fraudster_protection_event(
                opened, "UNLOCK_FRAUDSTER", fraudster_id=fraudster_id, principal_arn=None
            )
            build_outbox(settings).put(connection, [event], now())
    cli.show(
        {"generatedFraudsterId": fraudster_id, "forgottenAnswers": forgotten},
        f"risks of fraudster {fraudster_id} are told again; {forgotten} answers were forgotten",
    )


domain.add_command(repeat_deletions)


def _batches(speaker_ids: list[str]) -> Iterator[list[str]]:
    return (speaker_ids[start : start + _BATCH_SIZE] for start in range(0, len(speaker_ids), _BATCH_SIZE))


def _opted_out(file: Path) -> list[str]:
    """Read the customer ids of opted-out speakers, in the file's order, each once. Raises SetupError."""
    try:
        speakers = json.loads(file.read_text("utf-8-sig"))["SpeakerSummaries"]
        opted_out = [one["CustomerSpeakerId"] for one in speakers if one["Status"] == "OPTED_OUT"]
    except (OSError, ValueError, KeyError, TypeError):
        raise SetupError(
            f"{file} is not the JSON output of `aws voice-id list-speakers` "
            "(an object with SpeakerSummaries, each with CustomerSpeakerId and Status)"
        ) from None
    return list(dict.fromkeys(opted_out))
