"""Makes backups: all rows in one consistent snapshot, and the files of the data folder.

The files are read after the snapshot: a key exists before the rows that need it.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Table, make_url, select

from sonant import __version__
from sonant.assembly.installation import open_database, open_store, rotation_lock
from sonant.assembly.supervisor import STATE_FILE
from sonant.backup import sealed_file
from sonant.errors import DatabaseUnavailable, SetupError
from sonant.settings import Settings
from sonant.storage.database.bound_connection import unverified
from sonant.storage.database.schema import metadata
from sonant.storage.repositories import counters

log = logging.getLogger(__name__)

FORMAT = 1
#: Tables that are not backed up: request rates refill within seconds.
TRANSIENT_TABLES = ("rate_buckets",)
#: Files and folders that are not backed up: users' objects, delivered events, files of running processes, and
#: the present keys of the audit trail, which must not last.
EXCLUDED = ("buckets", "events", "endpoint", STATE_FILE, "audit-keys")
EXCLUDED_SUFFIXES = (".lock", ".new", ".tmp")
CHUNK_BYTES = 256 * 1024
_BATCH_ROWS = 200
_LOCK_NAMES = ("lock", ".lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSize:
    """The size of a backup."""

    rows: int
    files: int
    size_bytes: int


def create(settings: Settings, path: Path, passphrase: bytes, clock: Callable[[], datetime]) -> BackupSize:
    """Back up an installation, whose service may run. Raises SetupError, DatabaseUnavailable.

    Raises SetupError for an installation whose keys do not open it: its backup would be useless.
    """
    open_store(settings).database.close()
    lines = _Lines(settings, clock)
    with rotation_lock(settings, exclusive=False):
        size = sealed_file.write(path, lines, passphrase)
    _note(settings, clock())
    return BackupSize(rows=lines.rows, files=lines.files, size_bytes=size)


def _note(settings: Settings, made_at: datetime) -> None:
    """Note in the database when this backup was made, for `sonant doctor` and the metrics."""
    database = open_database(settings, must_exist=True)
    try:
        with database.write() as connection:
            counters.put(connection, counters.LAST_BACKUP, made_at.timestamp())
    except DatabaseUnavailable as fault:  # the backup is whole all the same
        log.warning("the backup is made, but its time could not be noted: %s", fault)
    finally:
        database.close()


def tables() -> list[Table]:
    """Return the tables to back up, in an order in which they can be filled."""
    return [table for table in metadata.sorted_tables if table.name not in TRANSIENT_TABLES]


def without_time_limits(settings: Settings) -> Settings:
    """Return the settings without time limits of statements: those of a backup may take minutes."""
    return replace(settings, postgres=replace(settings.postgres, statement_timeout_s=0, idle_timeout_s=0))


class _Lines:
    """The lines of a backup, counted while they are read."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings, self._clock = settings, clock
        self.rows = self.files = 0

    def __iter__(self) -> Iterator[Any]:
        database = open_database(without_time_limits(self._settings), must_exist=True)
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
                    "deletions": self._ledger_folder(),
                }
                for table in tables():
                    yield {"table": table.name, "columns": [column.name for column in table.columns]}
                    whole = unverified(select(table), "rows are saved as they are, with their MACs")
                    found = connection.execution_options(stream_results=True, yield_per=_BATCH_ROWS).execute(
                        whole
                    )
                    for row in found:
                        self.rows += 1
                        yield [sealed_file.to_json(value) for value in row]
        finally:
            database.close()
        database_file = make_url(self._settings.database_url).database or ""  # may be anywhere
        for path in _files(self._settings.data, self._settings.ledger_folder):
            if not str(path.absolute()).startswith(database_file) or not self._settings.embedded:
                yield from self._file(path)
        yield {"end": {"rows": self.rows, "files": self.files}}

    def _ledger_folder(self) -> str:
        """Where a restore finds the deletions that follow the backup; empty with the ledger switched off."""
        settings = self._settings
        return str(settings.ledger_folder.absolute()) if settings.deletions.ledger else ""

    def _file(self, path: Path) -> Iterator[Any]:
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                yield {"file": path.relative_to(self._settings.data).as_posix(), "bytes": size}
                remaining = size  # an audit trail may grow meanwhile
                while remaining and (chunk := file.read(min(remaining, CHUNK_BYTES))):
                    remaining -= len(chunk)
                    yield {"b": base64.b64encode(chunk).decode()}
        except OSError as fault:
            raise SetupError(f"{path} cannot be read: {fault.strerror}") from None
        if remaining:
            raise SetupError(f"{path} became shorter while it was read; try again")
        self.files += 1


def _files(folder: Path, ledger_folder: Path) -> Iterator[Path]:
    """Yield the files to back up. The deletion ledger is none: what it says must outlive every backup."""
    for path in sorted(folder.iterdir()):
        if path.name in EXCLUDED or path.name in _LOCK_NAMES or path.suffix in EXCLUDED_SUFFIXES:
            continue
        if path.is_symlink() or path == ledger_folder:
            continue
        if path.is_dir():
            yield from _files(path, ledger_folder)
        elif path.is_file() and not path.name.startswith(".tmp-"):
            yield path
