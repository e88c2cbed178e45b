"""`sonant access …`."""

from __future__ import annotations

import configparser
import io
import re

import click

from sonant.commands.common import table
from sonant.errors import SetupError
from sonant.installation import Store, credentials_file, open_store, user_arn, write_private
from sonant.settings import Settings
from sonant.store import access

#: No more than every AWS tool reads as the name of a section.
_PROFILE = re.compile(r"[a-zA-Z0-9._@+-]{1,64}")


def create(settings: Settings, profile: str | None) -> None:
    if profile is not None and (not _PROFILE.fullmatch(profile) or profile == configparser.DEFAULTSECT):
        raise SetupError("a profile's name has only the characters a-z A-Z 0-9 . _ @ + -, and is not DEFAULT")
    store = open_store(settings)
    with store.database.write() as connection:
        key_id, secret = access.create_access_key(connection, store.secret, user_arn(settings), store.clock())
        if profile is not None:
            _add_profile(store, profile, key_id, secret)
    click.echo(f"aws_access_key_id     {key_id}\naws_secret_access_key {secret}")


def show_all(settings: Settings) -> None:
    store = open_store(settings)
    with store.database.read() as connection:
        keys = access.list_access_keys(connection)
    rows = [
        (
            key.access_key_id,
            "active" if key.active else "disabled",
            f"{key.created_at:%Y-%m-%d %H:%M}",
            key.principal_arn,
        )
        for key in keys
    ]
    click.echo(table(rows, ("ACCESS KEY", "STATE", "CREATED (UTC)", "PRINCIPAL")))


def set_active(settings: Settings, access_key_id: str, *, active: bool) -> None:
    store = open_store(settings)
    with store.database.write() as connection:
        if not access.set_active(connection, access_key_id, active):
            raise SetupError(f"there is no access key {access_key_id}; see `sonant access list`")
    click.echo(f"{access_key_id} is {'active' if active else 'disabled'}")


def _add_profile(store: Store, profile: str, key_id: str, secret: str) -> None:
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
