"""What a backup holds: every row, as of one moment, and the files of the data folder.

The rows are read in one transaction that sees no later change. The files are read after it: a key that a row
needs was there before the row.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Table, make_url, select

from sonant import __version__
from sonant.assembly.installation import open_database, open_store
from sonant.backup import sealed_file
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.database.schema import metadata

FORMAT = 1
#: Rows that nobody misses: request rates are refilled by the second.
PASSING = ("rate_buckets",)
#: Files and folders of the data folder that are no part of a backup: the database itself, the user's own
#: objects, what sinks were told already, and what belongs to running processes.
LEFT_OUT = ("buckets", "events", "endpoint")
LEFT_OUT_SUFFIXES = (".lock", ".new", ".tmp")
PIECE_BYTES = 256 * 1024
_ROWS_AT_ONCE = 200
_LOCK_NAMES = ("lock", ".lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a backup holds."""

    rows: int
    files: int
    size_bytes: int


def make(settings: Settings, path: Path, passphrase: bytes, clock: Callable[[], datetime]) -> Held:
    """Back an installation up; its service may run. Raises SetupError, DatabaseUnavailable.

    An installation whose keys do not open it is refused: its backup could not be used.
    """
    open_store(settings).database.close()
    lines = _Lines(settings, clock)
    size = sealed_file.write(path, lines, passphrase)
    return Held(rows=lines.rows, files=lines.files, size_bytes=size)


def tables() -> list[Table]:
    """In an order in which they may be filled."""
    return [table for table in metadata.sorted_tables if table.name not in PASSING]


def unbounded(settings: Settings) -> Settings:
    """Without time limits of the database's statements: one of ours may take minutes."""
    return replace(settings, postgres=replace(settings.postgres, statement_timeout_s=0, idle_timeout_s=0))


class _Lines:
    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings, self._clock = settings, clock
        self.rows = self.files = 0

    def __iter__(self) -> Iterator[Any]:
        database = open_database(unbounded(self._settings), must_exist=True)
        try:
            database.check_schema()
            with database.read() as connection:
                yield {
                    "sonant-backup": FORMAT,
                    "version": __version__,
                    "schema": MigrationContext.configure(connection).get_current_revision(),
                    "made": self._clock().isoformat(),
                    "account": self._settings.account,
                    "region": self._settings.region,
                    "keys": self._settings.keys,
                }
                for table in tables():
                    yield {"table": table.name, "columns": [column.name for column in table.columns]}
                    found = connection.execution_options(
                        stream_results=True, yield_per=_ROWS_AT_ONCE
                    ).execute(select(table))
                    for row in found:
                        self.rows += 1
                        yield [sealed_file.packed(value) for value in row]
        finally:
            database.close()
        own = make_url(self._settings.database_url).database or ""  # SQLite's file may lie anywhere
        for path in _files(self._settings.data):
            if not str(path.absolute()).startswith(own) or not self._settings.embedded:
                yield from self._file(path)
        yield {"end": {"rows": self.rows, "files": self.files}}

    def _file(self, path: Path) -> Iterator[Any]:
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                yield {"file": path.relative_to(self._settings.data).as_posix(), "bytes": size}
                left = size  # an audit trail may grow meanwhile
                while left and (piece := file.read(min(left, PIECE_BYTES))):
                    left -= len(piece)
                    yield {"b": base64.b64encode(piece).decode()}
        except OSError as fault:
            raise SetupError(f"{path} cannot be read: {fault.strerror}") from None
        if left:
            raise SetupError(f"{path} became shorter while it was read; try again")
        self.files += 1


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in LEFT_OUT or path.name in _LOCK_NAMES or path.suffix in LEFT_OUT_SUFFIXES:
            continue
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file() and not path.name.startswith(".tmp-"):
            yield path
