"""`sonant key …`: the keys that domains and result files are sealed under."""

from __future__ import annotations

from typing import Any

import click

from sonant.cli.common import Commands, account_option, data_option, load_settings

key = Commands("key", help="Manage the keys, in files or a token, that domains and results are sealed under.")


@key.command("create")
@click.option("--alias", help="A name for it, such as alias/calls.")
@click.option("--description", default="")
@account_option
@data_option
def key_create(alias: str | None, description: str, account: str | None, **where: Any) -> None:
    """Make a symmetric key."""
    from sonant.cli import keys

    keys.create(load_settings(**where), account, alias, description)


@key.command("list")
@account_option
@data_option
def key_list(account: str | None, **where: Any) -> None:
    """All keys with state and aliases."""
    from sonant.cli import keys

    keys.show_all(load_settings(**where), account)


@key.command("describe")
@click.argument("key_ref", metavar="KEY")
@account_option
@data_option
def key_describe(key_ref: str, account: str | None, **where: Any) -> None:
    """One key, by id, ARN or alias."""
    from sonant.cli import keys

    keys.show(load_settings(**where), account, key_ref)


@key.command("alias")
@click.argument("alias")
@click.argument("key_ref", metavar="KEY", required=False)
@click.option("--delete", is_flag=True, help="Take the alias away; the key stays.")
@account_option
@data_option
def key_alias(alias: str, key_ref: str | None, delete: bool, account: str | None, **where: Any) -> None:
    """Name a key."""
    from sonant.cli import keys

    keys.name(load_settings(**where), account, alias, key_ref, delete=delete)


@key.command("disable")
@click.argument("key_ref", metavar="KEY")
@account_option
@data_option
def key_disable(key_ref: str, account: str | None, **where: Any) -> None:
    """Refuse every use of a key from now on; what it seals cannot be read until it is enabled again."""
    from sonant.cli import keys

    keys.change(load_settings(**where), account, key_ref, "disable")


@key.command("enable")
@click.argument("key_ref", metavar="KEY")
@account_option
@data_option
def key_enable(key_ref: str, account: str | None, **where: Any) -> None:
    """Allow the use of a disabled key again."""
    from sonant.cli import keys

    keys.change(load_settings(**where), account, key_ref, "enable")


@key.command("rotate")
@click.argument("key_ref", metavar="KEY")
@click.option(
    "--forget-earlier", is_flag=True, help="Destroy what earlier rotations have left, instead of rotating."
)
@account_option
@data_option
def key_rotate(key_ref: str, forget_earlier: bool, account: str | None, **where: Any) -> None:
    """Give a key new material and wrap all data keys under it anew; nothing is sealed again."""
    from sonant.cli import keys

    keys.rotate(load_settings(**where), account, key_ref, forget=forget_earlier)


@key.command("accept-loss")
@click.argument("key_id", metavar="KEY_ID")
@account_option
@data_option
def key_accept_loss(key_id: str, account: str | None, **where: Any) -> None:
    """Start without a key that is missing and in no backup; nothing is destroyed, and it may be put back."""
    from sonant.cli import keys

    keys.accept_loss(load_settings(**where), account, key_id)


@key.command("schedule-deletion")
@click.argument("key_ref", metavar="KEY")
@click.option("--days", type=int, default=30, show_default=True, help="7 to 30.")
@account_option
@data_option
def key_schedule_deletion(key_ref: str, days: int, account: str | None, **where: Any) -> None:
    """Disable a key now and destroy it in some days. What it seals is lost for good then."""
    from sonant.cli import keys

    keys.schedule_deletion(load_settings(**where), account, key_ref, days)


@key.command("cancel-deletion")
@click.argument("key_ref", metavar="KEY")
@account_option
@data_option
def key_cancel_deletion(key_ref: str, account: str | None, **where: Any) -> None:
    """Keep a key that is pending deletion; it stays disabled."""
    from sonant.cli import keys

    keys.change(load_settings(**where), account, key_ref, "cancel_deletion")
