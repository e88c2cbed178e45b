"""PostgreSQL: connections, time-outs and locks.

Reads are REPEATABLE READ, a snapshot as on SQLite. Writes are READ COMMITTED: a transaction that must exclude
others locks a row (`domains.lock`) or takes an `advisory_lock` first, and sees what was committed until then.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, InvalidatePoolError

from sonant.errors import SetupError

#: A host that is gone is detected after about 30 s, and after 15 s when data was sent to it.
_TCP = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 15_000,  # milliseconds; where the system supports it
}
#: The server ends a statement after its time limit. One that sends nothing for this much longer counts as
#: dead: it hangs, or a device in between drops its data and keeps the TCP connection alive.
SILENCE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one process's connections; times of 0 mean no limit."""

    connections: int = 12
    """Connections open at once; threads that find none free wait for `connect_timeout_s`."""
    connect_timeout_s: float = 5.0
    statement_timeout_s: float = 30.0
    lock_timeout_s: float = 10.0
    idle_timeout_s: float = 60.0
    """An idle transaction is rolled back after this time: its process hangs or is disconnected."""


def is_postgres(url: str) -> bool:
    return url.startswith(("postgresql:", "postgresql+psycopg:", "postgres:"))


def open_engine(url: str, limits: Limits) -> Engine:
    """Make an engine over psycopg. Raises SetupError for an invalid URL and without psycopg."""
    try:
        engine = create_engine(
            _with_driver(url),
            pool_size=limits.connections,
            max_overflow=0,
            pool_timeout=max(1.0, limits.connect_timeout_s),
            hide_parameters=True,
            connect_args={
                "connect_timeout": max(1, round(limits.connect_timeout_s)),
                "application_name": "sonant",
                "options": _options(limits),
                **_TCP,
            },
        )
    except (ArgumentError, ValueError):  # the exception's text holds the URL, which may hold a password
        raise SetupError("setting database is no URL such as postgresql://user@host/name") from None
    except ModuleNotFoundError:
        raise SetupError(
            "setting database names PostgreSQL, which needs psycopg: pip install 'sonant[postgres]'"
        ) from None
    event.listen(engine, "do_connect", _connector(limits.statement_timeout_s))
    event.listen(engine, "checkin", _reset_time_limit)
    event.listen(engine, "checkout", _refuse_closed)
    return engine


def advisory_lock(connection: Connection, *name: str) -> None:
    """Lock a name until the transaction ends: it waits for others with this lock to commit.

    For what no row represents. Does nothing on SQLite, where a writer excludes all others.
    """
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(blake2b("\0".join(name).encode(), digest_size=8).digest(), "big", signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def lift_timeouts(connection: Connection) -> None:
    """Remove the time limit of this transaction's statements. Does nothing on SQLite, which has none."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        driver: Any = connection.connection.driver_connection
        driver.time_limit_s = None


def check_connection_limit(connection: Connection, connections: int) -> None:
    """Raise SetupError when the server takes fewer connections than one process may open."""
    limit = connection.execute(
        text(
            "SELECT current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
        )
    ).scalar_one()
    if connections > limit:
        raise SetupError(
            f"a process of Sonant opens up to {connections} connections, and the PostgreSQL server takes "
            f"{limit}: lower the setting postgres.connections, or raise max_connections of the server"
        )


def present_transaction(connection: Connection) -> int:
    """Return the number of this transaction. PostgreSQL only."""
    number: int = connection.execute(text("SELECT pg_current_xact_id()::text::bigint")).scalar_one()
    return number


def oldest_transaction(connection: Connection) -> int:
    """Return the number of the oldest transaction that writes and is open. PostgreSQL only."""
    query = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    number: int = connection.execute(query).scalar_one()
    return number


def storable(connection: Connection, value: str) -> str:
    """Return an untrusted text in a form that the database stores: PostgreSQL stores no NUL."""
    return value if connection.dialect.name == "sqlite" else value.replace("\0", "\ufffd")


def _with_driver(url: str) -> URL:
    parsed = make_url(url)
    return parsed.set(drivername="postgresql+psycopg")


def _connector(statement_timeout_s: float) -> Callable[..., Any]:
    """Return a function that makes connections with a time limit, even when the server hangs."""
    from psycopg import Connection as Driver
    from psycopg import OperationalError
    from psycopg.abc import PQGen
    from psycopg.waiting import READY_NONE

    default_limit_s = statement_timeout_s + SILENCE_S if statement_timeout_s > 0 else None

    class Bounded(Driver[Any]):
        """A connection that raises OperationalError and closes when its server sends nothing for too long."""

        default_limit_s: float | None
        time_limit_s: float | None

        def wait(self, gen: PQGen[Any], *arguments: Any, **named: Any) -> Any:
            limit_s = self.time_limit_s
            return super().wait(gen if limit_s is None else self._limited(gen, limit_s), *arguments, **named)

        def _limited(self, gen: PQGen[Any], limit_s: float) -> PQGen[Any]:
            """Run `gen`, which is resumed every 0.1 s, until nothing was received or sent for `limit_s`."""
            last_s = time.monotonic()
            try:
                wanted = next(gen)
                while True:
                    ready = yield wanted
                    if ready != READY_NONE:
                        last_s = time.monotonic()
                    elif time.monotonic() - last_s > limit_s:
                        gen.close()
                        self.pgconn.finish()
                        raise OperationalError(f"the server sent nothing for {limit_s:g} s")
                    wanted = gen.send(ready)
            except StopIteration as end:
                return end.value

    def connect(_dialect: Any, _record: Any, arguments: Any, named: Any) -> Any:
        made = Bounded.connect(*arguments, **named)
        made.default_limit_s = made.time_limit_s = default_limit_s
        return made

    return connect


def _reset_time_limit(connection: Any, _record: Any) -> None:
    """Give the next transaction the default time limit."""
    if connection is not None:
        connection.time_limit_s = connection.default_limit_s


def _options(limits: Limits) -> str:
    given = {
        "statement_timeout": limits.statement_timeout_s,
        "lock_timeout": limits.lock_timeout_s,
        "idle_in_transaction_session_timeout": limits.idle_timeout_s,
    }
    options = [f"-c {name}={round(value_s * 1000)}" for name, value_s in given.items()]
    return " ".join([*options, r"-c default_transaction_isolation=read\ committed"])


def _refuse_closed(connection: Any, _record: Any, _proxy: Any) -> None:
    """Refuse a connection that the server has closed: an idle connection has nothing to receive.

    Takes some microseconds; a query would take as long as a read.
    """
    poll = select.poll()
    if not connection.closed:
        poll.register(connection.fileno(), select.POLLIN)
    if connection.closed or poll.poll(0):
        raise InvalidatePoolError("the server has closed the connection")
