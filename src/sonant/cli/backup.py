"""`sonant backup` and `sonant restore`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sonant.backup import restore as backup_files
from sonant.backup.create import create
from sonant.backup.deletions import RepeatedDeletions
from sonant.backup.sealed_file import MIN_PASSPHRASE
from sonant.cli.context import CliContext, Command, pass_cli
from sonant.errors import SetupError
from sonant.storage.times import now

PASSPHRASE = "SONANT_BACKUP_PASSPHRASE"  # noqa: S105 - the variable's name
_MAX_KEY_BYTES = 4096

key_file_option = click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File that holds the passphrase [default: $SONANT_BACKUP_PASSPHRASE, else asked for].",
)


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@key_file_option
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
@click.option(
    "--deletions",
    "ledgers",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a deletion ledger, besides that of the settings and the one that the backup names.",
)
@click.option(
    "--later-keys",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder `keys` of the installation since: opens what its ledger recorded after the service key was "
    "rotated.",
)
@click.option(
    "--ignore-later",
    is_flag=True,
    help="Restore although deletions were recorded under a later service key that is lost.",
)
@key_file_option
@pass_cli
def restore(
    cli: CliContext,
    file: Path,
    check: bool,
    ledgers: tuple[Path, ...],
    later_keys: Path | None,
    ignore_later: bool,
    key_file: Path | None,
) -> None:
    """Make a new installation from a backup, on SQLite or PostgreSQL, whichever the settings name.

    What the deletion ledger says was deleted or opted out since the backup is deleted again.
    """
    settings = cli.settings()
    passphrase = read_passphrase(key_file, new=False)
    if check:
        found, repeated = backup_files.check(file, passphrase), None
    else:
        restored = backup_files.restore(
            settings, file, passphrase, ledgers, later_keys=later_keys, ignore_later=ignore_later
        )
        found, repeated = restored.backup, restored.repeated
        _warn(found, repeated)
        if later_keys is not None:
            click.echo(
                "sonant: the rows are still under the former service key: run `sonant key rotate-service`",
                err=True,
            )
    done = "is whole" if repeated is None else f"is restored to {settings.data}"
    lines = [
        f"{file} {done}: made {found.made} by Sonant {found.version}, {found.rows:,} rows, "
        f"{found.files} files"
    ]
    document: dict[str, object] = {
        "File": str(file),
        "Restored": not check,
        "CreatedAt": found.made,
        "Version": found.version,
        "Rows": found.rows,
        "Files": found.files,
    }
    if repeated is not None:
        document["RepeatedDeletions"] = _document(repeated)
        if repeated.ledgers:
            lines.append(_sentence(repeated))
    cli.show(document, lines)


def _document(repeated: RepeatedDeletions) -> dict[str, object]:
    return {
        "Ledgers": repeated.ledgers,
        "SpeakersDeleted": repeated.speakers_deleted,
        "SpeakersOptedOut": repeated.speakers_opted_out,
        "OptOutsRemembered": repeated.opt_outs_remembered,
        "FraudstersDeleted": repeated.fraudsters_deleted,
        "WatchlistsDeleted": repeated.watchlists_deleted,
        "DomainsDeleted": repeated.domains_deleted,
        "DomainsErased": repeated.domains_erased,
        "KeysNotRenewed": repeated.keys_not_renewed,
        "DamagedLines": repeated.damaged_lines,
        "LaterLines": repeated.later_lines,
    }


def _sentence(repeated: RepeatedDeletions) -> str:
    return (
        f"deleted again, as the ledger in {', '.join(repeated.ledgers)} says: "
        f"speakers {repeated.speakers_deleted}, fraudsters {repeated.fraudsters_deleted}, "
        f"watchlists {repeated.watchlists_deleted}, "
        f"domains {repeated.domains_deleted + repeated.domains_erased}; "
        f"opted out again: {repeated.speakers_opted_out}, of people who are not in the backup: "
        f"{repeated.opt_outs_remembered}"
    )


def _warn(found: backup_files.BackupInfo, repeated: RepeatedDeletions) -> None:
    if not repeated.ledgers:
        click.echo(
            "sonant: no deletion ledger was found: whoever was deleted or opted out since "
            f"{found.made} is back; restore again with --deletions FOLDER, or repeat the deletions from the "
            "events (`sonant domain repeat-deletions`)",
            err=True,
        )
    if repeated.damaged_lines:
        click.echo(
            f"sonant: {repeated.damaged_lines} lines of the deletion ledger are damaged, or of another "
            "installation: what they record was not repeated",
            err=True,
        )
    if repeated.keys_not_renewed:
        click.echo(
            f"sonant: {repeated.keys_not_renewed} speakers were opted out whose key could not be renewed; "
            "their voice is deleted",
            err=True,
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
