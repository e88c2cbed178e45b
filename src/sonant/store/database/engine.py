"""Connections and transactions over SQLite or PostgreSQL, and the schema's version."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, Select, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from sonant.errors import CheckUnfinished, DatabaseUnavailable, SetupError
from sonant.store.database.postgres import Limits, is_postgres, open_engine, take_time, take_turn, unavailable

log = logging.getLogger(__name__)

#: How long a writer waits for another process's transaction before it gives up.
LOCK_WAIT_S = 30.0
#: Things that a thread remembers at most.
MAX_REMEMBERED = 1024
#: Steps of SQLite's virtual machine between two looks at the clock while the file is checked.
_CHECK_STEPS = 100_000
#: What mends a damaged file.
RESTORE = "restore a backup into another data folder (`sonant restore` with another --data)"
#: How long `scrub` waits for others before it leaves the log to the next one.
SCRUB_WAIT_S = 0.2

#: Faults of the database file itself, as SQLite's primary result codes: nothing but an operator cures them.
_FILE_FAULTS = frozenset(
    (
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
    )
)

#: Of these, what no operator can mend in place.
_DAMAGE = frozenset((sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT))

#: Alembic keeps what it works on in module globals: one migration a process at a time.
_migrating = threading.Lock()


class Database:
    """`read()` gives a consistent snapshot, `write()` a transaction that commits whole or not at all.

    Both, and `migrate()`, raise SetupError for a file that is damaged, is no database or cannot be opened,
    and, with `must_exist`, for one that is not there: SQLite would make an empty one. On PostgreSQL they
    raise DatabaseUnavailable for what may work later.
    """

    engine: Engine

    def __init__(
        self, url: str, *, connections: int = 8, must_exist: bool = False, limits: Limits | None = None
    ) -> None:
        """`connections` is for SQLite, `limits` for PostgreSQL. Raises SetupError for another database."""
        self._own = _Own()
        self._sqlite = url.startswith("sqlite:")
        if is_postgres(url):
            self.engine = open_engine(url, limits or Limits())
            self._reading = self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            return
        if not self._sqlite:
            raise SetupError("setting database must begin with sqlite: or postgresql:")
        self.engine = create_engine(
            url,
            pool_size=connections,
            max_overflow=4,
            hide_parameters=True,
            connect_args={"timeout": LOCK_WAIT_S, "check_same_thread": False},
        )
        if must_exist:
            event.listen(self.engine, "do_connect", _refuse_absent)
        event.listen(self.engine, "connect", _prepare_sqlite)
        event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        if not self._sqlite:
            with _telling(), self._reading.connect() as snapshot:
                yield snapshot
            return
        # Each thread keeps a connection for its reads: taking one from the pool costs more than a read.
        own = self._own
        connection, own.connection = own.connection, None
        try:
            if connection is None:
                connection = self.engine.connect()
            yield connection
        except BaseException as fault:
            if connection is not None:
                connection.close()
            _raise_if_unusable(fault)
            raise
        connection.rollback()
        if own.connection is None:
            own.connection = connection
        else:
            connection.close()  # a read within a read: the inner one is back already

    @contextmanager
    def write(self) -> Iterator[Connection]:
        # SQLite must take the write lock first: a read that turns into a write can fail at once with
        # "database is locked", however long the time-out.
        try:
            with (
                self.engine.connect() as connection,
                connection.execution_options(sonant_write=True).begin(),
            ):
                yield connection
        except Exception as fault:
            self._raise_if_known(fault)
            raise

    @contextmanager
    def single(self) -> Iterator[Connection]:
        """For one statement that is its own transaction: on PostgreSQL one round trip."""
        with _telling(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def scrub(self) -> None:
        """Empty SQLite's write-ahead log, so that what was destroyed stands in no file any more.

        Best effort, and never an error: while somebody else reads or writes it stays for the next call.
        PostgreSQL overwrites nothing at once; there it does nothing.
        """
        if not self._sqlite:
            return
        try:
            with self.engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                driver.execute(f"PRAGMA busy_timeout={SCRUB_WAIT_S * 1000:.0f}")
                try:
                    driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                finally:
                    driver.execute(f"PRAGMA busy_timeout={LOCK_WAIT_S * 1000:.0f}")
        except (SQLAlchemyError, sqlite3.Error) as fault:
            log.warning("the write-ahead log could not be emptied: %s", fault_text(fault))

    @property
    def is_file(self) -> bool:
        """Whether it is a file of ours (SQLite), which `damage` looks at."""
        return self._sqlite

    def damage(self, most_s: float) -> str | None:
        """What is wrong with SQLite's file, in one sentence with what to do; None if all of it is well.

        Looks at every page, other writers may go on meanwhile. What a page holds within its bounds is not
        known by SQLite to be right; sealed values tell that themselves. Raises CheckUnfinished when it takes
        longer than `most_s`. PostgreSQL looks after its own pages: None.
        """
        if not self._sqlite:
            return None
        deadline_s = time.monotonic() + most_s
        with self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.set_progress_handler(lambda: time.monotonic() > deadline_s, _CHECK_STEPS)
            try:
                found = [str(row[0]) for row in driver.execute("PRAGMA quick_check(3)")]
            except sqlite3.OperationalError as fault:
                if fault.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                    raise CheckUnfinished(f"the database was not checked within {most_s:g} s") from None
                raise
            except sqlite3.DatabaseError as fault:
                found = [str(fault)]
            finally:
                driver.set_progress_handler(None, 0)
        if found == ["ok"]:
            return None
        return f"the database is damaged ({'; '.join(found).replace(chr(10), ' ')[:300]}): {RESTORE}"

    def begin_calls(self) -> None:
        """Calls that have all arrived begin in this thread: what it remembers is checked once for them, not
        at every question.

        A change made while they run may then be seen or not, as if they had come before or after it.
        """
        self._own.checks, self._own.checked = True, False

    def memory(self, connection: Connection) -> dict[Any, Any]:
        """What this thread may remember of its reads; empty again as soon as anybody changed the database.

        For the thread's own read connection on SQLite only; anything else gets a dict that nobody keeps.
        """
        own = self._own
        still = own.remembers is connection
        if not (still and own.checks and own.checked):
            if not self._sqlite or connection.get_execution_options().get("sonant_write", False):
                return {}
            driver: Any = connection.connection.driver_connection
            # Moves when another connection commits; numbers of one connection only can be compared.
            version = driver.execute("PRAGMA data_version").fetchone()[0]
            if not still or version != own.version or len(own.memory) > MAX_REMEMBERED:
                own.remembers, own.version, own.memory = connection, version, {}
            own.checked = True
        return own.memory

    def migrate(self) -> None:
        """Bring the schema to this release's version. Raises SetupError when a newer release made it."""
        from alembic import command
        from alembic.util import CommandError

        try:
            with (
                _migrating,
                as_file(files("sonant.store.database") / "migrations") as folder,
                self.engine.connect() as connection,
            ):
                # On PostgreSQL all of it is one transaction, and nobody else's at the same time.
                take_time(connection)
                take_turn(connection, "schema")
                command.upgrade(_alembic(str(folder), connection), "head")
        except CommandError as fault:
            raise _other_release(fault) from None
        except (OperationalError, sqlite3.OperationalError) as fault:
            raise SetupError(fault_text(fault) or "") from None
        except Exception as fault:
            self._raise_if_known(fault)
            raise

    def check_schema(self) -> None:
        """Raises SetupError that says what to do unless the schema is this release's."""
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory
        from alembic.util import CommandError

        with (
            as_file(files("sonant.store.database") / "migrations") as folder,
            self.read() as connection,
        ):
            there = MigrationContext.configure(connection).get_current_revision()
            scripts = ScriptDirectory(str(folder))
            try:
                scripts.get_revision(there or "base")
            except CommandError as fault:
                raise _other_release(fault) from None
            if there != scripts.get_current_head():
                state = "holds no tables of Sonant yet" if there is None else "is of an earlier release"
                raise SetupError(f"the database {state}: run `sonant migrate` once, then start again")

    def _raise_if_known(self, fault: Exception) -> None:
        if self._sqlite:
            _raise_if_unusable(fault)
        elif unavailable(fault):
            raise DatabaseUnavailable(fault_text(fault) or "") from fault

    def close(self) -> None:
        self.engine.dispose()


class _Own(threading.local):
    """What belongs to one thread."""

    connection: Connection | None = None
    """For its reads; None while it is in use."""
    remembers: Connection | None = None
    """The connection whose reads `memory` holds, as of `version`."""
    version = 0
    checks = checked = False

    def __init__(self) -> None:
        self.memory: dict[Any, Any] = {}


@contextmanager
def _telling() -> Iterator[None]:
    """Faults of PostgreSQL as ours."""
    try:
        yield
    except Exception as fault:
        if unavailable(fault):
            raise DatabaseUnavailable(fault_text(fault) or "") from fault
        raise


def _other_release(fault: Exception) -> SetupError:
    return SetupError(
        f"the database was made by another release of Sonant ({fault}); "
        "start that release, or restore a backup made by this one"
    )


def fault_text(fault: BaseException) -> str | None:
    """One sentence for a fault of the database, without SQL or values; None for any other fault."""
    if not isinstance(fault, SQLAlchemyError | sqlite3.Error):
        return None
    reason = str(_cause(fault)) if isinstance(fault, DBAPIError | sqlite3.Error) else type(fault).__name__
    return f"the database cannot be used: {reason.partition(chr(10))[0]}"


def _cause(fault: BaseException) -> BaseException | None:
    """What the driver raised."""
    return fault.orig if isinstance(fault, DBAPIError) else fault


def _raise_if_unusable(fault: BaseException) -> None:
    code: int = getattr(_cause(fault), "sqlite_errorcode", None) or 0
    if code & 0xFF in _FILE_FAULTS:  # the rest of the code only tells the circumstances
        cure = f"; {RESTORE}" if code & 0xFF in _DAMAGE else ""
        raise SetupError((fault_text(fault) or "") + cure) from None


def first_row(
    connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The first row of a read by column name, for the few reads that nearly every call makes.

    On SQLite it goes straight to the driver: SQLAlchemy's own execution costs several times the read. Keep
    the statement in a module's constant; it is compiled once.
    """
    if connection.dialect.name != "sqlite":
        row = connection.execute(statement, parameters).first()
        return None if row is None else dict(row._mapping)
    sql, names, defaults, columns = _compiled(statement, connection.dialect)
    driver: Any = connection.connection.driver_connection
    values = [parameters[name] if name in parameters else defaults[name] for name in names]
    found = driver.execute(sql, values).fetchone()
    return None if found is None else dict(zip(columns, found, strict=True))


@lru_cache(maxsize=256)
def _compiled(
    statement: Select[Any], dialect: Dialect
) -> tuple[str, tuple[str, ...], dict[str, Any], tuple[str, ...]]:
    """(SQL, parameter names in order, values bound in the statement itself, column names)."""
    compiled = statement.compile(dialect=dialect)
    columns = tuple(str(column.key) for column in statement.selected_columns)
    return str(compiled), tuple(compiled.positiontup or ()), dict(compiled.params), columns


def _alembic(folder: str, connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", folder)
    config.attributes["connection"] = connection
    return config


def _refuse_absent(_dialect: Dialect, _record: Any, arguments: list[Any], _options: dict[str, Any]) -> None:
    if not Path(arguments[0]).exists():
        raise SetupError(
            f"there is no database {arguments[0]}: put it back, or restore a backup into another folder"
        )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin event speaks BEGIN, not the driver
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",  # an answered opt-out must survive a power cut
        "foreign_keys=ON",
        "secure_delete=ON",  # destroyed keys are overwritten, not just unlinked
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("sonant_write", False)
    # Straight to the driver: this runs before every query, and SQLAlchemy's own way costs more than a read.
    driver: Any = connection.connection.driver_connection
    driver.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
