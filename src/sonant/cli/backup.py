"""`sonant backup` and `sonant restore`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sonant.backup.create import create
from sonant.backup.restore import check, restore
from sonant.backup.sealed_file import MIN_PASSPHRASE
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.times import now

PASSPHRASE = "SONANT_BACKUP_PASSPHRASE"  # noqa: S105 - the variable's name
_MAX_KEY_BYTES = 4096


def back_up(settings: Settings, file: Path, key_file: Path | None) -> None:
    """Write a backup. Raises SetupError."""
    if file.exists():
        raise SetupError(f"{file} exists already; choose another name")
    size = create(settings, file, passphrase(key_file, new=True), now)
    click.echo(f"{file}: {size.rows:,} rows, {size.files} files, {size.size_bytes / 1e6:,.1f} MB, sealed")


def put_back(settings: Settings, file: Path, key_file: Path | None, *, only_check: bool) -> None:
    """Restore a backup, or only read it. Raises SetupError."""
    secret = passphrase(key_file, new=False)
    found = check(file, secret) if only_check else restore(settings, file, secret)
    done = "is whole" if only_check else f"is restored to {settings.data}"
    click.echo(
        f"{file} {done}: made {found.made} by Sonant {found.version}, {found.rows:,} rows, "
        f"{found.files} files"
    )


def passphrase(key_file: Path | None, *, new: bool) -> bytes:
    """From a file, the environment, or asked for. Raises SetupError."""
    if key_file is not None:
        try:
            with key_file.open("rb") as file:
                found = file.read(_MAX_KEY_BYTES).strip()
        except OSError as fault:
            raise SetupError(f"{key_file} cannot be read: {fault.strerror}") from None
    elif PASSPHRASE in os.environ:
        found = os.environ[PASSPHRASE].encode()
    else:
        try:
            found = click.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True).encode()
        except click.Abort:
            raise SetupError(f"a passphrase is needed: --key-file, {PASSPHRASE}, or typed in") from None
    if len(found) < MIN_PASSPHRASE:
        raise SetupError(f"the passphrase must have {MIN_PASSPHRASE} characters or more")
    return bytes(found)
