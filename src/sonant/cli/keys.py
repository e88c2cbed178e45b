"""`sonant key …`."""

from __future__ import annotations

from typing import Literal

import click

from sonant.assembly.installation import lost_keys, open_store
from sonant.cli import key_rotation
from sonant.cli.common import table
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.backends import key_back_end
from sonant.storage.keys.local import LocalKeyStore
from sonant.storage.keys.store import KeyInfo, printable


def create(settings: Settings, account: str | None, alias: str | None, description: str) -> None:
    _print(_keys(settings, account, make=True).create(description, alias))


def show_all(settings: Settings, account: str | None) -> None:
    keys = _keys(settings, account).list()
    rows = [(key.key_id, key.state, ", ".join(key.aliases)) for key in keys]
    click.echo(table(rows, ("KEY ID", "STATE", "ALIASES")))


def show(settings: Settings, account: str | None, ref: str) -> None:
    _print(_keys(settings, account).describe(ref))


def name(settings: Settings, account: str | None, alias: str, ref: str | None, *, delete: bool) -> None:
    keys = _keys(settings, account)
    if delete:
        keys.delete_alias(alias)
    elif ref is None:
        raise SetupError("name the key that the alias is for: sonant key alias ALIAS KEY")
    else:
        keys.create_alias(alias, ref)
        _print(keys.describe(ref))


def change(
    settings: Settings, account: str | None, ref: str, what: Literal["disable", "enable", "cancel_deletion"]
) -> None:
    _print(getattr(_keys(settings, account), what)(ref))


def schedule_deletion(settings: Settings, account: str | None, ref: str, days: int) -> None:
    _print(_keys(settings, account).schedule_deletion(ref, days))


def accept_loss(settings: Settings, account: str | None, ref: str) -> None:
    keys = _keys(settings, account, may_lack=True)
    store = open_store(settings, keys_may_lack=True)
    with store.database.read() as connection:
        lost = lost_keys(store.accounts, connection)
    if (account or settings.account, ref) not in {(of, loss.key_id) for of, loss in lost}:
        raise SetupError(f"key {printable(ref)} is not one that a domain of this account has lost")
    key_id = keys.accept_loss(ref)
    click.echo(
        f"key {key_id} counts as destroyed: Sonant starts without it, and what it seals stays unreadable "
        "unless its file is put back"
    )


def rotate(settings: Settings, account: str | None, ref: str, *, forget: bool) -> None:
    keys, store = _keys(settings, account), open_store(settings)
    try:
        (key_rotation.forget_earlier if forget else key_rotation.rotate)(
            store, keys, account or settings.account, ref
        )
    finally:
        store.database.close()


def _keys(
    settings: Settings, account: str | None, *, make: bool = False, may_lack: bool = False
) -> LocalKeyStore:
    """An account's key store; the first account's when none is named. Raises SetupError.

    Only `make` begins one for an account that has none: a mistyped account must not leave a folder behind.
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


def _print(key: KeyInfo) -> None:
    rows = [
        ("KeyId", key.key_id),
        ("Arn", key.arn),
        ("State", key.state),
        ("Aliases", ", ".join(key.aliases) or "-"),
        ("Description", key.description or "-"),
        ("CreatedAt", f"{key.created_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    if key.deletion_date is not None:
        rows.append(("DeletionDate", f"{key.deletion_date:%Y-%m-%d %H:%M:%S} UTC"))
    click.echo("\n".join(f"{label:<13} {value}" for label, value in rows))
