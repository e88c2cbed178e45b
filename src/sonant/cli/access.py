"""`sonant access ...`: users, roles, their policies, and access keys."""

from __future__ import annotations

import configparser
import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from sonant.assembly.installation import advice_on, open_store, user_arn
from sonant.cli.context import CliContext, Group, account_option, pass_cli, table, yes_option
from sonant.cli.credentials import add_profile
from sonant.cli.role_import import import_role
from sonant.errors import SetupError
from sonant.iam import decide, facts_about
from sonant.settings import Settings
from sonant.storage.repositories import access as repository

#: Names that every AWS tool reads as the name of a section.
_PROFILE = re.compile(r"[a-zA-Z0-9._@+-]{1,64}")

#: Life of temporary credentials, as AWS STS has it.
LIFE_S = range(900, 43_200 + 1)

access = Group("access", help="Manage users, roles, policies and access keys.")


# --- users and roles ----------------------------------------------------------------------------------


def _principal_commands(kind: str) -> None:
    """Add the same four commands for users and for roles."""
    group = Group(kind, help=f"Manage {kind}s and their policies.")
    access.add_command(group)

    @group.command("put", help=f"Make a {kind}, or replace its policies; without a policy it may do nothing.")
    @click.argument("name")
    @click.option(
        "--policy", "policies", multiple=True, type=click.Path(path_type=Path), help="IAM JSON file."
    )
    @click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="For aws:PrincipalTag/KEY.")
    @account_option
    @pass_cli
    def put(
        cli: CliContext, name: str, policies: tuple[Path, ...], tags: tuple[str, ...], account: str | None
    ) -> None:
        settings = cli.settings()
        store = open_store(settings)
        arn = _arn(settings, kind, name, account)
        texts = [_read(path) for path in policies]
        for advice in advice_on(texts):
            click.echo(f"warning: {advice}", err=True)
        with store.database.write() as connection:
            repository.put_principal(
                connection,
                arn,
                arn.split(":")[4],
                texts,
                store.clock(),
                tags=_pairs(tags) if tags else None,
            )
        cli.show({"Arn": arn}, arn)

    @group.command("list", help=f"List all {kind}s.")
    @pass_cli
    def list_all(cli: CliContext) -> None:
        with open_store(cli.settings()).database.read() as connection:
            arns = [arn for arn in repository.list_principals(connection) if f":{kind}/" in arn]
        cli.show({f"{kind.title()}s": [{"Arn": arn} for arn in arns]}, arns)

    @group.command("policies", help=f"Show the policies of a {kind}.")
    @click.argument("name")
    @account_option
    @pass_cli
    def policies_of(cli: CliContext, name: str, account: str | None) -> None:
        settings = cli.settings()
        store, arn = open_store(settings), _arn(settings, kind, name, account)
        with store.database.read() as connection:
            texts = repository.policy_texts(connection, arn)
        if texts is None:
            raise _missing(kind, arn)
        documents = [json.loads(text) for text in texts]
        cli.show({"Policies": documents}, [json.dumps(document, indent=2) for document in documents])

    @group.command("delete", help=f"Delete a {kind} and its access keys.")
    @click.argument("name")
    @account_option
    @yes_option
    @pass_cli
    def delete(cli: CliContext, name: str, account: str | None, yes: bool) -> None:
        settings = cli.settings()
        store, arn = open_store(settings), _arn(settings, kind, name, account)
        cli.confirm(f"This deletes {arn} and its access keys", yes=yes)
        with store.database.write() as connection:
            if not repository.delete_principal(connection, arn):
                raise _missing(kind, arn)
        cli.show({"Deleted": arn}, f"{arn} and its access keys are gone")


_principal_commands("user")
_principal_commands("role")
access.add_command(import_role)


# --- access keys --------------------------------------------------------------------------------------


@access.command("create")
@click.option("--user", help="The user whose key it is [default: the first user].")
@account_option
@click.option("--profile", help="Write it into the data folder's credentials file under this profile.")
@pass_cli
def create(cli: CliContext, user: str | None, account: str | None, profile: str | None) -> None:
    """Make another access key; its secret is shown this once."""
    if profile is not None and (not _PROFILE.fullmatch(profile) or profile == configparser.DEFAULTSECT):
        raise SetupError("a profile's name has only the characters a-z A-Z 0-9 . _ @ + -, and is not DEFAULT")
    settings = cli.settings()
    store = open_store(settings)
    arn = user_arn(settings) if user is None else _arn(settings, "user", user, account)
    with store.database.write() as connection:
        if repository.find_principal(connection, arn) is None:
            raise SetupError(f"there is no {arn}; make it with `sonant access user put`")
        key_id, secret = repository.create_access_key(connection, store.secret, arn, store.clock())
        if profile is not None:
            add_profile(store, profile, key_id, secret)
    document = {"AccessKeyId": key_id, "SecretAccessKey": secret, "PrincipalArn": arn}
    cli.show(document, (f"aws_access_key_id     {key_id}", f"aws_secret_access_key {secret}"))


@access.command("assume-role")
@click.argument("role_arn")
@click.option(
    "--duration", "life_s", type=int, default=3600, show_default=True, help="Seconds, 900 to 43200."
)
@pass_cli
def assume_role(cli: CliContext, role_arn: str, life_s: int) -> None:
    """Print temporary credentials of a role, to be set with `eval "$(...)"`."""
    if life_s not in LIFE_S:
        raise SetupError(
            f"temporary credentials live {LIFE_S.start} to {LIFE_S.stop - 1} seconds, not {life_s}"
        )
    store = open_store(cli.settings())
    with store.database.write() as connection:
        if ":role/" not in role_arn or repository.find_principal(connection, role_arn) is None:
            raise SetupError(f"there is no role {role_arn}; see `sonant access role list`")
        made = repository.create_temporary(
            connection, store.secret, role_arn, store.clock(), timedelta(seconds=life_s)
        )
    until = f"{made.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    document = {
        "Credentials": {
            "AccessKeyId": made.access_key_id,
            "SecretAccessKey": made.secret,
            "SessionToken": made.session_token,
            "Expiration": until,
        }
    }
    lines = (
        f"export AWS_ACCESS_KEY_ID={made.access_key_id}",
        f"export AWS_SECRET_ACCESS_KEY={made.secret}",
        f"export AWS_SESSION_TOKEN={made.session_token}",
        f"# until {until}",
    )
    cli.show(document, lines)


@access.command("simulate")
@click.argument("name")
@click.argument("action")
@click.argument("resource")
@click.option("--role", is_flag=True, help="NAME is a role's; else a user's.")
@click.option(
    "--context", "context_keys", multiple=True, metavar="KEY=VALUE", help="Such as aws:SourceIp=10.0.0.1."
)
@pass_cli
def simulate(
    cli: CliContext, name: str, action: str, resource: str, role: bool, context_keys: tuple[str, ...]
) -> None:
    """Say whether NAME may do ACTION on RESOURCE, and which statement decides; exits 0 when it may."""
    settings, kind = cli.settings(), "role" if role else "user"
    store, arn = open_store(settings), _arn(settings, kind, name, None)
    with store.database.read() as connection:
        principal = repository.find_principal(connection, arn)
    if principal is None:
        raise _missing(kind, arn)
    context: dict[str, Any] = {
        "aws:CurrentTime": store.clock(),
        "aws:EpochTime": store.clock(),
        "aws:RequestedRegion": settings.region,
        "aws:PrincipalArn": arn,
        "aws:PrincipalAccount": principal.account_id,
        "aws:PrincipalTag/": principal.tags,
        **({"aws:username": principal.name} if kind == "user" else {}),
    }
    facts = facts_about(
        action, request=context, operation={}, region=settings.region, account_id=principal.account_id
    )
    decision = decide(principal.policies, action, resource, {**facts, **_pairs(context_keys)})
    trace = [
        {
            "Policy": line.policy_index + 1,
            "Statement": line.statement,
            "Effect": "Allow" if line.allow else "Deny",
            "MismatchReason": line.mismatch_reason,
        }
        for line in decision.trace
    ]
    lines = [f"{'allowed' if decision.allowed else 'denied'}: {decision.reason}"]
    lines += [
        f"  policy {line['Policy']}, statement {line['Statement']} ({line['Effect']}): "
        f"{line['MismatchReason'] or 'applies'}"
        for line in trace
    ]
    cli.show({"Allowed": decision.allowed, "Reason": decision.reason, "Statements": trace}, lines)
    sys.exit(0 if decision.allowed else 1)


@access.command("delete")
@click.argument("access_key_id")
@yes_option
@pass_cli
def delete(cli: CliContext, access_key_id: str, yes: bool) -> None:
    """Delete an access key."""
    store = open_store(cli.settings())
    cli.confirm(f"This deletes the access key {access_key_id}", yes=yes)
    with store.database.write() as connection:
        if not repository.delete_access_key(connection, access_key_id):
            raise SetupError(f"there is no access key {access_key_id}; see `sonant access list`")
    cli.show({"Deleted": access_key_id}, f"{access_key_id} is gone")


@access.command("list")
@pass_cli
def list_keys(cli: CliContext) -> None:
    """List all access keys, without secrets."""
    store = open_store(cli.settings())
    with store.database.read() as connection:
        keys = repository.list_access_keys(connection)
    now = store.clock()
    states = [
        "expired"
        if key.expires_at is not None and key.expires_at <= now
        else "active"
        if key.active
        else "disabled"
        for key in keys
    ]
    rows = [
        (
            key.access_key_id,
            state,
            f"{key.created_at:%Y-%m-%d %H:%M}",
            "-" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}",
            key.principal_arn,
        )
        for key, state in zip(keys, states, strict=True)
    ]
    document = {
        "AccessKeys": [
            {
                "AccessKeyId": key.access_key_id,
                "State": state,
                "CreatedAt": key.created_at,
                "ExpiresAt": key.expires_at,
                "PrincipalArn": key.principal_arn,
            }
            for key, state in zip(keys, states, strict=True)
        ]
    }
    cli.show(document, table(rows, ("ACCESS KEY", "STATE", "CREATED (UTC)", "EXPIRES (UTC)", "PRINCIPAL")))


@access.command("disable")
@click.argument("access_key_id")
@pass_cli
def disable(cli: CliContext, access_key_id: str) -> None:
    """Refuse an access key from now on."""
    _set_active(cli, access_key_id, active=False)


@access.command("enable")
@click.argument("access_key_id")
@pass_cli
def enable(cli: CliContext, access_key_id: str) -> None:
    """Accept a disabled access key again."""
    _set_active(cli, access_key_id, active=True)


def _set_active(cli: CliContext, access_key_id: str, *, active: bool) -> None:
    store = open_store(cli.settings())
    with store.database.write() as connection:
        if not repository.set_active(connection, access_key_id, active):
            raise SetupError(f"there is no access key {access_key_id}; see `sonant access list`")
    state = "active" if active else "disabled"
    cli.show({"AccessKeyId": access_key_id, "State": state}, f"{access_key_id} is {state}")


def _missing(kind: str, arn: str) -> SetupError:
    return SetupError(f"there is no {arn}; see `sonant access {kind} list`")


def _arn(settings: Settings, kind: str, name: str, account: str | None) -> str:
    """Give the ARN of a user or role, named by ARN or by name. Raises SetupError."""
    if name.startswith("arn:"):
        parts = name.split(":")
        if len(parts) != 6 or parts[2] != "iam" or not parts[5].startswith(f"{kind}/"):
            raise SetupError(f"{name} is not the ARN of a {kind}")
        return name
    account = account or settings.account
    if len(account) != 12 or not (account.isascii() and account.isdigit()):
        raise SetupError(f"an account id has 12 digits, {account!r} has not")
    if (
        not name
        or len(name) > 64
        or not all(c.isalnum() or c in "+=,.@_-/" for c in name)
        or not name.isascii()
    ):
        raise SetupError(f"a {kind}'s name has 1 to 64 of A-Z a-z 0-9 + = , . @ _ - /")
    return f"arn:aws:iam::{account}:{kind}/{name}"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise SetupError(f"policy {path} cannot be read: {fault}") from None


def _pairs(items: tuple[str, ...]) -> dict[str, str]:
    """Split KEY=VALUE items. Raises SetupError."""
    pairs = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not (key and sign):
            raise SetupError(f"{item!r} is not KEY=VALUE")
        pairs[key] = value
    return pairs
