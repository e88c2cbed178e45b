"""`sonant key …`."""

from __future__ import annotations

from typing import Literal

import click

from sonant.commands.common import table
from sonant.errors import SetupError
from sonant.installation import open_store
from sonant.settings import Settings
from sonant.store.keys import KeyInfo


def create(settings: Settings, alias: str | None, description: str) -> None:
    _print(open_store(settings).keys.create(description, alias))


def show_all(settings: Settings) -> None:
    rows = [(key.key_id, key.state, ", ".join(key.aliases)) for key in open_store(settings).keys.list()]
    click.echo(table(rows, ("KEY ID", "STATE", "ALIASES")))


def show(settings: Settings, ref: str) -> None:
    _print(open_store(settings).keys.describe(ref))


def name(settings: Settings, alias: str, ref: str | None, *, delete: bool) -> None:
    keys = open_store(settings).keys
    if delete:
        keys.delete_alias(alias)
    elif ref is None:
        raise SetupError("name the key that the alias is for: sonant key alias ALIAS KEY")
    else:
        keys.create_alias(alias, ref)
        _print(keys.describe(ref))


def change(settings: Settings, ref: str, what: Literal["disable", "enable", "cancel_deletion"]) -> None:
    _print(getattr(open_store(settings).keys, what)(ref))


def schedule_deletion(settings: Settings, ref: str, days: int) -> None:
    _print(open_store(settings).keys.schedule_deletion(ref, days))


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
