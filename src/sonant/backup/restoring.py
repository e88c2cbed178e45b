"""A new installation out of a backup: all of it is read and checked once before anything is put in place."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Table, func, insert, select, text

from sonant.assembly.installation import check_service_key, open_database
from sonant.backup import sealed_file
from sonant.backup.making import FORMAT, tables, unbounded
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.database.engine import Database

_ROWS_AT_ONCE = 200
_DEEPEST, _LONGEST_NAME = 12, 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a backup that was read to its end says of itself."""

    version: str
    schema: str
    made: str
    account: str
    keys: str
    rows: int
    files: int


def check(path: Path, passphrase: bytes) -> Checked:
    """Read a backup to its end, and put nothing anywhere. Raises SetupError."""
    return _take_in(path, passphrase, _Nowhere())


def restore(settings: Settings, path: Path, passphrase: bytes) -> Checked:
    """Make the installation that the settings name. Raises SetupError; then all is as it was before."""
    found = check(path, passphrase)
    if found.account != settings.account:
        raise SetupError(f"the backup is of account {found.account}: set `account` to it")
    if found.keys != settings.keys:
        raise SetupError(f"the backup's keys are in {found.keys!r}: set `keys` to it")
    data = settings.data
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise SetupError(f"{data} is not empty; restore into a new data folder")
    unfinished = data.absolute().with_name(f".{data.name}.{secrets.token_hex(4)}")
    try:
        unfinished.mkdir(mode=0o700, parents=True)
        with _filled(settings, unfinished) as connection:
            _check_schema(connection, found)
            place = _Installation(connection, unfinished)
            _take_in(path, passphrase, place)
            place.finish()
            check_service_key(connection, unfinished)
            if data.exists():
                data.rmdir()
            if not settings.embedded:
                unfinished.rename(data)
        if settings.embedded:
            unfinished.rename(data)
    except OSError as fault:
        raise SetupError(f"{data} cannot be restored: {fault.strerror}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return found


@contextmanager
def _filled(settings: Settings, unfinished: Path) -> Iterator[Connection]:
    """A transaction on the new database: in the unfinished folder, or on an empty PostgreSQL."""
    settings = unbounded(settings)
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
            yield connection
    finally:
        database.close()


def _check_schema(connection: Connection, found: Checked) -> None:
    there = MigrationContext.configure(connection).get_current_revision()
    if there != found.schema:
        raise SetupError(
            f"the backup was made by Sonant {found.version}, whose tables are others (schema {found.schema}, "
            f"here {there}): restore it with that release, then upgrade"
        )


class _Nowhere:
    """Looks at everything and keeps nothing."""

    def row(self, table: Table, columns: list[str], values: list[Any]) -> None:
        if len(values) != len(columns):
            raise ValueError("a row of another length")
        for value in values:
            sealed_file.unpacked(value)

    def file(self, name: str, pieces: Iterable[bytes]) -> None:
        for _ in pieces:
            pass


class _Installation(_Nowhere):
    """Puts rows into a transaction and files into a folder."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self._connection, self._folder = connection, folder
        self._table: Table | None = None
        self._waiting: list[dict[str, Any]] = []

    def row(self, table: Table, columns: list[str], values: list[Any]) -> None:
        if table is not self._table or len(self._waiting) >= _ROWS_AT_ONCE:
            self._flush()
            self._table = table
        row = zip(columns, values, strict=True)
        self._waiting.append({name: sealed_file.unpacked(value) for name, value in row})

    def file(self, name: str, pieces: Iterable[bytes]) -> None:
        path = self._folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """What is left of the rows; and numbers go on where they were."""
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
        if self._waiting and self._table is not None:
            self._connection.execute(insert(self._table), self._waiting)
        self._waiting = []


def _take_in(path: Path, passphrase: bytes, place: _Nowhere) -> Checked:
    """Read a backup into a place. Raises SetupError."""
    lines = sealed_file.read(path, passphrase)
    known = {table.name: table for table in tables()}
    try:
        head = next(lines, None)
        if not isinstance(head, dict) or head.get("sonant-backup") != FORMAT:
            raise ValueError("it is of another form")
        table, columns, rows, files, end = None, [], 0, 0, None
        for line in lines:
            if end is not None:
                raise ValueError("something follows its end")
            if isinstance(line, list) and table is not None:
                place.row(table, columns, line)
                rows += 1
            elif "table" in line:
                table, columns = known[line["table"]], [str(name) for name in line["columns"]]
                if set(columns) - set(table.columns.keys()):
                    raise ValueError(f"columns of {table.name} that this release does not know")
            elif "file" in line:
                table = None
                place.file(_inside(line["file"]), _pieces(lines, int(line["bytes"])))
                files += 1
            elif "end" in line:
                end = line["end"]
            else:
                raise ValueError("a line that means nothing")
        if end != {"rows": rows, "files": files}:
            raise ValueError("it is not whole")
        return Checked(
            version=str(head["version"]),
            schema=str(head["schema"]),
            made=str(head["made"]),
            account=str(head["account"]),
            keys=str(head["keys"]),
            rows=rows,
            files=files,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise SetupError(f"{path} is no backup that this release understands: {fault}") from None


def _pieces(lines: Iterator[Any], size: int) -> Iterator[bytes]:
    while size > 0:
        piece = base64.b64decode(next(lines)["b"], validate=True)
        if not piece or len(piece) > size:
            raise ValueError("a file of another size")
        size -= len(piece)
        yield piece


def _inside(name: str) -> str:
    """A file's name within the data folder. Raises ValueError for one that leads out of it."""
    path = PurePosixPath(name)
    parts = path.parts
    if path.is_absolute() or not 1 <= len(parts) <= _DEEPEST or name != path.as_posix():
        raise ValueError("a file outside of the data folder")
    for part in parts:
        if part in (".", "..") or len(part.encode()) > _LONGEST_NAME or "\0" in part or "\\" in part:
            raise ValueError("a file outside of the data folder")
    if parts[0].startswith("sonant.db"):
        raise ValueError("a file in the database's place")
    return name
