"""Connections and transactions over SQLite or PostgreSQL, and the schema's version."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, NullPool, QueuePool, inspect, text
from sqlalchemy.exc import OperationalError

from sonant.errors import DatabaseUnavailable, IntegrityFault, SetupError
from sonant.storage.database import sqlite
from sonant.storage.database.bound_connection import GUARD, BoundConnection, RowGuard
from sonant.storage.database.errors import error_text, postgres_error, sqlite_error
from sonant.storage.database.postgres import (
    Limits,
    advisory_lock,
    check_connection_limit,
    is_postgres,
    lift_timeouts,
    open_engine,
)
from sonant.storage.database.row_macs import RowMacs
from sonant.storage.database.semaphore import FairSemaphore

#: Results of reads that a thread caches at most.
MAX_CACHED = 1024

#: How long `Database.close` waits for each thread that reads SQLite.
CLOSE_WAIT_S = 5.0

#: Alembic works on module globals: one migration a process at a time.
_migrating = threading.Lock()


class Database:
    """Transactions on SQLite or PostgreSQL: `read()` is a snapshot, `write()` commits as a whole.

    Any number of threads may use it, each with one transaction at a time: a second one would wait for a
    connection while the thread holds one, and enough such threads would wait for each other for ever. On
    SQLite each thread has its own connection for reading, and writers wait for each other. On PostgreSQL all
    threads share `Limits.connections`. Threads that wait are served in the order of their arrival.

    All transactions and `migrate()` raise SetupError for a file that is damaged, is no database or cannot be
    opened, and with `must_exist` for one that does not exist, since SQLite would make an empty one. They
    raise DatabaseUnavailable for errors that may pass (see `errors`). Reads and writes of bound tables raise
    IntegrityFault for rows that something else has changed (see `bound_connection`), and RuntimeError before
    `check_rows_by`.
    """

    engine: Engine
    _reading: Engine

    def __init__(self, url: str, *, must_exist: bool = False, limits: Limits | None = None) -> None:
        """`limits` is for PostgreSQL. Raises SetupError for another database."""
        self._thread = _ThreadState()
        self._sqlite = url.startswith("sqlite:")
        self._readers: WeakSet[_Reader] = WeakSet()
        self._file: Path | None = None
        self._guard = RowGuard()
        self._report: Callable[[IntegrityFault], object] | None = None
        if is_postgres(url):
            limits = limits or Limits()
            self._slots = FairSemaphore(limits.connections)
            self._wait_s = max(1.0, limits.connect_timeout_s)
            self.engine = open_engine(url, limits)
            self.engine.update_execution_options(**{GUARD: self._guard})
            self._reading = self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            return
        if not self._sqlite:
            raise SetupError("setting database must begin with sqlite: or postgresql:")
        # SQLite has one writer at a time. Those of this process wait here, in order: SQLite's busy loop would
        # let some of them wait for very long.
        self._slots, self._wait_s = FairSemaphore(1), sqlite.LOCK_TIMEOUT_S
        self.engine = sqlite.open_engine(url, QueuePool, must_exist=must_exist, pool_size=1, max_overflow=-1)
        self._reading = sqlite.open_engine(url, NullPool, must_exist=must_exist)
        for engine in (self.engine, self._reading):
            engine.update_execution_options(**{GUARD: self._guard})
        if named := self.engine.url.database:
            self._file = Path(named)

    def check_rows_by(self, macs: RowMacs) -> None:
        """Check and make the MACs of rows by this installation's key, from now on."""
        self._guard.macs = macs

    @property
    def macs(self) -> RowMacs:
        """The maker of the MACs of rows. Raises RuntimeError before `check_rows_by`."""
        return self._guard.require()

    def report_faults_to(self, report: Callable[[IntegrityFault], object] | None) -> None:
        """Call `report` after each transaction that failed by an IntegrityFault; it may use the database."""
        self._report = report

    @property
    def use(self) -> ConnectionUse:
        """The present use of connections, for metrics."""
        return ConnectionUse(
            limit=self._slots.size,
            in_use=self._slots.in_use,
            waiting=self._slots.waiting,
            reading=len(self._readers),
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a consistent snapshot."""
        if not self._sqlite:
            with (
                self._known_errors(),
                self._transaction_slot(),
                BoundConnection(self._reading) as snapshot,
            ):
                yield snapshot
            self._report_faults()
            return
        # Each thread has a connection for its reads: opening one costs more than a read.
        thread = self._thread
        thread.start_transaction()
        changed: IntegrityFault | None = None
        try:
            with self._thread_reader() as connection:
                yield connection
                connection.rollback()
        except BaseException as fault:
            failed, thread.reader = thread.reader, None
            if failed is not None:
                failed.connection.close()
            self._raise_if_known(fault)
            changed = fault if isinstance(fault, IntegrityFault) else None
            raise
        finally:
            thread.busy = False
            self._report_faults(changed)

    @contextmanager
    def _thread_reader(self) -> Iterator[Connection]:
        """Hold the thread's connection for reads, made anew when it has none or `close` has closed it."""
        reader = self._thread.reader
        if reader is not None:
            with reader.in_use:
                if not reader.connection.closed:
                    yield reader.connection
                    return
        reader = self._thread.reader = _Reader(BoundConnection(self._reading))
        with reader.in_use:
            self._readers.add(reader)
            yield reader.connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that commits at the end of the block, unless the block raises."""
        # SQLite must take the write lock first: a read that turns into a write can fail at once with
        # "database is locked", however long the time-out.
        try:
            with (
                self._transaction_slot(),
                BoundConnection(self.engine) as connection,
                connection.execution_options(sonant_write=True).begin(),
            ):
                yield connection
        except Exception as fault:
            self._raise_if_known(fault)
            self._report_faults(fault)
            raise
        self._report_faults()

    @contextmanager
    def single(self) -> Iterator[Connection]:
        """Open a connection for one statement that is its own transaction: on PostgreSQL one round trip."""
        with self._known_errors(), self._transaction_slot(), BoundConnection(self.engine) as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def read_rows(self) -> Iterator[Connection]:
        """Open a connection for reads that need not see one moment: each sees what is committed by then.

        On PostgreSQL that saves two round trips; on SQLite, where none is saved, it is a snapshot.
        """
        with self.read() if self._sqlite else self.single() as connection:
            yield connection

    @contextmanager
    def _transaction_slot(self) -> Iterator[None]:
        """Wait for the right to open a transaction. Raises DatabaseUnavailable when that takes too long."""
        thread = self._thread
        thread.start_transaction()
        try:
            with self._admitted():
                yield
        finally:
            thread.busy = False

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        admitted = False
        try:
            with self._slots.acquired(self._wait_s):
                admitted = True
                yield
        except TimeoutError:
            if admitted:  # raised by the transaction itself
                raise
            resource = "turn to write" if self._sqlite else f"one of {self._slots.size} connections"
            raise DatabaseUnavailable(
                f"the database is busy: no {resource} came free within {self._wait_s:g} s"
            ) from None

    def truncate_wal(self) -> None:
        """Empty SQLite's write-ahead log, so that no file holds destroyed values any more.

        Raises nothing: while other transactions run, the log stays until the next call. Does nothing on
        PostgreSQL, which overwrites nothing at once.
        """
        if self._sqlite:
            sqlite.truncate_wal(self.engine)

    @property
    def is_file(self) -> bool:
        """Whether the database is a file (SQLite), which `find_damage` can check."""
        return self._sqlite

    def find_damage(self, time_limit_s: float) -> str | None:
        """Check SQLite's file; return what is wrong and what to do in one sentence, or None.

        Raises CheckUnfinished when the check takes longer than `time_limit_s`. Returns None on PostgreSQL,
        which checks its own pages.
        """
        return sqlite.find_damage(self.engine, time_limit_s) if self._sqlite else None

    def start_batch(self) -> None:
        """Start a batch of calls in this thread that have all arrived: its cache is checked once for them.

        They may see a change that is made while they run or not, as if they had come after or before it.
        """
        self._thread.in_batch, self._thread.checked = True, False

    def read_cache(self, connection: Connection) -> dict[Any, Any]:
        """Return the cache of this thread's reads, which any change of the database empties.

        For the thread's own read connection on SQLite only; others get a dict that is not stored.
        """
        thread = self._thread
        same_connection = thread.cached_for is connection
        if not (same_connection and thread.in_batch and thread.checked):
            if not self._sqlite or connection.get_execution_options().get("sonant_write", False):
                return {}
            driver: Any = connection.connection.driver_connection
            # Changes when another connection commits; comparable within one connection only.
            version = driver.execute("PRAGMA data_version").fetchone()[0]
            if not same_connection or version != thread.version or len(thread.cache) > MAX_CACHED:
                thread.cached_for, thread.version, thread.cache = connection, version, {}
            thread.checked = True
        return thread.cache

    def migrate(self) -> None:
        """Upgrade the schema to this release's version. Raises SetupError when a newer release made it."""
        try:
            with (
                _migrating,
                as_file(files("sonant.storage.database") / "migrations") as folder,
                self.engine.connect() as connection,
            ):
                # On PostgreSQL all of it is one transaction, which excludes other migrations.
                lift_timeouts(connection)
                advisory_lock(connection, "schema")
                if _revision(connection) != newest_revision(folder):
                    _upgrade(folder, connection)
        except (OperationalError, sqlite3.OperationalError) as fault:
            raise SetupError(error_text(fault) or "") from None
        except Exception as fault:
            self._raise_if_known(fault)
            raise

    def check_schema(self) -> None:
        """Raise SetupError unless the schema is this release's and the server takes all connections."""
        with (
            as_file(files("sonant.storage.database") / "migrations") as folder,
            self.read() as connection,
        ):
            if not self._sqlite:
                check_connection_limit(connection, self._slots.size)
            revision = _revision(connection)
            if revision == newest_revision(folder):
                return
            _check_known(folder, revision)
            state = "holds no tables of Sonant yet" if revision is None else "is of an earlier release"
            raise SetupError(f"the database {state}: run `sonant migrate` once, then start again")

    @contextmanager
    def _known_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:
            self._raise_if_known(fault)
            self._report_faults(fault)
            raise

    def _report_faults(self, fault: BaseException | None = None) -> None:
        """Report rows that were left out, and a transaction's IntegrityFault, once it has ended."""
        left_out = self._guard.left_out
        found = [left_out.pop() for _ in range(len(left_out))] if left_out else []
        if isinstance(fault, IntegrityFault):
            found.append(fault)
        if self._report is not None:
            for one in found:
                self._report(one)

    def _raise_if_known(self, fault: BaseException) -> None:
        known = sqlite_error(fault, self._file) if self._sqlite else postgres_error(fault)
        if isinstance(known, SetupError):
            raise known from None
        if known is not None:
            raise known from fault

    def close(self) -> None:
        """Close all connections. One that another thread reads for longer than CLOSE_WAIT_S stays open."""
        for reader in list(self._readers):
            # Closing a connection of SQLite in the middle of a statement crashes the process.
            if reader.in_use.acquire(timeout=CLOSE_WAIT_S):
                reader.connection.close()
                reader.in_use.release()
        self.engine.dispose()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionUse:
    """Connections of one process."""

    limit: int
    """Transactions that may run at once; on SQLite, those that write."""
    in_use: int
    waiting: int
    """Threads that wait for one."""
    reading: int
    """SQLite: connections for reading, one for each thread that has read."""


class _Reader:
    """The connection that a thread reads SQLite by; `in_use` is locked during each of its transactions."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.in_use = threading.Lock()


class _ThreadState(threading.local):
    """The connection and the cache of one thread."""

    reader: _Reader | None = None
    busy = False
    """Whether it has a transaction."""
    cached_for: Connection | None = None
    """The connection whose reads `cache` holds, as of `version`."""
    version = 0
    in_batch = checked = False
    """Whether it runs a batch of calls, and whether the cache was checked for it."""

    def __init__(self) -> None:
        self.cache: dict[Any, Any] = {}

    def start_transaction(self) -> None:
        """Mark the thread as busy. Raises RuntimeError when it has a transaction already."""
        if self.busy:
            raise RuntimeError("a transaction was started within another of the same thread")
        self.busy = True


def _other_release(fault: Exception) -> SetupError:
    """Make the error for a schema of another release."""
    return SetupError(
        f"the database was made by another release of Sonant ({fault}); "
        "start that release, or restore a backup made by this one"
    )


def newest_revision(folder: Path) -> str:
    """Return the revision of this release's schema: migrations bear numbers, and the last is the newest.

    Alembic would import every migration to find it, which is most of what opening a database would cost.
    """
    return max(path.name for path in (folder / "versions").glob("[0-9]*.py")).partition("_")[0]


def _revision(connection: Connection) -> str | None:
    """Return the revision of a database; None before its first migration."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(folder: Path, connection: Connection) -> None:
    """Run the migrations that a database lacks. Raises SetupError when a newer release made it."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(folder))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as fault:
        raise _other_release(fault) from None


def _check_known(folder: Path, revision: str | None) -> None:
    """Raise SetupError for a revision of another release."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    try:
        ScriptDirectory(str(folder)).get_revision(revision or "base")
    except CommandError as fault:
        raise _other_release(fault) from None
