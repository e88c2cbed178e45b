"""Fast single-row reads, and upserts: rows that are inserted or replaced in one statement."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Select, Table

_Convert = Callable[[Any], Any]


def insert_of(dialect: str) -> Any:
    """Return the dialect's own `insert`, which can replace rows. The other dialect's is not imported."""
    return importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert


def put(connection: Connection, table: Table, values: Mapping[str, Any], *, replace: bool) -> bool:
    """Insert a row, and return whether it was written.

    A row of the same primary key is updated with `replace`, else it stays as it is.
    """
    statement = _put(connection.dialect.name, table, frozenset(values), replace)
    return connection.execute(statement, dict(values)).rowcount == 1


@lru_cache(maxsize=64)
def _put(dialect: str, table: Table, names: frozenset[str], replace: bool) -> Any:
    statement = insert_of(dialect)(table)
    keys = [column.name for column in table.primary_key]
    if not replace:
        return statement.on_conflict_do_nothing(index_elements=keys)
    new = {name: statement.excluded[name] for name in sorted(names - set(keys))}
    return statement.on_conflict_do_update(index_elements=keys, set_=new)


def first_row(
    connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the first row of a query by column name, for the few reads that nearly every call makes.

    On SQLite it goes straight to the driver: SQLAlchemy's own execution costs several times the read. Values
    are converted by the types of their columns as usual. The statement must be a module's constant: it is
    compiled once.
    """
    if connection.dialect.name != "sqlite":
        row = connection.execute(statement, parameters).first()
        return None if row is None else dict(row._mapping)
    compiled = _compiled(statement, connection.dialect)
    driver: Any = connection.connection.driver_connection
    given = [parameters[name] if name in parameters else compiled.bound[name] for name in compiled.names]
    for index, convert in compiled.to_driver:
        given[index] = convert(given[index])
    found = driver.execute(compiled.sql, given).fetchone()
    if found is None:
        return None
    values = dict(zip(compiled.columns, found, strict=True))
    for column, convert in compiled.from_driver:
        values[column] = convert(values[column])
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    """A statement for the driver, with the conversions that its column types need."""

    sql: str
    names: tuple[str, ...]
    """Names of the parameters, in order."""
    bound: Mapping[str, Any]
    """Values that the statement itself binds."""
    columns: tuple[str, ...]
    to_driver: tuple[tuple[int, _Convert], ...]
    """Index and conversion of each parameter that has one."""
    from_driver: tuple[tuple[str, _Convert], ...]
    """Name and conversion of each column that has one."""


@lru_cache(maxsize=256)
def _compiled(statement: Select[Any], dialect: Dialect) -> _Compiled:
    compiled = statement.compile(dialect=dialect)
    names = tuple(compiled.positiontup or ())
    selected = [(str(column.key), column.type) for column in statement.selected_columns]
    to_driver = [
        (index, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
        for index, name in enumerate(names)
    ]
    from_driver = [
        (name, kind.dialect_impl(dialect).result_processor(dialect, None)) for name, kind in selected
    ]
    return _Compiled(
        sql=str(compiled),
        names=names,
        bound=dict(compiled.params),
        columns=tuple(name for name, _ in selected),
        to_driver=tuple((index, convert) for index, convert in to_driver if convert is not None),
        from_driver=tuple((name, convert) for name, convert in from_driver if convert is not None),
    )
