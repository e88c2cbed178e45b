"""`sonant access …`: users, roles, their policies, and access keys."""

from __future__ import annotations

import configparser
import io
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from sonant.assembly.installation import Store, credentials_file, open_store, user_arn, write_private
from sonant.cli.common import table
from sonant.errors import SetupError
from sonant.iam import decide
from sonant.settings import Settings
from sonant.storage.repositories import access

#: No more than every AWS tool reads as the name of a section.
_PROFILE = re.compile(r"[a-zA-Z0-9._@+-]{1,64}")

#: Life of temporary credentials, as AWS STS has it.
LIFE_S = range(900, 43_200 + 1)


# --- users and roles ----------------------------------------------------------------------------------


def put_principal(
    settings: Settings,
    kind: str,
    name: str,
    account: str | None,
    policies: tuple[Path, ...],
    tags: tuple[str, ...],
) -> None:
    """Make a user or role, or replace its policies. Without a policy it may do nothing."""
    store = open_store(settings)
    arn = _arn(settings, kind, name, account)
    texts = [_read(path) for path in policies]
    with store.database.write() as connection:
        access.put_principal(
            connection, arn, arn.split(":")[4], texts, store.clock(), tags=_pairs(tags) if tags else None
        )
    click.echo(arn)


def show_principals(settings: Settings, kind: str) -> None:
    with open_store(settings).database.read() as connection:
        for arn in access.list_principals(connection):
            if f":{kind}/" in arn:
                click.echo(arn)


def show_policies(settings: Settings, kind: str, name: str, account: str | None) -> None:
    store, arn = open_store(settings), _arn(settings, kind, name, account)
    with store.database.read() as connection:
        texts = access.policy_texts(connection, arn)
    if texts is None:
        raise SetupError(f"there is no {arn}; see `sonant access {kind} list`")
    for text in texts:
        click.echo(json.dumps(json.loads(text), indent=2))


def delete_principal(settings: Settings, kind: str, name: str, account: str | None) -> None:
    store, arn = open_store(settings), _arn(settings, kind, name, account)
    with store.database.write() as connection:
        if not access.delete_principal(connection, arn):
            raise SetupError(f"there is no {arn}; see `sonant access {kind} list`")
    click.echo(f"{arn} and its access keys are gone")


# --- access keys --------------------------------------------------------------------------------------


def create(settings: Settings, user: str | None, account: str | None, profile: str | None) -> None:
    """A key for a user; the first user when none is named."""
    if profile is not None and (not _PROFILE.fullmatch(profile) or profile == configparser.DEFAULTSECT):
        raise SetupError("a profile's name has only the characters a-z A-Z 0-9 . _ @ + -, and is not DEFAULT")
    store = open_store(settings)
    arn = user_arn(settings) if user is None else _arn(settings, "user", user, account)
    with store.database.write() as connection:
        if access.find_principal(connection, arn) is None:
            raise SetupError(f"there is no {arn}; make it with `sonant access user put`")
        key_id, secret = access.create_access_key(connection, store.secret, arn, store.clock())
        if profile is not None:
            add_profile(store, profile, key_id, secret)
    click.echo(f"aws_access_key_id     {key_id}\naws_secret_access_key {secret}")


def assume_role(settings: Settings, role_arn: str, life_s: int) -> None:
    """Print temporary credentials of a role, in the form that a shell takes in."""
    if life_s not in LIFE_S:
        raise SetupError(
            f"temporary credentials live {LIFE_S.start} to {LIFE_S.stop - 1} seconds, not {life_s}"
        )
    store = open_store(settings)
    with store.database.write() as connection:
        if ":role/" not in role_arn or access.find_principal(connection, role_arn) is None:
            raise SetupError(f"there is no role {role_arn}; see `sonant access role list`")
        made = access.create_temporary(
            connection, store.secret, role_arn, store.clock(), timedelta(seconds=life_s)
        )
    click.echo(f"export AWS_ACCESS_KEY_ID={made.access_key_id}")
    click.echo(f"export AWS_SECRET_ACCESS_KEY={made.secret}")
    click.echo(f"export AWS_SESSION_TOKEN={made.session_token}")
    click.echo(f"# until {made.expires_at:%Y-%m-%dT%H:%M:%SZ}")


def show_all(settings: Settings) -> None:
    store = open_store(settings)
    with store.database.read() as connection:
        keys = access.list_access_keys(connection)
    now = store.clock()
    rows = [
        (
            key.access_key_id,
            "expired"
            if key.expires_at is not None and key.expires_at <= now
            else "active"
            if key.active
            else "disabled",
            f"{key.created_at:%Y-%m-%d %H:%M}",
            "-" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}",
            key.principal_arn,
        )
        for key in keys
    ]
    click.echo(table(rows, ("ACCESS KEY", "STATE", "CREATED (UTC)", "EXPIRES (UTC)", "PRINCIPAL")))


def set_active(settings: Settings, access_key_id: str, *, active: bool) -> None:
    store = open_store(settings)
    with store.database.write() as connection:
        if not access.set_active(connection, access_key_id, active):
            raise SetupError(f"there is no access key {access_key_id}; see `sonant access list`")
    click.echo(f"{access_key_id} is {'active' if active else 'disabled'}")


def delete(settings: Settings, access_key_id: str) -> None:
    with open_store(settings).database.write() as connection:
        if not access.delete_access_key(connection, access_key_id):
            raise SetupError(f"there is no access key {access_key_id}; see `sonant access list`")
    click.echo(f"{access_key_id} is gone")


def simulate(
    settings: Settings, kind: str, name: str, action: str, resource: str, facts: tuple[str, ...]
) -> int:
    """Tell whether a principal may do something and which statement decides; 0 when it may."""
    store, arn = open_store(settings), _arn(settings, kind, name, None)
    with store.database.read() as connection:
        principal = access.find_principal(connection, arn)
    if principal is None:
        raise SetupError(f"there is no {arn}; see `sonant access {kind} list`")
    context: dict[str, Any] = {
        "aws:CurrentTime": store.clock(),
        "aws:EpochTime": store.clock(),
        "aws:RequestedRegion": settings.region,
        "aws:PrincipalArn": arn,
        "aws:PrincipalAccount": principal.account_id,
        "aws:PrincipalTag/": principal.tags,
        **({"aws:username": principal.name} if kind == "user" else {}),
        **_pairs(facts),
    }
    decision = decide(principal.policies, action, resource, context)
    click.echo(f"{'allowed' if decision.allowed else 'denied'}: {decision.reason}")
    for line in decision.trace:
        place = f"policy {line.policy_index + 1}, statement {line.statement}"
        click.echo(f"  {place} ({'Allow' if line.allow else 'Deny'}): {line.mismatch_reason or 'applies'}")
    return 0 if decision.allowed else 1


def _arn(settings: Settings, kind: str, name: str, account: str | None) -> str:
    """The ARN of a user or role, given whole or by name."""
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
    found = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not (key and sign):
            raise SetupError(f"{item!r} is not KEY=VALUE")
        found[key] = value
    return found


def add_profile(store: Store, profile: str, key_id: str, secret: str) -> None:
    path = credentials_file(store.settings)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path, "utf-8")
    parser[profile] = {
        "aws_access_key_id": key_id,
        "aws_secret_access_key": secret,
        "region": store.settings.region,
    }
    text = io.StringIO()
    parser.write(text)
    write_private(path, text.getvalue())
