"""Write many rows at once, past SQLAlchemy's work for each row: COPY on PostgreSQL, one statement on SQLite.

Rows of bound tables get their MACs (see `row_macs`), and what a row does not name gets the schema's default.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Float, Integer, LargeBinary, Table, Text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import BigInteger

from sonant.storage.database.bound_connection import GUARD
from sonant.storage.database.row_macs import BoundTable, bound_table, converter_of, default_of
from sonant.storage.database.schema.binding import ROW_MAC

#: PostgreSQL's names of the types of columns, the most special first; the binary COPY needs them.
_TYPES: tuple[tuple[type, str], ...] = (
    (Boolean, "bool"),
    (BigInteger, "int8"),
    (Integer, "int4"),
    (Float, "float8"),
    (LargeBinary, "bytea"),
    (Text, "text"),
)


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert new rows, in this order.

    Columns that a row does not name get their default from the schema. Of a bound table each row names its
    primary key, which its MAC covers. Raises as SQLAlchemy does.
    """
    if not rows:
        return
    plan = _plan(table, frozenset[str]().union(*rows))
    values = [plan.values(row) for row in rows]
    if plan.bound is not None:
        macs = connection.get_execution_options()[GUARD].require()
        made = macs.make_all(plan.bound, ([row[at] for at in plan.covered] for row in values))
        for row, mac in zip(values, made, strict=True):
            row.append(mac)
    with driver_errors(connection) as driver:
        if connection.dialect.name == "sqlite":
            driver.executemany(plan.sqlite, values)
            return
        with driver.cursor() as cursor, cursor.copy(plan.copy) as copy:
            copy.set_types(plan.types)
            for row in values:
                copy.write_row(row)


@contextmanager
def driver_errors(connection: Connection) -> Iterator[Any]:
    """Give the driver's connection, and raise its errors as SQLAlchemy would."""
    dialect = connection.dialect
    error: Any = sqlite3.Error if dialect.name == "sqlite" else dialect.loaded_dbapi.Error
    driver: Any = connection.connection.driver_connection
    try:
        yield driver
    except error as fault:
        wrapped: Any = DBAPIError.instance(
            None,
            None,
            fault,
            error,
            hide_parameters=True,
            connection_invalidated=dialect.is_disconnect(fault, driver, None),
            dialect=dialect,
        )
        raise wrapped from fault


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How rows with certain columns are written into one table."""

    columns: tuple[tuple[str, Callable[[Any], Any], Any], ...]
    """Name, conversion to the column's type, and the value of a row that does not name it."""
    bound: BoundTable | None
    covered: tuple[int, ...]
    """Where the columns are that a MAC covers."""
    sqlite: str
    copy: str
    types: tuple[str, ...]

    def values(self, row: Mapping[str, Any]) -> list[Any]:
        return [convert(row[name]) if name in row else default for name, convert, default in self.columns]


@lru_cache(maxsize=64)
def _plan(table: Table, names: frozenset[str]) -> _Plan:
    bound = bound_table(table)
    # A MAC covers columns that get a default, too, so these are written with the others.
    wanted = names if bound is None else names | {*bound.names}
    if unknown := wanted - {column.name for column in table.columns}:
        raise ValueError(f"{table.name} has no columns {', '.join(sorted(unknown))}")
    columns = [column for column in table.columns if column.name in wanted and column.name != ROW_MAC]
    places = {column.name: at for at, column in enumerate(columns)}
    written = [*places, ROW_MAC] if bound is not None else [*places]
    listed = ", ".join(f'"{name}"' for name in written)
    types = [_type_of(column) for column in columns] + (["bytea"] if bound is not None else [])
    marks = ", ".join("?" * len(written))
    return _Plan(
        columns=tuple((column.name, converter_of(column), default_of(column)) for column in columns),
        bound=bound,
        covered=() if bound is None else tuple(places[name] for name in bound.names),
        sqlite=f'INSERT INTO "{table.name}" ({listed}) VALUES ({marks})',  # noqa: S608 - of the schema
        copy=f'COPY "{table.name}" ({listed}) FROM STDIN (FORMAT BINARY)',
        types=tuple(types),
    )


def _type_of(column: Column[Any]) -> str:
    return next((name for kind, name in _TYPES if isinstance(column.type, kind)), "text")
