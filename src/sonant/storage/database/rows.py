"""Fast single-row reads, and upserts: rows that are inserted or replaced in one statement."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Float, Numeric, Select, Table
from sqlalchemy.types import TypeEngine

from sonant.storage.database.bound_connection import GUARD, ReadPlan, read_plan, wrong_type
from sonant.storage.database.bulk import driver_errors

_Convert = Callable[[Any], Any]


def insert_of(dialect: str) -> Any:
    """Return the dialect's own `insert`, which can replace rows. The other dialect's is not imported."""
    return importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert


def put(connection: Connection, table: Table, values: Mapping[str, Any], *, replace: bool) -> bool:
    """Insert a row, and return whether it was written.

    A row of the same primary key is updated with `replace`, else it stays as it is.
    """
    statement = _put(connection.dialect.name, table, frozenset(values), replace)
    # SQLAlchemy keeps the count of an INSERT on PostgreSQL only when it is told to.
    options = {"preserve_rowcount": True}
    return connection.execute(statement, dict(values), execution_options=options).rowcount == 1


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

    It goes straight to the driver: SQLAlchemy's own execution costs several times the read. Values are
    converted by the types of their columns as usual. The statement must be a module's constant: it is
    compiled once. Raises IntegrityFault for a row of a bound table that was changed.
    """
    compiled = _compiled(statement, connection.dialect)
    given = [parameters[name] if name in parameters else compiled.bound[name] for name in compiled.names]
    for index, convert in compiled.to_driver:
        given[index] = convert(given[index])
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        found = driver.execute(compiled.sql, given).fetchone()
    else:
        with driver_errors(connection) as driver:
            found = driver.execute(compiled.sql, dict(zip(compiled.names, given, strict=True))).fetchone()
    if found is None:
        return None
    plan = compiled.plan
    if plan is None:
        return dict(zip(compiled.columns, compiled.converted(found), strict=True))
    try:
        values = compiled.converted(found)
    except (TypeError, ValueError):
        raise wrong_type(plan.checks) from None
    macs = connection.get_execution_options()[GUARD].require()
    for check in plan.checks:
        check.run(macs, values)
    return dict(zip(compiled.columns, [values[at] for at in plan.visible], strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    """A statement for the driver, with the conversions that its column types need."""

    sql: str
    names: tuple[str, ...]
    """Names of the parameters; on SQLite in the order in which the statement has them."""
    bound: Mapping[str, Any]
    """Values that the statement itself binds."""
    columns: tuple[str, ...]
    """Names of the columns that are returned."""
    to_driver: tuple[tuple[int, _Convert], ...]
    """Index and conversion of each parameter that has one."""
    from_driver: tuple[tuple[int, _Convert], ...]
    """Index and conversion of each column that has one."""
    plan: ReadPlan | None
    """How the row is checked; its query is the one that is executed."""

    def converted(self, row: Sequence[Any]) -> list[Any]:
        """Convert the values of a row by the types of their columns."""
        values = list(row)
        for at, convert in self.from_driver:
            values[at] = convert(values[at])
        return values


@lru_cache(maxsize=256)
def _compiled(statement: Select[Any], dialect: Dialect) -> _Compiled:
    plan = read_plan(statement)
    if plan is not None:
        statement = plan.statement
    compiled = statement.compile(dialect=dialect)
    names = tuple(compiled.params if compiled.positiontup is None else compiled.positiontup)
    selected = [(str(column.key), column.type) for column in statement.selected_columns]
    to_driver = [
        (index, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
        for index, name in enumerate(names)
    ]
    from_driver = [
        (at, kind.dialect_impl(dialect).result_processor(dialect, _number_oid(kind)))
        for at, (_, kind) in enumerate(selected)
    ]
    visible = range(len(selected)) if plan is None else plan.visible
    return _Compiled(
        sql=str(compiled),
        names=names,
        bound=dict(compiled.params),
        columns=tuple(selected[at][0] for at in visible),
        to_driver=tuple((index, convert) for index, convert in to_driver if convert is not None),
        from_driver=tuple((at, convert) for at, convert in from_driver if convert is not None),
        plan=plan,
    )


def _number_oid(kind: TypeEngine[Any]) -> int | None:
    """Return PostgreSQL's number of a column's type where its conversion depends on that: float8, numeric."""
    if isinstance(kind, Float):
        return 701
    return 1700 if isinstance(kind, Numeric) else None
