"""`sonant access …`: users, roles, their policies, and access keys. Thin, like all of the command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sonant.cli.common import Commands, account_option, data_option, load_settings

access = Commands("access", help="Manage users, roles, policies and access keys.")


def _principal_commands(kind: str) -> None:
    """The same four commands for users and for roles."""
    group = Commands(kind, help=f"Manage {kind}s and their policies.")
    access.add_command(group)

    @group.command("put", help=f"Make a {kind}, or replace its policies; without one it may do nothing.")
    @click.argument("name")
    @click.option(
        "--policy", "policies", multiple=True, type=click.Path(path_type=Path), help="IAM JSON file."
    )
    @click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="For aws:PrincipalTag/KEY.")
    @account_option
    @data_option
    def put(
        name: str, policies: tuple[Path, ...], tags: tuple[str, ...], account: str | None, **where: Any
    ) -> None:
        from sonant.cli import access_keys

        access_keys.put_principal(load_settings(**where), kind, name, account, policies, tags)

    @group.command("list", help=f"All {kind}s.")
    @data_option
    def show_all(**where: Any) -> None:
        from sonant.cli import access_keys

        access_keys.show_principals(load_settings(**where), kind)

    @group.command("policies", help=f"The policies of a {kind}.")
    @click.argument("name")
    @account_option
    @data_option
    def policies_of(name: str, account: str | None, **where: Any) -> None:
        from sonant.cli import access_keys

        access_keys.show_policies(load_settings(**where), kind, name, account)

    @group.command("delete", help=f"Remove a {kind} and its access keys.")
    @click.argument("name")
    @account_option
    @data_option
    def remove(name: str, account: str | None, **where: Any) -> None:
        from sonant.cli import access_keys

        access_keys.delete_principal(load_settings(**where), kind, name, account)


_principal_commands("user")
_principal_commands("role")


@access.command("import-role")
@click.argument("role_arn")
@click.option(
    "--bucket",
    "buckets",
    multiple=True,
    metavar="NAME",
    help="A bucket that its jobs may use, made if it is not there [default: all of the account].",
)
@click.option("--replace", is_flag=True, help="Give a role that has other policies these instead.")
@data_option
def access_import_role(role_arn: str, buckets: tuple[str, ...], replace: bool, **where: Any) -> None:
    """Make the role that an existing integration names as DataAccessRoleArn, and its account if it is new."""
    from sonant.cli import role_import

    role_import.import_role(load_settings(**where), role_arn, buckets, replace=replace)


@access.command("create")
@click.option("--user", help="Whose key [default: the first user].")
@account_option
@click.option("--profile", help="Write it into the data folder's credentials file under this profile.")
@data_option
def access_create(user: str | None, account: str | None, profile: str | None, **where: Any) -> None:
    """Make another access key; its secret is shown this once."""
    from sonant.cli import access_keys

    access_keys.create(load_settings(**where), user, account, profile)


@access.command("assume-role")
@click.argument("role_arn")
@click.option(
    "--duration", "life_s", type=int, default=3600, show_default=True, help="Seconds, 900 to 43200."
)
@data_option
def access_assume_role(role_arn: str, life_s: int, **where: Any) -> None:
    """Print temporary credentials of a role, to be taken in with `eval "$(...)"`."""
    from sonant.cli import access_keys

    access_keys.assume_role(load_settings(**where), role_arn, life_s)


@access.command("simulate")
@click.argument("name")
@click.argument("action")
@click.argument("resource")
@click.option("--role", is_flag=True, help="NAME is a role's; else a user's.")
@click.option("--context", "facts", multiple=True, metavar="KEY=VALUE", help="Such as aws:SourceIp=10.0.0.1.")
@data_option
def access_simulate(
    name: str, action: str, resource: str, role: bool, facts: tuple[str, ...], **where: Any
) -> None:
    """Tell whether NAME may do ACTION on RESOURCE, and which statement decides; exits 0 when it may."""
    from sonant.cli import access_keys

    kind = "role" if role else "user"
    sys.exit(access_keys.simulate(load_settings(**where), kind, name, action, resource, facts))


@access.command("delete")
@click.argument("access_key_id")
@data_option
def access_delete(access_key_id: str, **where: Any) -> None:
    """Remove an access key."""
    from sonant.cli import access_keys

    access_keys.delete(load_settings(**where), access_key_id)


@access.command("list")
@data_option
def access_list(**where: Any) -> None:
    """All access keys, without secrets."""
    from sonant.cli import access_keys

    access_keys.show_all(load_settings(**where))


@access.command("disable")
@click.argument("access_key_id")
@data_option
def access_disable(access_key_id: str, **where: Any) -> None:
    """Refuse an access key from now on."""
    from sonant.cli import access_keys

    access_keys.set_active(load_settings(**where), access_key_id, active=False)


@access.command("enable")
@click.argument("access_key_id")
@data_option
def access_enable(access_key_id: str, **where: Any) -> None:
    """Accept a disabled access key again."""
    from sonant.cli import access_keys

    access_keys.set_active(load_settings(**where), access_key_id, active=True)
