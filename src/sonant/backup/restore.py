"""Restores backups: a backup is read and checked as a whole before anything is written."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Table, func, insert, select, text

from sonant.assembly.audit_trail import rebuild_key_files
from sonant.assembly.installation import adopt_later_keys, check_service_key, ledger_key, open_database
from sonant.backup import sealed_file
from sonant.backup.create import FORMAT, tables, without_time_limits
from sonant.backup.deletions import RepeatedDeletions, repeat_deletions
from sonant.errors import SetupError
from sonant.retention import ledger
from sonant.retention.ledger import DeletionLedger, LedgerEntry
from sonant.settings import Settings
from sonant.storage.backends import Backends, local_accounts
from sonant.storage.crypto.service_secret import ServiceSecret
from sonant.storage.database.engine import Database
from sonant.storage.database.row_macs import RowMacs
from sonant.storage.times import now

_BATCH_ROWS = 200
_MAX_DEPTH, _MAX_NAME_BYTES = 12, 255


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupInfo:
    """The facts of a backup that was read to its end."""

    version: str
    schema: str
    made: str
    account: str
    keys: str
    rows: int
    files: int
    deletions: str = ""
    """The folder of the deletion ledger when the backup was made; empty when there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOutcome:
    """A backup that was restored, and what was deleted again."""

    backup: BackupInfo
    repeated: RepeatedDeletions


def check(path: Path, passphrase: bytes) -> BackupInfo:
    """Read a backup to its end and write nothing. Raises SetupError."""
    return _read_into(path, passphrase, _Checker())


def restore(
    settings: Settings,
    path: Path,
    passphrase: bytes,
    ledgers: Sequence[Path] = (),
    clock: Callable[[], datetime] = now,
    *,
    later_keys: Path | None = None,
    ignore_later: bool = False,
) -> BackupOutcome:
    """Restore a backup as the installation of the settings, and repeat the deletions since.

    They are read from the ledgers in these folders, in that of the settings, and in that which the backup
    names. `later_keys` is the folder `keys` of the installation since, for deletions that were recorded after
    a rotation of the service key; `ignore_later` does without them. Raises SetupError, and then changes
    nothing.
    """
    found = check(path, passphrase)
    if found.account != settings.account:
        raise SetupError(f"the backup is of account {found.account}: set `account` to it")
    if found.keys != settings.keys:
        raise SetupError(f"the backup's keys are in {found.keys!r}: set `keys` to it")
    data = settings.data
    own_ledger = settings.ledger_folder if settings.ledger_folder.parent == data else None
    if data.exists() and (not data.is_dir() or any(entry != own_ledger for entry in data.iterdir())):
        raise SetupError(f"{data} is not empty; restore into a new data folder")
    unfinished = data.absolute().with_name(f".{data.name}.{secrets.token_hex(4)}")
    try:
        unfinished.mkdir(mode=0o700, parents=True)
        with _new_database(settings, unfinished) as (database, connection):
            _check_schema(connection, found)
            writer = _Writer(connection, unfinished)
            _read_into(path, passphrase, writer)
            writer.finish()
            own = replace(settings, data=unfinished)
            secret = check_service_key(connection, own)
            if later_keys is not None:
                adopt_later_keys(connection, own, later_keys, clock())
                secret = check_service_key(connection, own)
            database.check_rows_by(RowMacs(secret))
            folders = [
                *ledgers,
                settings.ledger_folder,
                *([Path(found.deletions)] if found.deletions else []),
            ]
            repeated = _repeat_deletions(connection, settings, unfinished, secret, folders, clock)
            if repeated.later_lines and not ignore_later:
                raise SetupError(
                    f"{repeated.later_lines} deletions were recorded after a rotation of the service key, "
                    "under a key that the backup does not have: give the folder `keys` of the installation "
                    "with --later-keys, or do without these deletions with --ignore-later"
                )
            rebuild_key_files(replace(settings, data=unfinished), secret)
            if not settings.embedded:
                _put_in_place(unfinished, data)
        if settings.embedded:
            _put_in_place(unfinished, data)
    except OSError as fault:
        raise SetupError(f"{data} cannot be restored: {fault.strerror}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return BackupOutcome(backup=found, repeated=repeated)


def _repeat_deletions(
    connection: Connection,
    settings: Settings,
    unfinished: Path,
    secret: ServiceSecret,
    folders: Sequence[Path],
    clock: Callable[[], datetime],
) -> RepeatedDeletions:
    """Repeat the deletions of all ledgers, and let the new installation's own ledger have them all."""
    key, done = ledger_key(secret), RepeatedDeletions()
    entries: dict[str, LedgerEntry] = {}
    for folder in dict.fromkeys(one.absolute() for one in folders):
        contents = ledger.read(folder, key)
        if contents.entries or contents.damaged or contents.later:
            done.ledgers.append(str(folder))
            done.damaged_lines += len(contents.damaged)
            done.later_lines += len(contents.later)
        entries |= {entry.entry: entry for entry in contents.entries}
    accounts = local_accounts(replace(settings, data=unfinished), clock)
    keys_of = Backends(replace(settings, data=unfinished), accounts).keys
    repeat_deletions(connection, entries.values(), key, keys_of, clock, done)
    if settings.deletions.ledger:
        own = settings.ledger_folder.absolute()
        inside = own.is_relative_to(settings.data.absolute())
        target = unfinished / own.relative_to(settings.data.absolute()) if inside else own
        present = {entry.entry for entry in ledger.read(target, key).entries}
        DeletionLedger(target, key).append(
            entry
            for entry in sorted(entries.values(), key=lambda entry: entry.at)
            if entry.entry not in present
        )
    return done


def _put_in_place(unfinished: Path, data: Path) -> None:
    """Give the finished folder its name. A ledger that lies there is part of the new one already."""
    if not data.exists():
        unfinished.rename(data)
        return
    replaced = unfinished.with_name(f"{unfinished.name}.replaced")
    data.rename(replaced)
    try:
        unfinished.rename(data)
    except OSError:
        replaced.rename(data)
        raise
    shutil.rmtree(replaced)


@contextmanager
def _new_database(settings: Settings, unfinished: Path) -> Iterator[tuple[Database, Connection]]:
    """Open a transaction on the new database: in the unfinished folder, or on an empty PostgreSQL."""
    settings = without_time_limits(settings)
    if settings.embedded:
        settings = replace(settings, data=unfinished)
    database: Database = open_database(settings)
    try:
        if settings.embedded:
            database.migrate()
        else:
            database.check_schema()
        with database.write() as connection:
            for table in tables():
                if connection.execute(select(func.count()).select_from(table)).scalar_one():
                    raise SetupError(
                        f"the database has rows in {table.name}: restore into a new one "
                        "(createdb, sonant migrate)"
                    )
            yield database, connection
    finally:
        database.close()


def _check_schema(connection: Connection, found: BackupInfo) -> None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision != found.schema:
        raise SetupError(
            f"the backup was made by Sonant {found.version}, whose tables are others (schema {found.schema}, "
            f"here {revision}): restore it with that release, then upgrade"
        )


class _Checker:
    """Checks rows and files, and writes nothing."""

    def row(self, table: Table, columns: list[str], values: list[Any]) -> None:
        if len(values) != len(columns):
            raise ValueError("a row of another length")
        for value in values:
            sealed_file.from_json(value)

    def file(self, name: str, chunks: Iterable[bytes]) -> None:
        for _ in chunks:
            pass


class _Writer(_Checker):
    """Writes rows in a transaction and files in a folder."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self._connection, self._folder = connection, folder
        self._table: Table | None = None
        self._buffer: list[dict[str, Any]] = []

    def row(self, table: Table, columns: list[str], values: list[Any]) -> None:
        if table is not self._table or len(self._buffer) >= _BATCH_ROWS:
            self._flush()
            self._table = table
        row = zip(columns, values, strict=True)
        self._buffer.append({name: sealed_file.from_json(value) for name, value in row})

    def file(self, name: str, chunks: Iterable[bytes]) -> None:
        path = self._folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Write the last rows, and set sequences to continue after the highest numbers."""
        self._flush()
        if self._connection.dialect.name != "postgresql":
            return
        for table in tables():
            column = table.autoincrement_column
            if column is not None:
                last = self._connection.execute(select(func.max(column))).scalar_one()
                if last is not None:
                    sequence = text("SELECT setval(pg_get_serial_sequence(:of, :in), :last)")
                    values = {"of": table.name, "in": column.name, "last": last}
                    self._connection.execute(sequence, values)

    def _flush(self) -> None:
        if self._buffer and self._table is not None:
            self._connection.execute(insert(self._table), self._buffer)
        self._buffer = []


def _read_into(path: Path, passphrase: bytes, writer: _Checker) -> BackupInfo:
    """Read a backup, and pass its rows and files to `writer`. Raises SetupError."""
    lines = sealed_file.read(path, passphrase)
    known = {table.name: table for table in tables()}
    try:
        head = next(lines, None)
        if not isinstance(head, dict) or head.get("sonant-backup") != FORMAT:
            raise ValueError("it has another format")
        table, columns, rows, files, end = None, [], 0, 0, None
        for line in lines:
            if end is not None:
                raise ValueError("something follows its end")
            if isinstance(line, list) and table is not None:
                writer.row(table, columns, line)
                rows += 1
            elif "table" in line:
                table, columns = known[line["table"]], [str(name) for name in line["columns"]]
                if set(columns) - set(table.columns.keys()):
                    raise ValueError(f"columns of {table.name} that this release does not know")
            elif "file" in line:
                table = None
                writer.file(_checked_name(line["file"]), _chunks(lines, int(line["bytes"])))
                files += 1
            elif "end" in line:
                end = line["end"]
            else:
                raise ValueError("an unknown line")
        if end != {"rows": rows, "files": files}:
            raise ValueError("it is incomplete")
        return BackupInfo(
            version=str(head["version"]),
            schema=str(head["schema"]),
            made=str(head["made"]),
            account=str(head["account"]),
            keys=str(head["keys"]),
            deletions=str(head.get("deletions", "")),
            rows=rows,
            files=files,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise SetupError(f"{path} is not a backup that this release can read: {fault}") from None


def _chunks(lines: Iterator[Any], size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = base64.b64decode(next(lines)["b"], validate=True)
        if not chunk or len(chunk) > size:
            raise ValueError("a file of another size")
        size -= len(chunk)
        yield chunk


def _checked_name(name: str) -> str:
    """Return a file's name in the data folder. Raises ValueError for one outside of it."""
    path = PurePosixPath(name)
    parts = path.parts
    if path.is_absolute() or not 1 <= len(parts) <= _MAX_DEPTH or name != path.as_posix():
        raise ValueError("a file outside of the data folder")
    for part in parts:
        if part in (".", "..") or len(part.encode()) > _MAX_NAME_BYTES or "\0" in part or "\\" in part:
            raise ValueError("a file outside of the data folder")
    if parts[0].startswith("sonant.db"):
        raise ValueError("a file with the database's name")
    return name
