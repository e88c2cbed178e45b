"""Checks that keys are those of the database, by values that only the right keys open."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, Table, insert, inspect, select

from sonant.errors import SealBroken
from sonant.storage.crypto.service_secret import ServiceSecret
from sonant.storage.database.bound_connection import unverified
from sonant.storage.database.rows import put
from sonant.storage.database.schema import access_keys, domains, key_checks, principals
from sonant.storage.times import to_us

_SERVICE_KEY, _BINDING, _ROTATION = "service key", "bound rows", "rotation"
#: Reads before the key of the rows' MACs is known: what they find is sealed, or only counted.
_BEFORE_THE_KEY = "the key is not known yet"


def in_use(connection: Connection) -> bool:
    """Return whether any release has used this database; False when it has no tables."""
    existing = set(inspect(connection).get_table_names())
    return any(
        table.name in existing and connection.execute(_one_of(table)).first() is not None
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


def replace_check(connection: Connection, secret: ServiceSecret, now: datetime) -> None:
    """Store the check value of a service key that replaces another."""
    values = {"name": _SERVICE_KEY, "sealed": secret.seal_check(), "created_at": to_us(now)}
    put(connection, key_checks, values, replace=True)


def prepared_matches(connection: Connection, secret: ServiceSecret) -> bool:
    """Return whether the prepared key is the service key of the database: a rotation has switched to it."""
    sealed = _find(connection)
    return sealed is not None and secret.prepared_opens_check(sealed)


def matches(connection: Connection, secret: ServiceSecret) -> bool:
    """Return whether this is the service key of the database.

    Without a check value, it must open the secret of an access key; a database without access keys
    accepts any key.
    """
    sealed = _find(connection)
    if sealed is not None:
        return secret.opens_check(sealed)
    query = select(access_keys.c.access_key_id, access_keys.c.secret_sealed)
    known = connection.execute(unverified(query, _BEFORE_THE_KEY)).all()
    return not known or any(_opens(secret, row.access_key_id, row.secret_sealed) for row in known)


def find_binding(connection: Connection) -> bytes | None:
    """Return the sealed record of which rows are bound by MACs; None when none ever were."""
    return _sealed(connection, _BINDING)


def record_binding(connection: Connection, sealed: bytes, now: datetime) -> None:
    """Store the sealed record of which rows are bound, in place of an earlier one."""
    _store(connection, _BINDING, sealed, now)


def find_rotation(connection: Connection) -> bytes | None:
    """Return the sealed record of the last rotation of the service key; None when there was none."""
    return _sealed(connection, _ROTATION)


def record_rotation(connection: Connection, sealed: bytes, now: datetime) -> None:
    """Store the sealed record of a rotation, in place of an earlier one."""
    _store(connection, _ROTATION, sealed, now)


def _sealed(connection: Connection, name: str) -> bytes | None:
    query = select(key_checks.c.sealed).where(key_checks.c.name == name)
    found: bytes | None = connection.execute(query).scalar_one_or_none()
    return found


def _store(connection: Connection, name: str, sealed: bytes, now: datetime) -> None:
    values = {"name": name, "sealed": sealed, "created_at": to_us(now)}
    put(connection, key_checks, values, replace=True)


def _one_of(table: Table) -> Select[Any]:
    return unverified(select(table.c[0]).limit(1), _BEFORE_THE_KEY)


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
    return _sealed(connection, _SERVICE_KEY)
