"""Binds the rows of existing installations, and checks all rows of a database.

The database records, sealed under the service key, which columns of which tables its MACs cover; a file
beside the service key records it too. So rows are bound once, when a release comes with MACs or covers
other columns, and whoever can write to the database but not to the data folder cannot have it done again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from sonant.errors import IntegrityFault, SealBroken, SetupError
from sonant.storage.crypto.service_secret import ServiceSecret
from sonant.storage.database.bound_connection import bind_rows, unverified
from sonant.storage.database.engine import Database
from sonant.storage.database.row_macs import BoundTable, RowMacs, bound_tables
from sonant.storage.database.schema.binding import ROW_MAC
from sonant.storage.private_folder import PrivateFolder
from sonant.storage.repositories import key_checks

log = logging.getLogger(__name__)

#: Name of the record in the folder of the keys.
RECORD_FILE = "rows.bound"

#: Rows that are read and bound at once.
BATCH = 1000
_RECORD_MAX_BYTES = 256

Declaration = Mapping[str, Sequence[str]]
"""By table: the columns that the MACs of its rows cover."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundRows:
    """What binding has done."""

    bound: int
    """Rows that have got a MAC."""
    refused: int
    """Rows that have none, since their earlier MAC does not fit; each use of them is an integrity fault."""


def bind_database(
    database: Database, secret: ServiceSecret, folder: PrivateFolder, now: datetime
) -> BoundRows:
    """Bind all rows when the database's record is of an earlier release, in batches.

    May be interrupted, and run by several processes at once. Raises SetupError when the database's record
    was taken away or put back to an earlier one.
    """
    present = _declaration()
    noted = _noted(folder)
    with database.read() as connection:
        recorded = _opened(secret, key_checks.find_binding(connection))
    if noted == _digest(present) and recorded != present:
        raise SetupError(
            "integrity fault: the database has lost its record of the rows that are bound, or got an earlier "
            "one: something else than Sonant has changed it (docs/row-integrity.md); restore a "
            f"backup, or, to trust all rows as they are now, delete {folder.path / RECORD_FILE}"
        )
    done = BoundRows(bound=0, refused=0)
    if recorded != present:
        done = _bind_all(database, recorded)
        with database.write() as connection:
            key_checks.record_binding(connection, _sealed(secret, present), now)
    if noted != _digest(present):
        _note(folder, _digest(present))
    return done


def find_faults(database: Database) -> Iterator[IntegrityFault]:
    """Check the MACs of all rows, and yield the faults; with one batch in memory."""
    for bound in bound_tables():
        last: Sequence[Any] | None = ()
        while last is not None:
            with database.read() as connection:
                batch, last = _batch(connection, bound, last, lock=False)
            for row in batch:
                try:
                    database.macs.check(bound, row[:-1], row[-1])
                except IntegrityFault as fault:
                    yield fault


def bind_again(database: Database, old: RowMacs, new: RowMacs) -> int:
    """Give all rows MACs under another key, for a service key that was renewed; return how many.

    Rows whose present MAC does not fit stay as they are. May be interrupted and run again.
    """
    return sum(_bind_table(database, bound, bound, old, new).bound for bound in bound_tables())


def record_declaration(connection: Connection, secret: ServiceSecret, now: datetime) -> None:
    """Seal the record of the rows that are bound under a renewed service key."""
    recorded = _opened(secret, key_checks.find_binding(connection))
    if recorded is not None:
        key_checks.record_binding(connection, _sealed(secret, recorded), now)


def _bind_all(database: Database, recorded: Declaration | None) -> BoundRows:
    bound = refused = 0
    filled = _filled_tables(database)
    for table in bound_tables():
        former = _former(table, recorded)
        if table.name not in filled or (former is not None and former.names == table.names):
            continue
        done = _bind_table(database, table, former, database.macs, database.macs)
        bound, refused = bound + done.bound, refused + done.refused
    if bound or refused:
        log.info("%d rows were bound by MACs (docs/row-integrity.md)", bound)
    return BoundRows(bound=bound, refused=refused)


def _filled_tables(database: Database) -> set[str]:
    """Name the tables that hold rows: in a fresh installation there are none to be bound."""
    names = [table.name for table in bound_tables()]
    asked = ", ".join(f'EXISTS (SELECT 1 FROM "{name}")' for name in names)  # noqa: S608 - of the schema
    with database.read() as connection:
        found = connection.exec_driver_sql(f"SELECT {asked}").one()
    return {name for name, filled in zip(names, found, strict=True) if filled}


def _former(table: BoundTable, recorded: Declaration | None) -> BoundTable | None:
    """Return a table as an earlier release covered it; None where its MACs cannot be checked any more."""
    names = (recorded or {}).get(table.name)
    if names is None or set(names) - {column.name for column in table.table.columns}:
        return None
    return table.with_columns(names)


def _bind_table(
    database: Database, table: BoundTable, former: BoundTable | None, old: RowMacs, new: RowMacs
) -> BoundRows:
    bound = refused = 0
    last: Sequence[Any] | None = ()
    while last is not None:
        with database.write() as connection:
            batch, last = _batch(connection, table, last, lock=True)
            todo, wrong = _sorted(table, former, old, new, batch)
            bind_rows(connection.execute, new, table, todo)
        for key in wrong:
            log.error("%s", IntegrityFault(table.name, key, "did not match its earlier MAC, and got none"))
        bound, refused = bound + len(todo), refused + len(wrong)
    return BoundRows(bound=bound, refused=refused)


def _sorted(
    table: BoundTable, former: BoundTable | None, old: RowMacs, new: RowMacs, batch: Sequence[Sequence[Any]]
) -> tuple[list[Sequence[Any]], list[str]]:
    """Divide rows: those to be bound, and the keys of those whose earlier MAC does not fit."""
    todo, wrong = [], []
    for row in batch:
        values, mac = row[:-1], row[-1]
        if _fits(new, table, values, mac):
            continue
        known = dict(zip(table.names, values, strict=True))
        if mac is None if former is None else _fits(old, former, [known[name] for name in former.names], mac):
            todo.append(values)
        else:
            wrong.append(table.key_text(values))
    return todo, wrong


def _fits(macs: RowMacs, table: BoundTable, values: Sequence[Any], mac: object) -> bool:
    try:
        macs.check(table, values, mac)
    except IntegrityFault:
        return False
    return True


def _batch(
    connection: Connection, bound: BoundTable, after: Sequence[Any], *, lock: bool
) -> tuple[list[Sequence[Any]], Sequence[Any] | None]:
    """Read rows of a table behind the one with the key `after`, unchecked, in the order of their keys.

    Returns for each the values of the covered columns and the MAC; and the last key, or None at the end.
    """
    columns = bound.table.c
    keys = [columns[name] for name in bound.key_names]
    query = select(*[columns[name] for name in bound.names], columns[ROW_MAC]).order_by(*keys).limit(BATCH)
    if after:
        query = query.where(_after(keys, after))
    if lock:
        query = query.with_for_update(key_share=True)
    rows = connection.execute(unverified(query, "each is checked, and the faults are listed")).all()
    found: list[Sequence[Any]] = [tuple(row) for row in rows]
    if len(found) < BATCH:
        return found, None
    return found, [found[-1][bound.names.index(name)] for name in bound.key_names]


def _after(keys: Sequence[Any], last: Sequence[Any]) -> Any:
    """Return the condition of rows behind the one with the key `last`."""
    parts = [
        and_(*[key == value for key, value in zip(keys[:at], last[:at], strict=True)], keys[at] > last[at])
        for at in range(len(keys))
    ]
    return or_(*parts)


# --- the record


def _declaration() -> dict[str, list[str]]:
    return {bound.name: list(bound.names) for bound in bound_tables()}


def _digest(declaration: Declaration) -> str:
    return hashlib.sha256(json.dumps(declaration, sort_keys=True).encode()).hexdigest()


def _sealed(secret: ServiceSecret, declaration: Declaration) -> bytes:
    return secret.seal_binding(json.dumps(declaration, sort_keys=True).encode())


def _opened(secret: ServiceSecret, sealed: bytes | None) -> dict[str, list[str]] | None:
    if sealed is None:
        return None
    try:
        found: dict[str, list[str]] = json.loads(secret.open_binding(sealed))
    except SealBroken:
        raise SetupError(
            "integrity fault: the database's record of the rows that are bound was altered; restore a backup"
        ) from None
    return found


def _noted(folder: PrivateFolder) -> str | None:
    read = folder.read(RECORD_FILE, _RECORD_MAX_BYTES)
    return None if read is None else read[1].decode("ascii", "replace").strip()


def _note(folder: PrivateFolder, digest: str) -> None:
    try:
        with folder.locked():
            folder.replace(RECORD_FILE, digest.encode() + b"\n")
    except SetupError as fault:  # a folder that is mounted read-only: the database's record must do
        log.warning("which rows are bound cannot be recorded beside the service key: %s", fault)
