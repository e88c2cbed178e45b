"""Checks that keys are those of the database, by values that only the right keys open."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, inspect, select

from sonant.errors import SealBroken
from sonant.storage.crypto.vault import ServiceSecret
from sonant.storage.database.schema import access_keys, domains, key_checks, principals
from sonant.storage.times import to_us

_SERVICE_KEY = "service key"


def in_use(connection: Connection) -> bool:
    """Return whether any release has used this database; False when it has no tables."""
    existing = set(inspect(connection).get_table_names())
    return any(
        table.name in existing and connection.execute(select(table.c[0]).limit(1)).first() is not None
        for table in (key_checks, principals, domains)
    )


def is_recorded(connection: Connection) -> bool:
    """Return whether there is a check value; earlier releases stored none."""
    return _find(connection) is not None


def record(connection: Connection, secret: ServiceSecret, now: datetime) -> None:
    """Store the service key's check value."""
    connection.execute(
        insert(key_checks).values(name=_SERVICE_KEY, sealed=secret.seal_check(), created_at=to_us(now))
    )


def matches(connection: Connection, secret: ServiceSecret) -> bool:
    """Return whether this is the service key of the database.

    Without a check value, it must open the secret of an access key; a database without access keys
    accepts any key.
    """
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
    # A command may run before the migration from an earlier release.
    if not inspect(connection).has_table(key_checks.name):
        return None
    query = select(key_checks.c.sealed).where(key_checks.c.name == _SERVICE_KEY)
    found: bytes | None = connection.execute(query).scalar_one_or_none()
    return found
