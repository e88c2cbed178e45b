"""`sonant session ...`: sessions of live calls, and audio for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from sonant.cli.context import CliContext, Group, json_option, pass_cli, without_metadata
from sonant.cli.domain_client import domain_option
from sonant.cli.service_client import service_errors
from sonant.cli.session_client import (
    SessionClient,
    evaluation_text,
    new_session_name,
    session_text,
    sessions_text,
    speaker_option,
)
from sonant.cli.session_kinesis import kinesis
from sonant.cli.session_stream import stream, url

F = TypeVar("F", bound=Callable[..., Any])

#: Exit code of `evaluate` for a caller who is not accepted, or of high risk, or not yet known.
NOT_ACCEPTED = 3

session = Group("session", help="Start, watch and end sessions of live calls; stream audio to them.")

_threshold = click.IntRange(0, 100)


def _configuration_options(command: F) -> F:
    """Add the options of what StartSession and UpdateSession configure."""
    for option in (
        click.option("--contact-arn", metavar="ARN", help="The contact's ARN in Amazon Connect, for events."),
        click.option(
            "--watchlist", metavar="ID", help="Fraudsters to look for [default: the domain's own list]."
        ),
        click.option("--risk-threshold", type=_threshold, help="From this score on a call is HIGH_RISK."),
        click.option(
            "--acceptance-threshold", type=_threshold, help="From this score on a caller is accepted."
        ),
        speaker_option,
    ):
        command = option(command)
    return command


@session.command("start")
@click.argument("session_name", required=False)
@_configuration_options
@click.option(
    "--speech", type=click.IntRange(5, 10), help="Net speech that authentication needs, in seconds."
)
@click.option("--no-authentication", is_flag=True, help="Do not verify the caller.")
@click.option("--no-fraud-detection", is_flag=True, help="Do not look for fraudsters and spoofed voices.")
@domain_option
@json_option
@pass_cli
def start(
    cli: CliContext,
    /,
    session_name: str | None,
    domain_id: str | None,
    speech: int | None,
    no_authentication: bool,
    no_fraud_detection: bool,
    **configuration: Any,
) -> None:
    """Start a session, or the next stream of one that has ended; without a name it gets a random one."""
    sessions = SessionClient(cli.settings(), domain_id)
    members: dict[str, Any] = {
        "DomainId": sessions.domain_id,
        "SessionName": session_name or new_session_name(),
        **_members(**configuration),
    }
    if speech is not None:
        members["StreamingConfiguration"] = {"AuthenticationMinimumSpeechInSeconds": speech}
    if no_authentication:
        members["IsVoiceAuthenticationEnabled"] = False
    if no_fraud_detection:
        members["IsFraudDetectionEnabled"] = False
    with service_errors():
        response = sessions.own.start_session(**members)
    cli.show(without_metadata(response), session_text(response))


@session.command("update")
@click.argument("session_name")
@_configuration_options
@domain_option
@json_option
@pass_cli
def update(cli: CliContext, /, session_name: str, domain_id: str | None, **configuration: Any) -> None:
    """Change a session's speaker, thresholds or watchlist."""
    sessions = SessionClient(cli.settings(), domain_id)
    with service_errors():
        response = sessions.own.update_session(
            **sessions.session_members(session_name), **_members(**configuration)
        )
    cli.show(without_metadata(response), session_text(response))


@session.command("describe")
@click.argument("session_name")
@domain_option
@json_option
@pass_cli
def describe(cli: CliContext, session_name: str, domain_id: str | None) -> None:
    """Show a session."""
    sessions = SessionClient(cli.settings(), domain_id)
    with service_errors():
        response = sessions.own.describe_session(**sessions.session_members(session_name))
    cli.show(without_metadata(response), session_text(response))


@session.command("list")
@click.option(
    "--status",
    type=click.Choice(["PENDING_CONFIGURATION", "ONGOING", "ENDED"]),
    help="Only sessions with this status.",
)
@domain_option
@json_option
@pass_cli
def list_sessions(cli: CliContext, status: str | None, domain_id: str | None) -> None:
    """List all sessions of a domain, oldest first."""
    sessions = SessionClient(cli.settings(), domain_id)
    only = {} if status is None else {"StreamingStatus": status}
    with service_errors():
        pages = sessions.own.get_paginator("list_sessions").paginate(DomainId=sessions.domain_id, **only)
        summaries = [summary for page in pages for summary in page["SessionSummaries"]]
    cli.show({"SessionSummaries": summaries}, sessions_text(summaries))


@session.command("enroll")
@click.argument("session_name")
@domain_option
@json_option
@pass_cli
def enroll(cli: CliContext, session_name: str, domain_id: str | None) -> None:
    """Enroll the session's speaker with the speech of the session."""
    sessions = SessionClient(cli.settings(), domain_id)
    with service_errors():
        response = sessions.own.enroll_by_session(**sessions.session_members(session_name))
    cli.show(without_metadata(response), str(response["Status"]))


@session.command("evaluate")
@click.argument("session_name")
@domain_option
@json_option
@pass_cli
def evaluate(cli: CliContext, session_name: str, domain_id: str | None) -> None:
    """Show whether the caller is who he claims to be, and the risk of fraud.

    Exits 3 unless the caller is accepted and of low risk.
    """
    sessions = SessionClient(cli.settings(), domain_id)
    with service_errors():
        response = sessions.voice_id.evaluate_session(**sessions.session_members(session_name))
    cli.show(without_metadata(response), evaluation_text(response))
    sys.exit(0 if _accepted(response) else NOT_ACCEPTED)


@session.command("restart")
@click.argument("session_name")
@domain_option
@json_option
@pass_cli
def restart(cli: CliContext, session_name: str, domain_id: str | None) -> None:
    """Authenticate the caller again, and look for fraud again, in the same call."""
    sessions = SessionClient(cli.settings(), domain_id)
    with service_errors():
        response = sessions.own.restart_stream(**sessions.session_members(session_name))
    cli.show(without_metadata(response), session_text(response))


@session.command("end")
@click.argument("session_name")
@domain_option
@json_option
@pass_cli
def end(cli: CliContext, session_name: str, domain_id: str | None) -> None:
    """End a session's stream: no more audio is taken."""
    sessions = SessionClient(cli.settings(), domain_id)
    with service_errors():
        response = sessions.own.end_stream(**sessions.session_members(session_name))
    cli.show(without_metadata(response), session_text(response))


session.add_command(stream)
session.add_command(kinesis)
session.add_command(url)


def _members(
    speaker: str | None = None,
    acceptance_threshold: int | None = None,
    risk_threshold: int | None = None,
    watchlist: str | None = None,
    contact_arn: str | None = None,
) -> dict[str, Any]:
    """Give the members of a request for what the options configure."""
    members: dict[str, Any] = {}
    if speaker is not None:
        members["SpeakerId"] = speaker
    if contact_arn is not None:
        members["ContactArn"] = contact_arn
    if acceptance_threshold is not None:
        members["AuthenticationConfiguration"] = {"AcceptanceThreshold": acceptance_threshold}
    fraud = {"RiskThreshold": risk_threshold, "WatchlistId": watchlist}
    if given := {name: value for name, value in fraud.items() if value is not None}:
        members["FraudDetectionConfiguration"] = given
    return members


def _accepted(response: Mapping[str, Any]) -> bool:
    """Whether there is a decision, and every decision is a good one."""
    decisions = [
        response[name]["Decision"]
        for name in ("AuthenticationResult", "FraudDetectionResult")
        if name in response
    ]
    return bool(decisions) and all(decision in ("ACCEPT", "LOW_RISK") for decision in decisions)
