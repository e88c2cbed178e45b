"""`sonant watchlist ...` and `sonant fraudster ...`: fraudsters and their lists, through the signed API."""

from __future__ import annotations

from typing import Any

import click

from sonant.cli.context import CliContext, Group, pass_cli, shown, table, yes_option
from sonant.cli.domain_client import DomainClient, domain_option
from sonant.cli.service_client import service_errors

watchlist = Group("watchlist", help="List, make and delete watchlists.")
fraudster = Group("fraudster", help="List fraudsters, move them between watchlists, delete them.")

_watchlist_option = click.option(
    "--watchlist", "watchlist_id", metavar="ID", required=True, help="The watchlist."
)


@watchlist.command("list")
@domain_option
@pass_cli
def list_watchlists(cli: CliContext, domain_id: str | None) -> None:
    """List the watchlists of a domain."""
    domain = DomainClient(cli.settings(), domain_id)
    with service_errors():
        found = list(domain.pages("list_watchlists", "WatchlistSummaries", DomainId=domain.domain_id))
    rows = [
        (
            one["WatchlistId"],
            "default" if one["DefaultWatchlist"] else "",
            f"{one['UpdatedAt']:%Y-%m-%d %H:%M:%S}",
            shown(one.get("Name", "")),
        )
        for one in found
    ]
    cli.show({"Watchlists": found}, table(rows, ("WATCHLIST", "", "CHANGED (UTC)", "NAME")))


@watchlist.command("create")
@click.argument("name")
@click.option("--description", help="What the list is for.")
@domain_option
@pass_cli
def create(cli: CliContext, name: str, description: str | None, domain_id: str | None) -> None:
    """Make a watchlist."""
    domain = DomainClient(cli.settings(), domain_id)
    more = {} if description is None else {"Description": description}
    with service_errors():
        made = domain.voice_id.create_watchlist(DomainId=domain.domain_id, Name=name, **more)["Watchlist"]
    cli.show({"Watchlist": made}, made["WatchlistId"])


@watchlist.command("delete")
@click.argument("watchlist_id")
@domain_option
@yes_option
@pass_cli
def delete_watchlist(cli: CliContext, watchlist_id: str, domain_id: str | None, yes: bool) -> None:
    """Delete a watchlist that has no fraudsters."""
    domain = DomainClient(cli.settings(), domain_id)
    named = {"DomainId": domain.domain_id, "WatchlistId": watchlist_id}
    cli.confirm(f"This deletes the watchlist {watchlist_id}", yes=yes)
    with service_errors():
        domain.voice_id.delete_watchlist(**named)
    cli.show({"Deleted": watchlist_id}, f"{watchlist_id} is gone")


@fraudster.command("list")
@click.option("--watchlist", "watchlist_id", metavar="ID", help="Those on this watchlist alone.")
@domain_option
@pass_cli
def list_fraudsters(cli: CliContext, watchlist_id: str | None, domain_id: str | None) -> None:
    """List the fraudsters of a domain."""
    domain = DomainClient(cli.settings(), domain_id)
    more = {} if watchlist_id is None else {"WatchlistId": watchlist_id}
    with service_errors():
        found = list(domain.pages("list_fraudsters", "FraudsterSummaries", DomainId=domain.domain_id, **more))
    rows = [
        (
            one["GeneratedFraudsterId"],
            f"{one['CreatedAt']:%Y-%m-%d %H:%M:%S}",
            ", ".join(one.get("WatchlistIds", ())),
        )
        for one in found
    ]
    text = table(rows, ("FRAUDSTER", "REGISTERED (UTC)", "WATCHLISTS"))
    cli.show({"Fraudsters": found}, text if rows else "no fraudsters")


@fraudster.command("describe")
@click.argument("fraudster_id")
@domain_option
@pass_cli
def describe(cli: CliContext, fraudster_id: str, domain_id: str | None) -> None:
    """Show a fraudster's lists."""
    domain = DomainClient(cli.settings(), domain_id)
    with service_errors():
        found = domain.voice_id.describe_fraudster(DomainId=domain.domain_id, FraudsterId=fraudster_id)
    _show(cli, found["Fraudster"])


@fraudster.command("add")
@click.argument("fraudster_id")
@_watchlist_option
@domain_option
@pass_cli
def add(cli: CliContext, fraudster_id: str, watchlist_id: str, domain_id: str | None) -> None:
    """Put a fraudster on a watchlist."""
    _move(cli, "associate_fraudster", fraudster_id, watchlist_id, domain_id)


@fraudster.command("remove")
@click.argument("fraudster_id")
@_watchlist_option
@domain_option
@pass_cli
def remove(cli: CliContext, fraudster_id: str, watchlist_id: str, domain_id: str | None) -> None:
    """Take a fraudster off a watchlist; it stays on another one."""
    _move(cli, "disassociate_fraudster", fraudster_id, watchlist_id, domain_id)


@fraudster.command("delete")
@click.argument("fraudster_id")
@domain_option
@yes_option
@pass_cli
def delete_fraudster(cli: CliContext, fraudster_id: str, domain_id: str | None, yes: bool) -> None:
    """Delete a fraudster with the voiceprint."""
    domain = DomainClient(cli.settings(), domain_id)
    named = {"DomainId": domain.domain_id, "FraudsterId": fraudster_id}
    cli.confirm(f"This deletes fraudster {fraudster_id} with the voiceprint", yes=yes)
    with service_errors():
        domain.voice_id.delete_fraudster(**named)
    cli.show({"Deleted": fraudster_id}, f"{fraudster_id} is gone")


def _move(
    cli: CliContext, operation: str, fraudster_id: str, watchlist_id: str, domain_id: str | None
) -> None:
    domain = DomainClient(cli.settings(), domain_id)
    with service_errors():
        changed = getattr(domain.voice_id, operation)(
            DomainId=domain.domain_id, FraudsterId=fraudster_id, WatchlistId=watchlist_id
        )
    _show(cli, changed["Fraudster"])


def _show(cli: CliContext, found: dict[str, Any]) -> None:
    rows = [
        (found["GeneratedFraudsterId"], f"{found['CreatedAt']:%Y-%m-%d %H:%M:%S}", watchlist_id)
        for watchlist_id in found["WatchlistIds"]
    ]
    cli.show({"Fraudster": found}, table(rows, ("FRAUDSTER", "REGISTERED (UTC)", "WATCHLIST")))
