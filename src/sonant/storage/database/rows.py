"""Rows that are put whether or not there is one already, in one statement: nobody can come in between."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

_INSERT: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def put(connection: Connection, table: Table, values: Mapping[str, Any], *, replace: bool) -> bool:
    """Insert a row; one of the same primary key is changed if `replace` is set, else stays as it is.

    Whether a row was written.
    """
    statement = _put(connection.dialect.name, table, frozenset(values), replace)
    return connection.execute(statement, dict(values)).rowcount == 1


@lru_cache(maxsize=64)
def _put(dialect: str, table: Table, names: frozenset[str], replace: bool) -> Any:
    statement = _INSERT[dialect](table)
    keys = [column.name for column in table.primary_key]
    if not replace:
        return statement.on_conflict_do_nothing(index_elements=keys)
    new = {name: statement.excluded[name] for name in sorted(names - set(keys))}
    return statement.on_conflict_do_update(index_elements=keys, set_=new)
