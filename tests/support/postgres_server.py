"""A real PostgreSQL for tests: `SONANT_TEST_POSTGRES` (a URL whose user may create databases), an installed
server, or the wheel `pgserver`. What is started here listens on loopback, keeps nothing and ends with us.

Each test has a database for itself, a copy of one that was migrated once.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool
from waiting import PATIENCE_S, wait_until

from sonant.storage.database import schema
from sonant.storage.database.engine import Database

if TYPE_CHECKING:
    from psycopg import Connection as PsycopgConnection

DATABASES = ("sqlite", "postgresql")
#: A test server that loses its data in a power cut is no loss, and several times faster.
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_PATIENCE_S = 120.0


def not_default(url: str) -> str:
    """The setting `database` for a test's URL: on SQLite a service has its database in its data folder."""
    return "" if url.startswith("sqlite:") else url


class NoServer(Exception):
    """There is no PostgreSQL to be had, and why."""


class PostgresServer:
    """A server with databases that are made for tests."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url).set(drivername="postgresql+psycopg")
        self._admin = create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        self._template = ""
        self._state: object = None
        """What `_state` says of the template."""
        self._free: list[str] = []
        """Databases with the template's tables and no rows in them."""

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The URL of a new database without tables."""
        with self._made("template0") as url:
            yield url

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """The URL of a database with this release's tables, and no rows but those of its migrations.

        Databases are emptied and used again, because making one costs a second.
        """
        if not self._template:
            self._template = self._new_template()
        if self._free:
            name = self._free.pop()
        else:
            name = _new_name()
            self._do(f"CREATE DATABASE {name} TEMPLATE {self._template} ENCODING 'UTF8'")
        try:
            yield self._url(name)
        finally:
            if self._emptied(name):
                self._free.append(name)
            else:
                self._do(f"DROP DATABASE {name} WITH (FORCE)")

    def _new_template(self) -> str:
        from psycopg import connect

        name = _new_name()
        self._do(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        database = Database(self._url(name))
        database.migrate()
        database.close()
        with connect(self._url(name)) as connection:
            self._state = _state(connection)
        return name

    def _emptied(self, name: str) -> bool:
        """Whether the database is as the template again."""
        from psycopg import Error, connect

        try:
            with connect(self._url(name)) as connection:
                connection.execute(_OTHERS_END)
                connection.execute(_delete_rows())
                return _state(connection) == self._state
        except Error:  # a test has changed the tables
            return False

    def close(self) -> None:
        for name in filter(None, [*self._free, self._template]):
            self._do(f"DROP DATABASE {name} WITH (FORCE)")
        self._admin.dispose()

    @contextmanager
    def _made(self, template: str) -> Iterator[str]:
        name = _new_name()
        self._do(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8'")
        try:
            yield self._url(name)
        finally:
            self._do(f"DROP DATABASE {name} WITH (FORCE)")

    def _url(self, name: str) -> str:
        url = self.url.set(drivername="postgresql", database=name)
        return url.render_as_string(hide_password=False)

    def _do(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(statement))


_OTHERS_END = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@cache
def _delete_rows() -> str:
    """Statements that delete all rows, and have every sequence begin again."""
    deletions = [f'DELETE FROM "{table.name}"' for table in reversed(schema.metadata.sorted_tables)]
    sequences = (
        "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)"
        " FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL"
    )
    return "; ".join([*deletions, sequences])


#: Columns of tables and indexes; indexes; the version of the schema.
_STATE = (
    """
    SELECT relation.relname, relation.relkind, attname, atttypid, atttypmod, attnotnull
    FROM pg_class AS relation JOIN pg_attribute ON attrelid = relation.oid
    WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped ORDER BY 1, 3
    """,
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "SELECT version_num FROM alembic_version",
)


def _state(connection: PsycopgConnection) -> object:
    return [connection.execute(query).fetchall() for query in _STATE]


class OwnServer:
    """A server that is started here, and can be stopped and started again."""

    def __init__(self, *, quick: bool = True) -> None:
        """`quick` does without what keeps data over a power cut. Raises NoServer."""
        self._settings = _QUICK if quick else ()
        if find_spec("psycopg") is None:
            raise NoServer("psycopg is not installed (extra `postgres`)")
        self._binaries = _binaries()
        self._user = _user()
        # Not pytest's folder: that is root's alone, and the server must not be root.
        self.folder = Path(tempfile.mkdtemp(prefix="sonant-postgres-"))
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if self._user:
                shutil.chown(self.folder, self._user)
            self._run("initdb", "--auth=trust", "--username=sonant", "--encoding=UTF8", "--locale=C")
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"postgresql://sonant@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        settings = [
            *self._settings,
            "max_connections=200",
            "listen_addresses=127.0.0.1",
            f"port={self._port}",
            "unix_socket_directories=",
        ]
        with (self.folder / "log").open("ab") as log:
            options = [part for setting in settings for part in ("-c", setting)]
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.folder / "data", *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=_end_with_parent,
                **self._identity,
            )
        url = make_url(self.url).set(drivername="postgresql+psycopg")
        engine = create_engine(url, poolclass=NullPool)

        def there() -> bool:
            try:
                with engine.connect():
                    return True
            except OperationalError:
                if self._process is None or self._process.poll() is not None:
                    log_text = (self.folder / "log").read_text(errors="replace")
                    raise NoServer(f"PostgreSQL does not start: {log_text[-500:]}") from None
                return False

        wait_until("PostgreSQL answers", there)

    def stop(self, sign: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends all connections at once, SIGQUIT as a crash would."""
        if self._process is not None:
            self._process.send_signal(sign)
            self._process.wait(PATIENCE_S)
            self._process = None

    def pause(self) -> None:
        """Every process of the server stands still; the kernel goes on to take what is sent to it."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, sign: signal.Signals) -> None:
        if self._process is None:
            return
        for pid in [self._process.pid, *_children(self._process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, sign)

    def close(self) -> None:
        self.resume()
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _identity(self) -> dict[str, Any]:
        if not self._user:
            return {}
        group = pwd.getpwnam(self._user).pw_gid
        return {"user": self._user, "group": group, "extra_groups": []}

    def _run(self, program: str, *arguments: str) -> None:
        try:
            done = subprocess.run(
                [self._binaries / program, "-D", self.folder / "data", *arguments],
                capture_output=True,
                cwd=self.folder,
                timeout=PATIENCE_S,
                **self._identity,
            )
        except OSError as fault:
            raise NoServer(f"{self._binaries / program} cannot be run: {fault.strerror}") from None
        if done.returncode:
            raise NoServer(f"{program} failed: {done.stderr.decode(errors='replace')[-300:].strip()}")


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A server for a whole test session. Raises NoServer."""
    given = os.environ.get("SONANT_TEST_POSTGRES")
    own = None if given else OwnServer()
    server = PostgresServer(given or own.url)  # type: ignore[union-attr]
    try:
        yield server
        server.close()
    finally:
        if own is not None:
            own.close()


def _binaries() -> Path:
    places = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = find_spec("pgserver")
    if wheel is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for place in places:
        if all((place / program).is_file() for program in ("postgres", "initdb")):
            return place
    raise NoServer(
        "neither the programs (apt install postgresql) nor the wheel pgserver are installed; "
        "or name a server by SONANT_TEST_POSTGRES"
    )


def _user() -> str:
    """Whom the server is to run as: PostgreSQL refuses root. Empty for ourselves."""
    if os.geteuid() != 0:
        return ""
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise NoServer("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


def _end_with_parent() -> None:
    """The kernel ends the server when the test process dies without a word (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


def _children(pid: int) -> list[int]:
    """Processes that the server has begun: one a connection, and its own."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _new_name() -> str:
    return f"sonant_{secrets.token_hex(8)}"
