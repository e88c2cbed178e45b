"""Counts the statements that reach SQLite, by whatever way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    """The statements of all connections that are opened meanwhile, in order; transactions are not listed."""
    found: list[str] = []

    def note(statement: str) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
            found.append(statement)

    def opened(connection: Any, _record: Any) -> None:
        connection.set_trace_callback(note)

    event.listen(Pool, "connect", opened)
    try:
        yield found
    finally:
        event.remove(Pool, "connect", opened)
