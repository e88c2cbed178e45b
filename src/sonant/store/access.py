"""Who may call: principals (users and roles) with policies, and access keys."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from sonant.policy import Policy, parse
from sonant.store.database.schema import access_keys, principals
from sonant.store.times import from_us, to_us
from sonant.store.vault import ServiceSecret


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A user or a role; `policies` decide what it may do."""

    arn: str
    account_id: str
    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """An access key without its secret."""

    access_key_id: str
    principal_arn: str
    active: bool
    created_at: datetime


def put_principal(
    connection: Connection, arn: str, account_id: str, policies: Sequence[str], now: datetime
) -> None:
    """Make or replace a principal. Raises SetupError for a policy that does not parse."""
    for text in policies:
        parse(text)
    values = {"account_id": account_id, "policies": json.dumps(list(policies))}
    if not connection.execute(update(principals).where(principals.c.arn == arn).values(values)).rowcount:
        connection.execute(insert(principals).values(arn=arn, created_at=to_us(now), **values))


_FIND_PRINCIPAL = select(principals.c.account_id, principals.c.policies)


def find_principal(connection: Connection, arn: str) -> Principal | None:
    row = connection.execute(_FIND_PRINCIPAL.where(principals.c.arn == arn)).first()
    return None if row is None else _principal(arn, row.account_id, row.policies)


def policy_texts(connection: Connection, arn: str) -> tuple[str, ...] | None:
    """The policies of a principal as documents, to be handed to another process."""
    row = connection.execute(select(principals.c.policies).where(principals.c.arn == arn)).first()
    return None if row is None else tuple(json.loads(row.policies))


def list_principals(connection: Connection) -> list[str]:
    return list(connection.execute(select(principals.c.arn).order_by(principals.c.arn)).scalars())


def create_access_key(
    connection: Connection, secret_of_service: ServiceSecret, principal_arn: str, now: datetime
) -> tuple[str, str]:
    """A new key for a principal: (access key id, secret). The secret is shown this once only."""
    # The form AWS tools expect: AKIA + 16 of A-Z2-7; secret of 40 characters.
    access_key_id = "AKIA" + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16))
    secret = secrets.token_urlsafe(30)
    connection.execute(
        insert(access_keys).values(
            access_key_id=access_key_id,
            principal_arn=principal_arn,
            secret_sealed=secret_of_service.seal_access_secret(access_key_id, secret),
            active=True,
            created_at=to_us(now),
        )
    )
    return access_key_id, secret


_FIND_KEY = (
    select(
        access_keys.c.access_key_id,
        access_keys.c.secret_sealed,
        principals.c.arn,
        principals.c.account_id,
        principals.c.policies,
    )
    .join(principals, principals.c.arn == access_keys.c.principal_arn)
    .where(access_keys.c.active, access_keys.c.access_key_id == bindparam("key_id"))
)


def find_secret(
    connection: Connection, secret_of_service: ServiceSecret, access_key_id: str
) -> tuple[Principal, str] | None:
    """The principal and the secret behind an active access key."""
    row = connection.execute(_FIND_KEY, {"key_id": access_key_id}).first()
    if row is None:
        return None
    return (
        _principal(row.arn, row.account_id, row.policies),
        secret_of_service.open_access_secret(access_key_id, row.secret_sealed),
    )


def list_access_keys(connection: Connection) -> list[AccessKey]:
    columns = access_keys.c
    query = select(columns.access_key_id, columns.principal_arn, columns.active, columns.created_at)
    return [
        AccessKey(
            access_key_id=row.access_key_id,
            principal_arn=row.principal_arn,
            active=row.active,
            created_at=from_us(row.created_at),
        )
        for row in connection.execute(query.order_by(columns.created_at, columns.access_key_id))
    ]


def set_active(connection: Connection, access_key_id: str, active: bool) -> bool:
    """Whether there was such a key."""
    statement = update(access_keys).where(access_keys.c.access_key_id == access_key_id).values(active=active)
    return connection.execute(statement).rowcount == 1


def delete_access_key(connection: Connection, access_key_id: str) -> bool:
    """Whether there was such a key."""
    statement = delete(access_keys).where(access_keys.c.access_key_id == access_key_id)
    return connection.execute(statement).rowcount == 1


def _principal(arn: str, account_id: str, policies: str) -> Principal:
    return Principal(arn=arn, account_id=account_id, policies=_parsed(policies))


@lru_cache(maxsize=1024)
def _parsed(policies: str) -> tuple[Policy, ...]:
    return tuple(parse(text) for text in json.loads(policies))
