"""Connections and transactions over SQLite or PostgreSQL, and the schema's version."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Dialect, Engine, NullPool, Pool, QueuePool, Select, create_engine, event
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from sonant.errors import CheckUnfinished, DatabaseUnavailable, SetupError
from sonant.storage.database.faults import RESTORE, fault_text, of_postgres, of_sqlite
from sonant.storage.database.postgres import (
    Limits,
    advisory_lock,
    check_room,
    is_postgres,
    lift_timeouts,
    open_engine,
)
from sonant.storage.database.turns import Turns

log = logging.getLogger(__name__)

_Convert = Callable[[Any], Any]

#: How long a writer waits for another process's transaction before it gives up.
LOCK_WAIT_S = 30.0
#: Things that a thread remembers at most.
MAX_REMEMBERED = 1024
#: Steps of SQLite's virtual machine between two looks at the clock while the file is checked.
_CHECK_STEPS = 100_000
#: How long `scrub` waits for others before it leaves the log to the next one.
SCRUB_WAIT_S = 0.2

#: Alembic keeps what it works on in module globals: one migration a process at a time.
_migrating = threading.Lock()


class Database:
    """`read()` gives a consistent snapshot, `write()` a transaction that commits whole or not at all.

    Any number of threads may use it. A thread uses one transaction at a time: one begun within another would
    wait for a connection while it holds one, and enough such threads would wait for each other for ever.
    On SQLite each thread keeps a connection of its own for reading, and those that write take turns. On
    PostgreSQL all of them share `Limits.connections`, in the order in which they come.

    All transactions and `migrate()` raise SetupError for a file that is damaged, is no database or cannot be
    opened, and, with `must_exist`, for one that is not there: SQLite would make an empty one. They raise
    DatabaseUnavailable for what may work later; which that is, `faults` decides for both databases.
    """

    engine: Engine
    _reading: Engine

    def __init__(self, url: str, *, must_exist: bool = False, limits: Limits | None = None) -> None:
        """`limits` is for PostgreSQL. Raises SetupError for another database."""
        self._own = _Own()
        self._sqlite = url.startswith("sqlite:")
        self._kept: WeakSet[Connection] = WeakSet()
        self._file: Path | None = None
        if is_postgres(url):
            limits = limits or Limits()
            self._turns, self._wait_s = Turns(limits.connections), max(1.0, limits.connect_timeout_s)
            self.engine = open_engine(url, limits)
            self._reading = self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            return
        if not self._sqlite:
            raise SetupError("setting database must begin with sqlite: or postgresql:")
        # SQLite has one writer at a time, whoever waits: those of this process wait here, in order, and not
        # in SQLite's busy loop, where the unlucky wait longest.
        self._turns, self._wait_s = Turns(1), LOCK_WAIT_S
        self.engine = _sqlite_engine(url, QueuePool, must_exist=must_exist, pool_size=1, max_overflow=-1)
        self._reading = _sqlite_engine(url, NullPool, must_exist=must_exist)
        if named := self.engine.url.database:
            self._file = Path(named)

    @property
    def use(self) -> ConnectionUse:
        """How connections are used now, for metrics."""
        return ConnectionUse(
            most=self._turns.most,
            taken=self._turns.taken,
            waiting=self._turns.waiting,
            kept_for_reading=len(self._kept),
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        if not self._sqlite:
            with self._telling(), self._turn(), self._reading.connect() as snapshot:
                yield snapshot
            return
        # Each thread keeps a connection for its reads: opening one costs more than a read.
        own = self._own
        own.begin()
        try:
            connection = own.connection
            if connection is None or connection.closed:
                connection = own.connection = self._reading.connect()
                self._kept.add(connection)
            yield connection
            connection.rollback()
        except BaseException as fault:
            kept, own.connection = own.connection, None
            if kept is not None:
                kept.close()
            self._raise_if_known(fault)
            raise
        finally:
            own.busy = False

    @contextmanager
    def write(self) -> Iterator[Connection]:
        # SQLite must take the write lock first: a read that turns into a write can fail at once with
        # "database is locked", however long the time-out.
        try:
            with (
                self._turn(),
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
        with self._telling(), self._turn(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Raises DatabaseUnavailable when no turn came in time."""
        own = self._own
        own.begin()
        try:
            with self._admitted():
                yield
        finally:
            own.busy = False

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        entered = False
        try:
            with self._turns.held(self._wait_s):
                entered = True
                yield
        except TimeoutError:
            if entered:  # a fault of the work itself
                raise
            what = "turn to write" if self._sqlite else f"one of {self._turns.most} connections"
            raise DatabaseUnavailable(
                f"the database is busy: no {what} came free within {self._wait_s:g} s"
            ) from None

    def truncate_wal(self) -> None:
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
                as_file(files("sonant.storage.database") / "migrations") as folder,
                self.engine.connect() as connection,
            ):
                # On PostgreSQL all of it is one transaction, and nobody else's at the same time.
                lift_timeouts(connection)
                advisory_lock(connection, "schema")
                command.upgrade(_alembic(str(folder), connection), "head")
        except CommandError as fault:
            raise _other_release(fault) from None
        except (OperationalError, sqlite3.OperationalError) as fault:
            raise SetupError(fault_text(fault) or "") from None
        except Exception as fault:
            self._raise_if_known(fault)
            raise

    def check_schema(self) -> None:
        """Raises SetupError that says what to do unless the schema is this release's, and a PostgreSQL server
        takes as many connections as this process may open."""
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory
        from alembic.util import CommandError

        with (
            as_file(files("sonant.storage.database") / "migrations") as folder,
            self.read() as connection,
        ):
            if not self._sqlite:
                check_room(connection, self._turns.most)
            there = MigrationContext.configure(connection).get_current_revision()
            scripts = ScriptDirectory(str(folder))
            try:
                scripts.get_revision(there or "base")
            except CommandError as fault:
                raise _other_release(fault) from None
            if there != scripts.get_current_head():
                state = "holds no tables of Sonant yet" if there is None else "is of an earlier release"
                raise SetupError(f"the database {state}: run `sonant migrate` once, then start again")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:
            self._raise_if_known(fault)
            raise

    def _raise_if_known(self, fault: BaseException) -> None:
        known = of_sqlite(fault, self._file) if self._sqlite else of_postgres(fault)
        if isinstance(known, SetupError):
            raise known from None
        if known is not None:
            raise known from fault

    def close(self) -> None:
        for connection in list(self._kept):
            connection.close()
        self.engine.dispose()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionUse:
    """Connections of one process."""

    most: int
    """Threads that may have one for a transaction at once: on SQLite, those that write."""
    taken: int
    waiting: int
    """Threads that wait for one."""
    kept_for_reading: int
    """SQLite: one a thread that has read."""


class _Own(threading.local):
    """What belongs to one thread."""

    connection: Connection | None = None
    """For its reads."""
    busy = False
    """It has a transaction."""
    remembers: Connection | None = None
    """The connection whose reads `memory` holds, as of `version`."""
    version = 0
    checks = checked = False

    def __init__(self) -> None:
        self.memory: dict[Any, Any] = {}

    def begin(self) -> None:
        if self.busy:
            raise RuntimeError("a transaction was begun within another of the same thread")
        self.busy = True


def _other_release(fault: Exception) -> SetupError:
    return SetupError(
        f"the database was made by another release of Sonant ({fault}); "
        "start that release, or restore a backup made by this one"
    )


def first_row(
    connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The first row of a read by column name, for the few reads that nearly every call makes.

    On SQLite it goes straight to the driver: SQLAlchemy's own execution costs several times the read. Values
    are converted by the types of their columns all the same. Keep the statement in a module's constant; it is
    compiled once.
    """
    if connection.dialect.name != "sqlite":
        row = connection.execute(statement, parameters).first()
        return None if row is None else dict(row._mapping)
    compiled = _compiled(statement, connection.dialect)
    driver: Any = connection.connection.driver_connection
    given = [parameters[name] if name in parameters else compiled.bound[name] for name in compiled.names]
    for place, convert in compiled.to_driver:
        given[place] = convert(given[place])
    found = driver.execute(compiled.sql, given).fetchone()
    if found is None:
        return None
    values = dict(zip(compiled.columns, found, strict=True))
    for column, convert in compiled.from_driver:
        values[column] = convert(values[column])
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    """A statement as the driver takes it, and what its types do to values that the driver knows otherwise."""

    sql: str
    names: tuple[str, ...]
    """Of the parameters, in order."""
    bound: Mapping[str, Any]
    """Values bound in the statement itself."""
    columns: tuple[str, ...]
    to_driver: tuple[tuple[int, _Convert], ...]
    """Place of a parameter and its conversion; for those that have one."""
    from_driver: tuple[tuple[str, _Convert], ...]
    """Column and its conversion; likewise."""


@lru_cache(maxsize=256)
def _compiled(statement: Select[Any], dialect: Dialect) -> _Compiled:
    compiled = statement.compile(dialect=dialect)
    names = tuple(compiled.positiontup or ())
    selected = [(str(column.key), column.type) for column in statement.selected_columns]
    to_driver = [
        (place, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
        for place, name in enumerate(names)
    ]
    from_driver = [
        (name, kind.dialect_impl(dialect).result_processor(dialect, None)) for name, kind in selected
    ]
    return _Compiled(
        sql=str(compiled),
        names=names,
        bound=dict(compiled.params),
        columns=tuple(name for name, _ in selected),
        to_driver=tuple((place, convert) for place, convert in to_driver if convert is not None),
        from_driver=tuple((name, convert) for name, convert in from_driver if convert is not None),
    )


def _alembic(folder: str, connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", folder)
    config.attributes["connection"] = connection
    return config


def _sqlite_engine(url: str, pool: type[Pool], *, must_exist: bool, **options: int) -> Engine:
    engine = create_engine(
        url,
        poolclass=pool,
        hide_parameters=True,
        connect_args={"timeout": LOCK_WAIT_S, "check_same_thread": False},
        **options,
    )
    if must_exist:
        event.listen(engine, "do_connect", _refuse_absent)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


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
