"""`sonant backup` and `sonant restore`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sonant.backup import restore as backup_files
from sonant.backup.create import create
from sonant.backup.sealed_file import MIN_PASSPHRASE
from sonant.cli.context import CliContext, Command, pass_cli
from sonant.errors import SetupError
from sonant.storage.times import now

PASSPHRASE = "SONANT_BACKUP_PASSPHRASE"  # noqa: S105 - the variable's name
_MAX_KEY_BYTES = 4096

_key_file_option = click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File that holds the passphrase [default: $SONANT_BACKUP_PASSPHRASE, else asked for].",
)


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@_key_file_option
@pass_cli
def backup(cli: CliContext, file: Path, key_file: Path | None) -> None:
    """Write an encrypted backup of database, keys, models and audit trail; the service may run."""
    settings = cli.settings()
    if file.exists():
        raise SetupError(f"{file} exists already; choose another name")
    size = create(settings, file, read_passphrase(key_file, new=True), now)
    cli.show(
        {"File": str(file), "Rows": size.rows, "Files": size.files, "Bytes": size.size_bytes},
        f"{file}: {size.rows:,} rows, {size.files} files, {size.size_bytes / 1e6:,.1f} MB, sealed",
    )


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only read the backup to its end.")
@_key_file_option
@pass_cli
def restore(cli: CliContext, file: Path, check: bool, key_file: Path | None) -> None:
    """Make a new installation from a backup, on SQLite or PostgreSQL, whichever the settings name."""
    settings = cli.settings()
    passphrase = read_passphrase(key_file, new=False)
    found = (
        backup_files.check(file, passphrase) if check else backup_files.restore(settings, file, passphrase)
    )
    done = "is whole" if check else f"is restored to {settings.data}"
    cli.show(
        {
            "File": str(file),
            "Restored": not check,
            "CreatedAt": found.made,
            "Version": found.version,
            "Rows": found.rows,
            "Files": found.files,
        },
        f"{file} {done}: made {found.made} by Sonant {found.version}, {found.rows:,} rows, "
        f"{found.files} files",
    )


def read_passphrase(key_file: Path | None, *, new: bool) -> bytes:
    """Read the passphrase from a file or the environment, or ask for it. Raises SetupError.

    A `new` passphrase is asked for twice.
    """
    if key_file is not None:
        try:
            with key_file.open("rb") as file:
                passphrase = file.read(_MAX_KEY_BYTES).strip()
        except OSError as fault:
            raise SetupError(f"{key_file} cannot be read: {fault.strerror}") from None
    elif PASSPHRASE in os.environ:
        passphrase = os.environ[PASSPHRASE].encode()
    else:
        try:
            passphrase = click.prompt(
                "Passphrase", hide_input=True, confirmation_prompt=new, err=True
            ).encode()
        except click.Abort:
            raise SetupError(f"a passphrase is needed: --key-file, {PASSPHRASE}, or typed in") from None
    if len(passphrase) < MIN_PASSPHRASE:
        raise SetupError(f"the passphrase must have {MIN_PASSPHRASE} characters or more")
    return passphrase
