"""SQLite: engines, their pragmas, the write-ahead log, and the check of the file."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, Pool, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from sonant.errors import CheckUnfinished, SetupError
from sonant.storage.database.errors import RESTORE, error_text

log = logging.getLogger(__name__)

#: How long a writer waits for another process's transaction.
LOCK_TIMEOUT_S = 30.0
#: How often a writer looks whether another process's transaction has ended. SQLite itself would look ever
#: more seldom, up to every 0.1 s, and miss the moments between the transactions of a job.
LOCK_POLL_S = 0.002
#: How long `truncate_wal` waits for other transactions before it leaves the log to the next call.
CHECKPOINT_TIMEOUT_S = 0.2
#: Steps of SQLite's virtual machine between two checks of the time limit of `find_damage`.
CHECK_STEPS = 100_000


def open_engine(url: str, pool: type[Pool], *, must_exist: bool, **options: int) -> Engine:
    """Make an engine. With `must_exist`, connecting raises SetupError when there is no file."""
    engine = create_engine(
        url,
        poolclass=pool,
        hide_parameters=True,
        connect_args={"timeout": LOCK_TIMEOUT_S, "check_same_thread": False},
        **options,
    )
    if must_exist:
        event.listen(engine, "do_connect", _require_file)
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def truncate_wal(engine: Engine) -> None:
    """Empty the write-ahead log, so that no file holds destroyed values any more.

    Raises nothing: while other transactions run, the log stays until the next call.
    """
    try:
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA busy_timeout={CHECKPOINT_TIMEOUT_S * 1000:.0f}")
            try:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                driver.execute(f"PRAGMA busy_timeout={LOCK_TIMEOUT_S * 1000:.0f}")
    except (SQLAlchemyError, sqlite3.Error) as fault:
        log.warning("the write-ahead log could not be emptied: %s", error_text(fault))


def find_damage(engine: Engine, time_limit_s: float) -> str | None:
    """Check every page of the file; return what is wrong and what to do in one sentence, or None.

    Other transactions may go on. SQLite does not detect wrong values within a page; sealed values detect that
    themselves. Raises CheckUnfinished when the check takes longer than `time_limit_s`.
    """
    deadline_s = time.monotonic() + time_limit_s
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(lambda: time.monotonic() > deadline_s, CHECK_STEPS)
        try:
            found = [str(row[0]) for row in driver.execute("PRAGMA quick_check(3)")]
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise CheckUnfinished(f"the database was not checked within {time_limit_s:g} s") from None
            raise
        except sqlite3.DatabaseError as fault:
            found = [str(fault)]
        finally:
            driver.set_progress_handler(None, 0)
    if found == ["ok"]:
        return None
    return f"the database is damaged ({'; '.join(found).replace(chr(10), ' ')[:300]}): {RESTORE}"


def _require_file(_dialect: Dialect, _record: Any, arguments: list[Any], _options: dict[str, Any]) -> None:
    if not Path(arguments[0]).exists():
        raise SetupError(
            f"there is no database {arguments[0]}: put it back, or restore a backup into another folder"
        )


def _set_pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin event sends BEGIN, not the driver
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",  # an answered opt-out must survive a power cut
        "foreign_keys=ON",
        "secure_delete=ON",  # destroyed keys are overwritten, not just unlinked
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writing = connection.get_execution_options().get("sonant_write", False)
    # Straight to the driver: this runs before every query, and SQLAlchemy's own way costs more than a read.
    driver: Any = connection.connection.driver_connection
    if writing:
        _begin_writing(driver)
    else:
        driver.execute("BEGIN")


def _begin_writing(driver: Any) -> None:
    """Wait for other processes' transactions, and begin one that writes."""
    deadline_s = time.monotonic() + LOCK_TIMEOUT_S
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as fault:
                busy = fault.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline_s:
                    raise
            time.sleep(LOCK_POLL_S)
    finally:
        driver.execute(f"PRAGMA busy_timeout={LOCK_TIMEOUT_S * 1000:.0f}")
