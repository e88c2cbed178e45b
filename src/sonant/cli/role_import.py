"""`sonant access import-role`: the role of an existing integration, under the ARN that its programs name."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click
from sqlalchemy import Connection

from sonant.assembly.installation import DEFAULT_ALIAS, Store, credentials_file, open_store, role_policy
from sonant.cli.context import CliContext, Command, pass_cli
from sonant.cli.credentials import add_profile
from sonant.errors import InvalidObjectName, SetupError
from sonant.iam import ALLOW_ALL
from sonant.settings import Settings
from sonant.storage.keys.stores.local import LocalKeyStore
from sonant.storage.objects.store import ObjectUri
from sonant.storage.objects.stores.local import LocalObjectStore
from sonant.storage.repositories import access

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):role/[A-Za-z0-9+=,.@_/-]{1,576}")


@click.command("import-role", cls=Command)
@click.argument("role_arn")
@click.option(
    "--bucket",
    "buckets",
    multiple=True,
    metavar="NAME",
    help="A bucket that its jobs may use, made if it is missing [default: all of the account].",
)
@click.option("--replace", is_flag=True, help="Replace the policies of a role that has others.")
@pass_cli
def import_role(cli: CliContext, role_arn: str, buckets: tuple[str, ...], replace: bool) -> None:
    """Make the role that an existing integration names as DataAccessRoleArn, and its account if it is new.

    The role gets the rights that a job needs; an account without a user, key or buckets gets them. Doing it
    again changes nothing.
    """
    document, lines = make_role(cli.settings(), role_arn, buckets, replace=replace)
    cli.show(document, lines)


def make_role(
    settings: Settings, arn: str, buckets: Sequence[str], *, replace: bool
) -> tuple[dict[str, object], list[str]]:
    """Make the role and what its account lacks; returns the result as a document and as lines of text.

    Raises SetupError for an ARN that is no role's, and for a role that has other policies, unless `replace`.
    """
    account, buckets = _account(settings, arn), sorted(set(buckets))
    for bucket in buckets:
        try:
            ObjectUri(bucket, "")
        except InvalidObjectName as fault:
            raise SetupError(f"--bucket takes the name of a bucket: {fault}") from None
    document: dict[str, object] = {"RoleArn": arn, "Account": account, "Buckets": buckets}
    store = open_store(settings)
    with store.database.write() as connection:
        _check_account(settings, access.list_principals(connection))
        done = _put_role(store, connection, arn, account, role_policy(buckets), replace=replace)
        lines = [f"{arn} {done}: jobs under it may use {_shown(buckets)} and the keys of account {account}"]
        if account != settings.account:
            lines.append(_put_user(store, connection, account))
    keys = store.backends.keys(account)
    if isinstance(keys, LocalKeyStore):
        if not any(DEFAULT_ALIAS in key.aliases for key in keys.list()):
            keys.create("made with the account's first role", alias=DEFAULT_ALIAS)
        lines.append(f"key for domains of account {account}: {DEFAULT_ALIAS}")
        document["KeyAlias"] = DEFAULT_ALIAS
    if settings.objects == "local":
        folder = store.accounts.buckets(account)
        objects = LocalObjectStore(folder, keys)
        for bucket in buckets:
            objects.create_bucket(bucket)
        lines.append(f"buckets of account {account}: {folder}/")
        document["BucketsFolder"] = str(folder)
    return document, lines


def _account(settings: Settings, arn: str) -> str:
    """Give the account of a role's ARN. Raises SetupError."""
    if settings.assumes_roles:
        raise SetupError(
            f"there is nothing to import: jobs assume {arn} itself, by STS (`objects` is s3 and "
            "`s3.assume_role` is true); its trust policy must let the principal that Sonant runs as do that"
        )
    found = _ROLE_ARN.fullmatch(arn)
    if found is None:
        hint = " (of a session of a role, give the role's own ARN)" if ":assumed-role/" in arn else ""
        raise SetupError(f"{arn!a} is not the ARN of a role, arn:aws:iam::123456789012:role/NAME{hint}")
    return found[1]


def _check_account(settings: Settings, principals: Sequence[str]) -> None:
    """Raise SetupError when the settings name another account than the data folder's.

    Keys and buckets of the first account would be made where the service does not look for them.
    """
    if not any(arn.split(":")[4] == settings.account for arn in principals):
        raise SetupError(
            f"{settings.data} has no user or role of account {settings.account}, which the settings name: "
            "give this command the settings of the service (`account`, SONANT_ACCOUNT)"
        )


def _put_role(
    store: Store, connection: Connection, arn: str, account: str, policy: str, *, replace: bool
) -> str:
    """Make the role, or leave it as it is; returns what was done. Raises SetupError."""
    before = access.policy_texts(connection, arn)
    if before == (policy,):
        return "is there already"
    if before and not replace:
        raise SetupError(
            f"{arn} is there with other policies (`sonant access role policies {arn}` shows them); --replace "
            "gives it these instead"
        )
    access.put_principal(connection, arn, account, [policy], store.clock())
    return "made" if before is None else "given new policies"


def _put_user(store: Store, connection: Connection, account: str) -> str:
    """Make an account's first user, with an access key; returns a sentence about its callers."""
    prefix, path = f"arn:aws:iam::{account}:user/", credentials_file(store.settings)
    known = [arn for arn in access.list_principals(connection) if arn.startswith(prefix)]
    if known:
        return f"callers of account {account}: {', '.join(known)}"
    arn = f"{prefix}sonant"
    access.put_principal(connection, arn, account, [ALLOW_ALL], store.clock())
    key_id, secret = access.create_access_key(connection, store.secret, arn, store.clock())
    # Written before the commit: a key that no file holds would be lost for good.
    add_profile(store, account, key_id, secret)
    return f"{arn} made, who may do everything: profile {account} in {path}"


def _shown(buckets: Sequence[str]) -> str:
    return ", ".join(f"s3://{bucket}" for bucket in buckets) if buckets else "all buckets"
