"""Checks of the database: its tables, damage, changed rows, and whether it can be written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import func, select, text

from sonant.cli.checks import opened
from sonant.errors import DatabaseUnavailable, SetupError
from sonant.settings import Settings
from sonant.storage.database.engine import Database
from sonant.storage.database.schema import domains, speakers
from sonant.storage.integrity_walk import count_rows, walk
from sonant.storage.repositories import counters

#: Most changed rows that `--integrity` names.
_MOST_ROWS = 1000
#: How long the database's file is checked for damage: minutes are enough for some hundred gigabytes.
_CHECK_S = 600.0
#: Name of the counter that is written on trial.
_PROBE = "doctor"


def check_database(settings: Settings) -> str:
    """Check the database for damage and count its rows. Raises SetupError for a damaged one."""
    with _with_remedy(settings), opened(settings) as store:
        database = store.database
        damage = database.find_damage(_CHECK_S)
        if damage is not None:
            raise SetupError(damage)
        database.check_schema()
        with database.read() as connection:
            counts = [
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (domains, speakers)
            ]
            checksums = (
                None if settings.embedded else connection.execute(text("SHOW data_checksums")).scalar()
            )
        _try_writing(database)
    found = f"{counts[0]} domains, {counts[1]} speakers"
    if checksums == "off":
        found += (
            "; its server has data checksums off: damaged pages may stay unnoticed (pg_checksums --enable)"
        )
    return found


@contextmanager
def _with_remedy(settings: Settings) -> Iterator[None]:
    """Say with the fault of a server that is away what to look at."""
    try:
        yield
    except DatabaseUnavailable as fault:
        if settings.embedded:
            raise
        raise SetupError(
            f"{fault}: see that its server runs, and check the setting `database` and the network"
        ) from None


def check_integrity(settings: Settings) -> str:
    """Check every row's MAC, and open what is sealed of every person. Raises SetupError that names rows."""
    named, counts = list[str](), Counter[str]()
    with opened(settings) as store:
        for fault in walk(store.database, store.backends.keys):
            counts[fault.table] += 1
            if len(named) < _MOST_ROWS:
                named.append(f"{fault.table} {fault.key}: {fault.finding}")
        with store.database.read() as connection:
            checked = count_rows(connection)
    if named:
        more = counts.total() - len(named)
        raise SetupError(
            f"something else than Sonant has changed {counts.total()} rows: find out who can write to the "
            "database, and restore a backup (docs/row-integrity.md):\n  "
            + "\n  ".join(named)
            + (f"\n  and {more} more" if more else "")
        )
    return f"{checked} rows are as they were written"


def check_regions(settings: Settings) -> str:
    """List the Regions that are served. Raises SetupError when domains are in others."""
    counted = select(domains.c.region, func.count()).group_by(domains.c.region).order_by(domains.c.region)
    with opened(settings) as store, store.database.read() as connection:
        found = connection.execute(counted).all()
    lost = {region: count for region, count in found if region not in settings.served_regions}
    if lost:
        raise SetupError(
            f"{sum(lost.values())} domains are in {', '.join(lost)}, where no call reaches them: name it in "
            "`regions` (SONANT_REGIONS)"
        )
    return ", ".join(settings.served_regions)


class _Undo(Exception):
    """Raised to roll a transaction back."""


def _try_writing(database: Database) -> None:
    """Write a row and read it back, in a transaction that is rolled back. Raises SetupError."""
    with suppress(_Undo), database.write() as connection:
        counters.put(connection, _PROBE, 1.0)
        if counters.read(connection).get((_PROBE, "")) != 1.0:
            raise SetupError("the database does not return what was written to it: restore a backup")
        raise _Undo
