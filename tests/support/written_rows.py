"""Statements of tests that stand for what Sonant itself has written: the rows get MACs that fit."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import select, text

from sonant.storage.database.bound_connection import bind_rows, unverified
from sonant.storage.database.row_macs import bound_table
from sonant.storage.database.schema import metadata


def write_rows(connection: Any, statement: str, **values: Any) -> int:
    """Execute a statement of SQL, bind the rows of the table that it changes, and return how many it did."""
    changed = int(connection.execute(text(statement), values).rowcount)
    found = re.match(r"(?:UPDATE|INSERT INTO) (\w+)", statement)
    bound = bound_table(metadata.tables.get(found[1])) if found else None
    if bound is not None:
        columns = [bound.table.c[name] for name in bound.names]
        rows = connection.execute(unverified(select(*columns), "rows of a test")).all()
        bind_rows(connection.execute, connection.macs, bound, [tuple(row) for row in rows])
    return changed
