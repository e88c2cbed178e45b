"""What PostgreSQL needs beside what both databases share: connections, time-outs, turns.

Reads are REPEATABLE READ, a snapshot as on SQLite. Writes are READ COMMITTED: who must not be overtaken
locks a row (`domains.lock`) or takes an `advisory_lock` first, and sees what others committed until then.
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

#: A host that has vanished without a word is noticed after about half a minute, and after 15 s by whoever has
#: sent it something.
_TCP = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 15_000,  # milliseconds; where the system knows it
}
#: The server ends a statement that takes too long. One that has said nothing for so much longer is silent:
#: it hangs, or something between us drops what it says and answers for it on the level of TCP.
SILENCE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one process's connections; times of 0 mean no bound."""

    connections: int = 12
    """Open at once; who finds none free waits as long as for a connection."""
    connect_timeout_s: float = 5.0
    statement_timeout_s: float = 30.0
    lock_timeout_s: float = 10.0
    idle_timeout_s: float = 60.0
    """A transaction in which nothing happens for this long is undone: its process hangs or is cut off."""


def is_postgres(url: str) -> bool:
    return url.startswith(("postgresql:", "postgresql+psycopg:", "postgres:"))


def open_engine(url: str, limits: Limits) -> Engine:
    """An engine over psycopg. Raises SetupError for a URL that is none and without psycopg."""
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
    except (ArgumentError, ValueError):  # its text holds the URL, and that a password
        raise SetupError("setting database is no URL such as postgresql://user@host/name") from None
    except ModuleNotFoundError:
        raise SetupError(
            "setting database names PostgreSQL, which needs psycopg: pip install 'sonant[postgres]'"
        ) from None
    event.listen(engine, "do_connect", _connector(limits.statement_timeout_s))
    event.listen(engine, "checkin", _forget_time)
    event.listen(engine, "checkout", _refuse_dead)
    return engine


def advisory_lock(connection: Connection, *what: str) -> None:
    """Wait until nobody else writes about `what`; theirs is committed then, and ours until we have committed.

    For what no row stands for. Nothing on SQLite, where every writer has the turn anyway.
    """
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(blake2b("\0".join(what).encode(), digest_size=8).digest(), "big", signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def lift_timeouts(connection: Connection) -> None:
    """This transaction may do statements of any length. Nothing on SQLite, which knows no time-out."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        driver: Any = connection.connection.driver_connection
        driver.may_take_s = None


def check_room(connection: Connection, connections: int) -> None:
    """Raises SetupError when the server takes fewer connections than one process may open."""
    room = connection.execute(
        text(
            "SELECT current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
        )
    ).scalar_one()
    if connections > room:
        raise SetupError(
            f"a process of Sonant opens up to {connections} connections, and the PostgreSQL server takes "
            f"{room}: lower the setting postgres.connections, or raise max_connections of the server"
        )


def storable(connection: Connection, value: str) -> str:
    """A text of somebody else's as the database takes it: PostgreSQL stores no NUL."""
    return value if connection.dialect.name == "sqlite" else value.replace("\0", "\ufffd")


def _with_driver(url: str) -> URL:
    parsed = make_url(url)
    return parsed.set(drivername="postgresql+psycopg")


def _connector(statement_timeout_s: float) -> Callable[..., Any]:
    """What makes connections whose statements end, whatever becomes of the server."""
    from psycopg import Connection as Driver
    from psycopg import OperationalError as Fault
    from psycopg.abc import PQGen
    from psycopg.waiting import READY_NONE

    usual_s = statement_timeout_s + SILENCE_S if statement_timeout_s > 0 else None

    class Bounded(Driver[Any]):
        """A connection that is closed, with an OperationalError, when its server is silent for too long."""

        usual_s: float | None
        may_take_s: float | None

        def wait(self, gen: PQGen[Any], *arguments: Any, **named: Any) -> Any:
            bound_s = self.may_take_s
            return super().wait(gen if bound_s is None else self._heard(gen, bound_s), *arguments, **named)

        def _heard(self, gen: PQGen[Any], bound_s: float) -> PQGen[Any]:
            """`gen`, which is resumed every tenth of a second, until nothing has come or gone for so long."""
            last_s = time.monotonic()
            try:
                wanted = next(gen)
                while True:
                    ready = yield wanted
                    if ready != READY_NONE:
                        last_s = time.monotonic()
                    elif time.monotonic() - last_s > bound_s:
                        gen.close()
                        self.pgconn.finish()
                        raise Fault(f"the server said nothing for {bound_s:g} s")
                    wanted = gen.send(ready)
            except StopIteration as end:
                return end.value

    def connect(_dialect: Any, _record: Any, arguments: Any, named: Any) -> Any:
        made = Bounded.connect(*arguments, **named)
        made.usual_s = made.may_take_s = usual_s
        return made

    return connect


def _forget_time(connection: Any, _record: Any) -> None:
    """The next transaction has no more time than usual."""
    if connection is not None:
        connection.may_take_s = connection.usual_s


def _options(limits: Limits) -> str:
    given = {
        "statement_timeout": limits.statement_timeout_s,
        "lock_timeout": limits.lock_timeout_s,
        "idle_in_transaction_session_timeout": limits.idle_timeout_s,
    }
    options = [f"-c {name}={round(value_s * 1000)}" for name, value_s in given.items()]
    return " ".join([*options, r"-c default_transaction_isolation=read\ committed"])


def _refuse_dead(connection: Any, _record: Any, _proxy: Any) -> None:
    """Do not hand out a connection that the server has closed: nothing is asked, so nothing may be told.

    Costs some microseconds, where a question would cost as much as a read.
    """
    poll = select.poll()
    if not connection.closed:
        poll.register(connection.fileno(), select.POLLIN)
    if connection.closed or poll.poll(0):
        raise InvalidatePoolError("the server has closed the connection")
