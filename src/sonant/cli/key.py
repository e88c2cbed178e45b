"""`sonant key ...`: the keys that domains and result files are encrypted under, and those of templates."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, Literal, get_args

import click

from sonant.assembly.installation import key_wrapping, lost_keys, open_store, service_key_rotation
from sonant.assembly.installation.service_key_files import NEXT_FILE
from sonant.cli import key_rotation
from sonant.cli.context import CliContext, Group, account_option, pass_cli, table, yes_option
from sonant.cli.template_renewal import renew_templates
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.backends import key_back_end
from sonant.storage.keys.store import KeyInfo, printable
from sonant.storage.keys.stores.local import LocalKeyStore
from sonant.storage.keys.wrapping import WrappedBy

key = Group("key", help="Manage the keys that encrypt domains and results, in files or in a token.")


@key.command("create")
@click.option("--alias", help="A name for it, such as alias/calls.")
@click.option("--description", default="")
@account_option
@pass_cli
def create(cli: CliContext, alias: str | None, description: str, account: str | None) -> None:
    """Make a symmetric key."""
    _show(cli, open_key_store(cli.settings(), account, make=True).create(description, alias))


@key.command("list")
@account_option
@pass_cli
def list_keys(cli: CliContext, account: str | None) -> None:
    """List all keys with state and aliases."""
    keys = open_key_store(cli.settings(), account).list()
    rows = [(one.key_id, one.state, ", ".join(one.aliases)) for one in keys]
    cli.show({"Keys": [_document(one) for one in keys]}, table(rows, ("KEY ID", "STATE", "ALIASES")))


@key.command("describe")
@click.argument("key_ref", metavar="KEY")
@account_option
@pass_cli
def describe(cli: CliContext, key_ref: str, account: str | None) -> None:
    """Show one key, by id, ARN or alias."""
    _show(cli, open_key_store(cli.settings(), account).describe(key_ref))


@key.command("alias")
@click.argument("alias")
@click.argument("key_ref", metavar="KEY", required=False)
@click.option("--delete", is_flag=True, help="Delete the alias; the key stays.")
@account_option
@pass_cli
def set_alias(cli: CliContext, alias: str, key_ref: str | None, delete: bool, account: str | None) -> None:
    """Name a key."""
    keys = open_key_store(cli.settings(), account)
    if delete:
        keys.delete_alias(alias)
        cli.show({"Deleted": alias}, ())
    elif key_ref is None:
        raise SetupError("name the key that the alias is for: sonant key alias ALIAS KEY")
    else:
        keys.create_alias(alias, key_ref)
        _show(cli, keys.describe(key_ref))


@key.command("disable")
@click.argument("key_ref", metavar="KEY")
@account_option
@pass_cli
def disable(cli: CliContext, key_ref: str, account: str | None) -> None:
    """Refuse every use of a key from now on; data under it cannot be read until it is enabled again."""
    _change(cli, key_ref, account, "disable")


@key.command("enable")
@click.argument("key_ref", metavar="KEY")
@account_option
@pass_cli
def enable(cli: CliContext, key_ref: str, account: str | None) -> None:
    """Allow the use of a disabled key again."""
    _change(cli, key_ref, account, "enable")


@key.command("rotate")
@click.argument("key_ref", metavar="KEY")
@click.option(
    "--forget-earlier", is_flag=True, help="Destroy what earlier rotations have left, instead of rotating."
)
@account_option
@yes_option
@pass_cli
def rotate(cli: CliContext, key_ref: str, forget_earlier: bool, account: str | None, yes: bool) -> None:
    """Give a key new material and wrap all data keys under it anew; no data is encrypted again."""
    settings = cli.settings()
    keys, store = open_key_store(settings, account), open_store(settings)
    try:
        if forget_earlier:
            cli.confirm(f"This destroys the earlier material of the key {printable(key_ref)}", yes=yes)
            destroyed = key_rotation.forget_earlier(store, keys, account or settings.account, key_ref)
            cli.show(
                {"KeyArn": destroyed.key_arn, "RotationsForgotten": destroyed.rotations},
                f"{destroyed.key_arn}: earlier material of {destroyed.rotations} rotations destroyed; "
                "it opens no domain of an earlier backup",
            )
        else:
            rotated = key_rotation.rotate(store, keys, account or settings.account, key_ref)
            cli.show(
                {"KeyArn": rotated.key_arn, "DomainsWrapped": rotated.domains},
                f"{rotated.key_arn} has new material; the data keys of {rotated.domains} domains are wrapped "
                "under it. The earlier material stays for sealed objects and backups; --forget-earlier "
                "destroys it",
            )
    finally:
        store.database.close()


@key.command("rotate-service")
@click.option(
    "--leaked",
    is_flag=True,
    help="Accept nothing more from the former key: users of the console sign in again.",
)
@click.option(
    "--prepare",
    is_flag=True,
    help="Only write keys/service.key.next, to be copied to the data folders of other hosts first.",
)
@pass_cli
def rotate_service(cli: CliContext, leaked: bool, prepare: bool) -> None:
    """Renew the service's own key (service.key); the service may run.

    Rows get new MACs, secrets of access keys are sealed anew. If it is interrupted, the next call goes on.
    """
    settings = cli.settings()
    if prepare:
        with closing(open_store(settings).database):
            pass  # the keys are those of the database
        made = service_key_rotation.prepare(settings)
        cli.show(
            {"KeyId": made.key_id, "Prepared": True},
            f"the next service key {made.key_id} is in {settings.data / 'keys' / NEXT_FILE}: copy it to "
            "`keys` of the other hosts, then run `sonant key rotate-service`",
        )
        return
    store = open_store(settings)
    with closing(store.database):
        made = service_key_rotation.rotate(store, leaked=leaked)
    cli.show(
        {"KeyId": made.key_id, "RowsBound": made.rows, "AccessKeysSealed": made.access_keys},
        (
            f"the service key is {made.key_id}: {made.rows} rows have new MACs, the secrets of "
            f"{made.access_keys} access keys are sealed anew",
            "make a backup now: with an earlier one, a restore needs `keys` of this folder for the deletions "
            "that are recorded from now on",
            *(("renew the access keys too: who had the key could read their secrets",) if leaked else ()),
        ),
    )


@key.command("wrap")
@click.option(
    "--by",
    type=click.Choice(get_args(WrappedBy)),
    required=True,
    help="What encrypts them: a passphrase, or a systemd credential of at least 32 random bytes.",
)
@click.option(
    "--former-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the secret until now, when only the secret changes.",
)
@pass_cli
def wrap(cli: CliContext, by: WrappedBy, former_file: Path | None) -> None:
    """Encrypt service.key and the files of local keys under a secret that is not beside them.

    The secret is that of the settings `key_wrapping`. Every process must have it: set it and restart the
    service first.
    """
    settings = cli.settings()
    if former_file is not None:
        former = former_file.read_bytes()
        key_wrapping.change_secret(settings, by, former.strip() if by == "passphrase" else former)
    store = open_store(settings)
    with closing(store.database):
        written = key_wrapping.wrap_keys(store, by)
    cli.show(
        {"FilesEncrypted": written, "By": by},
        f"{written} key files are encrypted under the {by}; without it nothing starts, and a backup needs it "
        "beside its own passphrase: keep it where backups are not",
    )


@key.command("unwrap")
@yes_option
@pass_cli
def unwrap(cli: CliContext, yes: bool) -> None:
    """Write service.key and the files of local keys unencrypted again."""
    store = open_store(cli.settings())
    cli.confirm("This writes all local keys to the disk as they are", yes=yes)
    with closing(store.database):
        written = key_wrapping.unwrap_keys(store)
    cli.show({"FilesDecrypted": written}, f"{written} key files are not encrypted any more")


@key.command("accept-loss")
@click.argument("key_id", metavar="KEY_ID")
@account_option
@pass_cli
def accept_loss(cli: CliContext, key_id: str, account: str | None) -> None:
    """Let Sonant start without a key that is missing and in no backup.

    Nothing is destroyed; the key's file may be put back.
    """
    settings = cli.settings()
    keys = open_key_store(settings, account, may_lack=True)
    store = open_store(settings, keys_may_lack=True)
    with store.database.read() as connection:
        lost = lost_keys(store.accounts, connection)
    if (account or settings.account, key_id) not in {(owner, loss.key_id) for owner, loss in lost}:
        raise SetupError(f"key {printable(key_id)} is not one that a domain of this account has lost")
    accepted = keys.accept_loss(key_id)
    cli.show(
        {"KeyId": accepted, "LossAccepted": True},
        f"key {accepted} counts as destroyed: Sonant starts without it, and what it seals stays unreadable "
        "unless its file is put back",
    )


@key.command("schedule-deletion")
@click.argument("key_ref", metavar="KEY")
@click.option("--days", type=int, default=30, show_default=True, help="7 to 30.")
@account_option
@yes_option
@pass_cli
def schedule_deletion(cli: CliContext, key_ref: str, days: int, account: str | None, yes: bool) -> None:
    """Disable a key now and destroy it in some days; data under it is lost for good then."""
    keys = open_key_store(cli.settings(), account)
    cli.confirm(
        f"This disables the key {printable(key_ref)} and destroys it in {days} days, with all data under it",
        yes=yes,
    )
    _show(cli, keys.schedule_deletion(key_ref, days))


@key.command("cancel-deletion")
@click.argument("key_ref", metavar="KEY")
@account_option
@pass_cli
def cancel_deletion(cli: CliContext, key_ref: str, account: str | None) -> None:
    """Keep a key that is pending deletion; it stays disabled."""
    _change(cli, key_ref, account, "cancel_deletion")


key.add_command(renew_templates)


def _change(
    cli: CliContext,
    key_ref: str,
    account: str | None,
    method: Literal["disable", "enable", "cancel_deletion"],
) -> None:
    _show(cli, getattr(open_key_store(cli.settings(), account), method)(key_ref))


def open_key_store(
    settings: Settings, account: str | None, *, make: bool = False, may_lack: bool = False
) -> LocalKeyStore:
    """Open an account's key store; the first account's when none is named. Raises SetupError.

    Only with `make` may the account be one without keys: a mistyped account must not leave a folder behind.
    With `may_lack`, keys may be missing that domains need.
    """
    if elsewhere := key_back_end(settings).administered:
        raise SetupError(f"the keys of this service live {elsewhere}")
    store = open_store(settings, keys_may_lack=may_lack)
    if account is None:
        return store.accounts.keys(settings.account)
    if len(account) != 12 or not (account.isascii() and account.isdigit()):
        raise SetupError(f"an account id has 12 digits, {account!r} has not")
    if not (make or may_lack) and account not in store.accounts.known():
        raise SetupError(
            f"account {account} has no keys; make one with `sonant key create --account {account}`"
        )
    return store.accounts.keys(account)


def _document(info: KeyInfo) -> dict[str, Any]:
    return {
        "KeyId": info.key_id,
        "Arn": info.arn,
        "State": info.state,
        "Aliases": list(info.aliases),
        "Description": info.description,
        "CreatedAt": info.created_at,
        "DeletionDate": info.deletion_date,
    }


def _show(cli: CliContext, info: KeyInfo) -> None:
    rows = [
        ("KeyId", info.key_id),
        ("Arn", info.arn),
        ("State", info.state),
        ("Aliases", ", ".join(info.aliases) or "-"),
        ("Description", info.description or "-"),
        ("CreatedAt", f"{info.created_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    if info.deletion_date is not None:
        rows.append(("DeletionDate", f"{info.deletion_date:%Y-%m-%d %H:%M:%S} UTC"))
    cli.show({"Key": _document(info)}, [f"{label:<13} {value}" for label, value in rows])
