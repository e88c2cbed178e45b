"""Whether keys are those that a database was made with, by values that only the right ones open."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, inspect, select

from sonant.errors import SealBroken
from sonant.storage.crypto.vault import ServiceSecret
from sonant.storage.database.schema import access_keys, domains, key_checks, principals
from sonant.storage.times import to_us

_SERVICE_KEY = "service key"


def in_use(connection: Connection) -> bool:
    """Whether an installation was begun in this database, by any release; no if it holds no tables yet."""
    there = set(inspect(connection).get_table_names())
    return any(
        table.name in there and connection.execute(select(table.c[0]).limit(1)).first() is not None
        for table in (key_checks, principals, domains)
    )


def is_recorded(connection: Connection) -> bool:
    """Whether there is a check value; earlier releases made none."""
    return _find(connection) is not None


def record(connection: Connection, secret: ServiceSecret, now: datetime) -> None:
    """Keep the service key's check value."""
    connection.execute(
        insert(key_checks).values(name=_SERVICE_KEY, sealed=secret.seal_check(), created_at=to_us(now))
    )


def matches(connection: Connection, secret: ServiceSecret) -> bool:
    """Whether this is the service key of the database. Without a check value, the secret of one of its access
    keys has to open; a database that holds none takes any key."""
    sealed = _find(connection)
    if sealed is not None:
        return secret.opens_check(sealed)
    known = connection.execute(select(access_keys.c.access_key_id, access_keys.c.secret_sealed)).all()
    return not known or any(_opens(secret, row.access_key_id, row.secret_sealed) for row in known)


def _opens(secret: ServiceSecret, access_key_id: str, sealed: bytes) -> bool:
    try:
        secret.open_access_secret(access_key_id, sealed)
    except SealBroken:
        return False
    return True


def _find(connection: Connection) -> bytes | None:
    if not inspect(connection).has_table(key_checks.name):  # a command before an earlier release's migration
        return None
    query = select(key_checks.c.sealed).where(key_checks.c.name == _SERVICE_KEY)
    found: bytes | None = connection.execute(query).scalar_one_or_none()
    return found
