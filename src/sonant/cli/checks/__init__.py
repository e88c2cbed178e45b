"""What `sonant doctor` checks: functions that return what they found, or raise an error with the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sonant.assembly.installation import Store, open_store
from sonant.settings import Settings


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """Open an installation that exists, and close its database at the end. Raises SetupError."""
    store = open_store(settings)
    try:
        yield store
    finally:
        store.database.close()
