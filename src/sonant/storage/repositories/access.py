"""Principals (users and roles) with their policies, and access keys."""

from __future__ import annotations

import json
import secrets
import string
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from sonant.iam import Policy, PolicyEvaluator, check_new, parse
from sonant.storage.crypto.service_secret import ServiceSecret
from sonant.storage.database.bound_connection import unverified
from sonant.storage.database.paging import Position, page_of
from sonant.storage.database.schema import access_keys, principals
from sonant.storage.times import from_us, to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A user or a role, with the policies that decide what it may do."""

    arn: str
    account_id: str
    policies: tuple[Policy, ...]
    tags: Mapping[str, str]
    """Values of the condition keys aws:PrincipalTag/key."""
    evaluator: PolicyEvaluator = field(init=False, repr=False, compare=False)
    """Decides by `policies`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "evaluator", PolicyEvaluator(self.policies))

    @property
    def name(self) -> str:
        """The part of the ARN after `user/` or `role/`."""
        return self.arn.partition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKeySecret:
    """The secret of an access key, which signatures are verified with."""

    principal: Principal
    secret: str = field(repr=False)
    session_token: str | None = field(repr=False)
    """Set for temporary credentials, whose requests must carry it."""
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporaryCredentials:
    """New temporary credentials; they are shown once."""

    access_key_id: str
    secret: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """An access key without its secret."""

    access_key_id: str
    principal_arn: str
    active: bool
    created_at: datetime
    expires_at: datetime | None
    """Set for temporary credentials."""


def put_principal(
    connection: Connection,
    arn: str,
    account_id: str,
    policies: Sequence[str],
    now: datetime,
    *,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Create a principal, or replace its policies and (if given) its tags.

    Raises SetupError for a policy that does not parse.
    """
    for text in policies:
        check_new(text)
    values: dict[str, str] = {"account_id": account_id, "policies": json.dumps(list(policies))}
    if tags is not None:
        values["tags"] = json.dumps(dict(tags))
    if not connection.execute(update(principals).where(principals.c.arn == arn).values(values)).rowcount:
        values.setdefault("tags", "{}")
        connection.execute(insert(principals).values(arn=arn, created_at=to_us(now), **values))


def delete_principal(connection: Connection, arn: str) -> bool:
    """Delete a user or role with all its access keys, and return whether there was one."""
    connection.execute(delete(access_keys).where(access_keys.c.principal_arn == arn))
    return connection.execute(delete(principals).where(principals.c.arn == arn)).rowcount == 1


_FIND_PRINCIPAL = select(principals.c.account_id, principals.c.policies, principals.c.tags).where(
    principals.c.arn == bindparam("wanted")
)


def find_principal(connection: Connection, arn: str) -> Principal | None:
    """Return the principal of an ARN, or None."""
    row = connection.execute(_FIND_PRINCIPAL, {"wanted": arn}).first()
    return None if row is None else _principal(arn, row.account_id, row.policies, row.tags)


def policy_texts(connection: Connection, arn: str) -> tuple[str, ...] | None:
    """Return the policies of a principal as documents for another process, or None."""
    row = connection.execute(select(principals.c.policies).where(principals.c.arn == arn)).first()
    return None if row is None else tuple(json.loads(row.policies))


def list_principals(connection: Connection) -> list[str]:
    """Return the ARNs of all principals, sorted."""
    query = select(principals.c.arn).order_by(principals.c.arn)
    return list(connection.execute(unverified(query, "a name allows nothing")).scalars())


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPrincipal:
    """A user or a role as it is listed."""

    arn: str
    created_at: datetime
    policies: tuple[str, ...]
    """Documents."""


def page(
    connection: Connection, account_id: str, after: Position | None, limit: int
) -> list[ListedPrincipal]:
    """Return a page of an account's users and roles: oldest first, at most `limit` after a position."""
    columns = principals.c
    query = select(columns.arn, columns.created_at, columns.policies).where(columns.account_id == account_id)
    query = page_of(query, columns.created_at, columns.arn, after, limit)
    return [
        ListedPrincipal(
            arn=row.arn, created_at=from_us(row.created_at), policies=tuple(json.loads(row.policies))
        )
        for row in connection.execute(query)
    ]


def keys_of(connection: Connection, principal_arns: Collection[str]) -> dict[str, list[AccessKey]]:
    """Return the access keys of users and roles by ARN, oldest first."""
    columns, found = access_keys.c, defaultdict[str, list[AccessKey]](list)
    query = _KEYS.where(columns.principal_arn.in_(principal_arns))
    for row in connection.execute(query.order_by(columns.created_at, columns.access_key_id)):
        found[row.principal_arn].append(_access_key(row))
    return dict(found)


def create_access_key(
    connection: Connection, secret_of_service: ServiceSecret, principal_arn: str, now: datetime
) -> tuple[str, str]:
    """Create a key for a principal and return (access key id, secret). The secret is shown only once."""
    access_key_id, secret = _new_key_id("AKIA"), secrets.token_urlsafe(30)
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


def delete_expired(connection: Connection, by: datetime) -> int:
    """Delete temporary credentials that had expired by a moment; return how many."""
    expired = select(access_keys.c.access_key_id).where(access_keys.c.expires_at <= to_us(by))
    expired = expired.with_for_update(skip_locked=True)
    return connection.execute(delete(access_keys).where(access_keys.c.access_key_id.in_(expired))).rowcount


def create_temporary(
    connection: Connection,
    secret_of_service: ServiceSecret,
    principal_arn: str,
    now: datetime,
    lifetime: timedelta,
) -> TemporaryCredentials:
    """Make credentials of a principal that expire after `lifetime`."""
    made = TemporaryCredentials(
        access_key_id=_new_key_id("ASIA"),
        secret=secrets.token_urlsafe(30),
        session_token=secrets.token_urlsafe(96),
        expires_at=now + lifetime,
    )
    seal = secret_of_service.seal_access_secret
    connection.execute(
        insert(access_keys).values(
            access_key_id=made.access_key_id,
            principal_arn=principal_arn,
            secret_sealed=seal(made.access_key_id, made.secret),
            token_sealed=seal(f"{made.access_key_id} token", made.session_token),
            active=True,
            created_at=to_us(now),
            expires_at=to_us(made.expires_at),
        )
    )
    return made


def _new_key_id(prefix: str) -> str:
    """Return a new id in the form that AWS tools expect: a prefix of four letters and 16 of A-Z2-7."""
    return prefix + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16))


_FIND_KEY = (
    select(
        access_keys.c.access_key_id,
        access_keys.c.secret_sealed,
        access_keys.c.token_sealed,
        access_keys.c.expires_at,
        principals.c.arn,
        principals.c.account_id,
        principals.c.policies,
        principals.c.tags,
    )
    .join(principals, principals.c.arn == access_keys.c.principal_arn)
    .where(access_keys.c.active, access_keys.c.access_key_id == bindparam("key_id"))
)


def find_secret(
    connection: Connection, secret_of_service: ServiceSecret, access_key_id: str
) -> AccessKeySecret | None:
    """Return the secret of an active access key, or None. `access_key_id` is unverified: any text."""
    if "\0" in access_key_id:
        return None  # PostgreSQL refuses NUL in a text
    row = connection.execute(_FIND_KEY, {"key_id": access_key_id}).first()
    if row is None:
        return None
    open_secret = secret_of_service.open_access_secret
    return AccessKeySecret(
        principal=_principal(row.arn, row.account_id, row.policies, row.tags),
        secret=open_secret(access_key_id, row.secret_sealed),
        session_token=None
        if row.token_sealed is None
        else open_secret(f"{access_key_id} token", row.token_sealed),
        expires_at=None if row.expires_at is None else from_us(row.expires_at),
    )


def list_key_ids(connection: Connection) -> list[str]:
    """Return the ids of all access keys, those of rows that were changed too."""
    query = select(access_keys.c.access_key_id).order_by(access_keys.c.access_key_id)
    return list(connection.execute(unverified(query, "an id allows nothing")).scalars())


def seal_again(connection: Connection, secret_of_service: ServiceSecret, access_key_id: str) -> bool:
    """Seal the secrets of an access key under the service's present key; return whether that was needed."""
    query = select(access_keys.c.secret_sealed, access_keys.c.token_sealed)
    row = connection.execute(query.where(access_keys.c.access_key_id == access_key_id)).first()
    if row is None or secret_of_service.is_present_access_secret(access_key_id, row.secret_sealed):
        return False
    again = {}
    token_name = f"{access_key_id} token"
    for column, name, sealed in (
        ("secret_sealed", access_key_id, row.secret_sealed),
        ("token_sealed", token_name, row.token_sealed),
    ):
        if sealed is not None:
            opened = secret_of_service.open_access_secret(name, sealed)
            again[column] = secret_of_service.seal_access_secret(name, opened)
    connection.execute(
        update(access_keys).where(access_keys.c.access_key_id == access_key_id).values(**again)
    )
    return True


_KEYS = select(
    access_keys.c.access_key_id,
    access_keys.c.principal_arn,
    access_keys.c.active,
    access_keys.c.created_at,
    access_keys.c.expires_at,
)


def list_access_keys(connection: Connection) -> list[AccessKey]:
    """Return all access keys, oldest first."""
    query = _KEYS.order_by(access_keys.c.created_at, access_keys.c.access_key_id)
    return [_access_key(row) for row in connection.execute(query)]


def _access_key(row: Any) -> AccessKey:
    return AccessKey(
        access_key_id=row.access_key_id,
        principal_arn=row.principal_arn,
        active=row.active,
        created_at=from_us(row.created_at),
        expires_at=None if row.expires_at is None else from_us(row.expires_at),
    )


def set_active(connection: Connection, access_key_id: str, active: bool) -> bool:
    """Enable or disable an access key, and return whether it exists."""
    statement = update(access_keys).where(access_keys.c.access_key_id == access_key_id).values(active=active)
    return connection.execute(statement).rowcount == 1


def delete_access_key(connection: Connection, access_key_id: str) -> bool:
    """Delete an access key, and return whether it existed."""
    statement = delete(access_keys).where(access_keys.c.access_key_id == access_key_id)
    return connection.execute(statement).rowcount == 1


def _principal(arn: str, account_id: str, policies: str, tags: str) -> Principal:
    return Principal(arn=arn, account_id=account_id, policies=_parsed(policies), tags=json.loads(tags))


@lru_cache(maxsize=1024)
def _parsed(policies: str) -> tuple[Policy, ...]:
    return tuple(parse(text) for text in json.loads(policies))
