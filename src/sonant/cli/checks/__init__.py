"""What `sonant doctor` checks: functions that return what they found, or raise an error with the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sonant.assembly.installation import Store, open_store
from sonant.errors import DatabaseUnavailable, SetupError
from sonant.settings import Settings

#: Why the database could not be reached, within `asking_once`.
_away: ContextVar[list[str] | None] = ContextVar("sonant_database_away", default=None)


@contextmanager
def asking_once() -> Iterator[None]:
    """Try within the context only once whether a database answers: each try may take many seconds."""
    token = _away.set([])
    try:
        yield
    finally:
        _away.reset(token)


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """Open an installation that exists, and close its database at the end. Raises SetupError.

    Within `asking_once`, a database that could not be reached is not waited for again.
    """
    away = _away.get()
    if away:
        raise SetupError("not checked, because the database cannot be used")
    try:
        store = open_store(settings)
    except DatabaseUnavailable as fault:
        if away is not None:
            away.append(str(fault))
        raise
    try:
        yield store
    finally:
        store.database.close()
