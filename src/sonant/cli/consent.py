"""`sonant consent ...`: what speakers have agreed to, and what a domain requires, through the signed API."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sonant.cli.context import CliContext, Group, pass_cli, shown, table, without_metadata, yes_option
from sonant.cli.domain_client import DomainClient, domain_option
from sonant.cli.service_client import service_errors

consent = Group("consent", help="Record, show and withdraw consents of speakers, and require them.")

_DATES = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"])


@consent.command("give")
@click.argument("speaker_id")
@click.option(
    "--text",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="The text that the speaker was given; its SHA-256 is recorded.",
)
@click.option("--text-version", required=True, help="The version of that text.")
@click.option("--purpose", required=True, help="What the voice may be used for.")
@click.option("--channel", required=True, help="How it was given, such as letter, web page, call.")
@click.option("--evidence", help="Where the proof is.")
@click.option("--given", type=_DATES, help="When it was given, UTC [default: now].")
@click.option("--until", type=_DATES, help="When it ends, UTC [default: when it is withdrawn].")
@domain_option
@pass_cli
def give(
    cli: CliContext,
    speaker_id: str,
    text: Path,
    text_version: str,
    purpose: str,
    channel: str,
    evidence: str | None,
    given: datetime | None,
    until: datetime | None,
    domain_id: str | None,
) -> None:
    """Record a speaker's consent, before or after the enrollment. SPEAKER_ID is your own id or the generated
    one, here and in the commands below."""
    domain = DomainClient(cli.settings(), domain_id)
    optional = {"Evidence": evidence, "GivenAt": _utc(given), "ExpiresAt": _utc(until)}
    with service_errors():
        found = domain.own.put_consent(
            DomainId=domain.domain_id,
            SpeakerId=speaker_id,
            TextHash=hashlib.sha256(text.read_bytes()).hexdigest(),
            TextVersion=text_version,
            Purpose=purpose,
            Channel=channel,
            **{name: value for name, value in optional.items() if value is not None},
        )["Consent"]
    cli.show({"Consent": found}, _rows([found]))


@consent.command("show")
@click.argument("speaker_id")
@domain_option
@pass_cli
def show(cli: CliContext, speaker_id: str, domain_id: str | None) -> None:
    """Show the consent of a speaker that counts."""
    domain = DomainClient(cli.settings(), domain_id)
    with service_errors():
        found = domain.own.describe_consent(DomainId=domain.domain_id, SpeakerId=speaker_id)["Consent"]
    members = [
        (name, value.isoformat() if isinstance(value, datetime) else shown(value))
        for name, value in found.items()
    ]
    cli.show({"Consent": found}, table(members, ("member", "value")))


@consent.command("history")
@click.argument("speaker_id")
@domain_option
@pass_cli
def history(cli: CliContext, speaker_id: str, domain_id: str | None) -> None:
    """List all consents of a speaker, the newest first."""
    domain = DomainClient(cli.settings(), domain_id)
    named = {"DomainId": domain.domain_id, "SpeakerId": speaker_id}
    with service_errors():
        found = list(domain.pages("list_consents", "Consents", **named))
    cli.show({"Consents": found}, _rows(found) if found else "no consents")


@consent.command("withdraw")
@click.argument("speaker_id")
@domain_option
@yes_option
@pass_cli
def withdraw(cli: CliContext, speaker_id: str, domain_id: str | None, yes: bool) -> None:
    """Withdraw all consents of a speaker: the voiceprint is destroyed, as `sonant speaker opt-out` does.

    `sonant speaker receipt` states it."""
    domain = DomainClient(cli.settings(), domain_id)
    named = {"DomainId": domain.domain_id, "SpeakerId": speaker_id}
    cli.confirm(f"This destroys the voiceprint of speaker {speaker_id}", yes=yes)
    with service_errors():
        done = without_metadata(domain.own.withdraw_consent(**named))
    said = f"{done['GeneratedSpeakerId']} is OPTED_OUT; {done['Withdrawn']} consents were withdrawn"
    cli.show(done, said)


@consent.command("require")
@click.option("--on/--off", "required", default=None, help="Require a consent, or not [default: show it].")
@domain_option
@pass_cli
def require(cli: CliContext, required: bool | None, domain_id: str | None) -> None:
    """Have a domain enroll only speakers with a valid consent; voiceprints that are there stay."""
    domain = DomainClient(cli.settings(), domain_id)
    named = {"DomainId": domain.domain_id}
    with service_errors():
        if required is None:
            rules = domain.own.describe_privacy_rules(**named)["PrivacyRules"]
        else:
            rules = domain.own.put_privacy_rules(ConsentRequired=required, **named)["PrivacyRules"]
    said = "only with a valid consent" if rules["ConsentRequired"] else "with or without a consent"
    cli.show({"PrivacyRules": rules}, f"domain {rules['DomainId']} enrolls speakers {said}")


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _rows(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            one["ConsentId"],
            one["Status"],
            f"{one['GivenAt']:%Y-%m-%d %H:%M}",
            f"{one['ExpiresAt']:%Y-%m-%d %H:%M}" if "ExpiresAt" in one else "-",
            shown(one["TextVersion"]),
            shown(one["Purpose"]),
        )
        for one in found
    ]
    return table(rows, ("CONSENT", "STATUS", "GIVEN (UTC)", "UNTIL", "TEXT", "PURPOSE"))
