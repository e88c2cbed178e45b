"""What is stored about callers: consents, client tokens, logins that were ended, and request rates."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, text

from sonant.storage.database.rows import put
from sonant.storage.database.schema import client_tokens, consents
from sonant.storage.times import from_us, to_us

#: Client tokens and page tokens are valid for this long.
TOKEN_LIFETIME = timedelta(hours=24)
#: The longest validity of a signature, that of a presigned call, and so of what is remembered of one.
SIGNATURE_LIFETIME = timedelta(days=7)
#: The request hash of what is good for one use.
USED_ONCE = "used"


# --- consents


def consent_accepted_at(connection: Connection, account_id: str) -> datetime | None:
    """Return when the account accepted the biometric privacy notice, or None."""
    query = select(consents.c.accepted_at).where(consents.c.account_id == account_id)
    found = connection.execute(query).scalar()
    return None if found is None else from_us(found)


def accept_consent(connection: Connection, account_id: str, principal_arn: str, now: datetime) -> None:
    """Record that the account accepts the biometric privacy notice. The first time stays."""
    values = {"account_id": account_id, "principal_arn": principal_arn, "accepted_at": to_us(now)}
    put(connection, consents, values, replace=False)


# --- client tokens


def find_client_token(
    connection: Connection, scope: str, now: datetime, lifetime: timedelta = TOKEN_LIFETIME
) -> tuple[str, str] | None:
    """Return (request hash, resource id) of a token that was used within its lifetime."""
    query = select(client_tokens.c.request_hash, client_tokens.c.resource_id).where(
        client_tokens.c.scope == scope, client_tokens.c.created_at > to_us(now - lifetime)
    )
    row = connection.execute(query).first()
    return None if row is None else (row.request_hash, row.resource_id)


def add_client_token(
    connection: Connection, scope: str, request_hash: str, resource_id: str, now: datetime
) -> None:
    """Store a token, in place of an expired one of the same scope."""
    connection.execute(delete(client_tokens).where(client_tokens.c.scope == scope))
    connection.execute(
        insert(client_tokens).values(
            scope=scope, request_hash=request_hash, resource_id=resource_id, created_at=to_us(now)
        )
    )


def use_once(connection: Connection, scope: str, resource_id: str, now: datetime) -> bool:
    """Record that something that is good for one use, such as a presigned URL, was used for a resource.

    `scope` is a hash of it. Returns False when it was used before. It is kept as long as client tokens are,
    seven days, which is the longest life of a presigned URL.
    """
    values = {
        "scope": scope,
        "request_hash": USED_ONCE,
        "resource_id": resource_id,
        "created_at": to_us(now),
    }
    return put(connection, client_tokens, values, replace=False)


def delete_client_tokens(connection: Connection, used_by: datetime) -> int:
    """Delete tokens that were used by a moment; how many."""
    # Skips rows that another transaction deletes: two that wait for each other would both fail.
    old = select(client_tokens.c.scope).where(client_tokens.c.created_at <= to_us(used_by))
    old = old.with_for_update(skip_locked=True)
    return connection.execute(delete(client_tokens).where(client_tokens.c.scope.in_(old))).rowcount


# --- logins of the console that were ended


def end_login(connection: Connection, scope: str, now: datetime) -> None:
    """Note that a login was ended. `scope` is a keyed hash of its id, in the place of a token's: a login is
    valid for a shorter time than a token, so the note lasts as long as it is needed."""
    values = {"scope": scope, "request_hash": "", "resource_id": "", "created_at": to_us(now)}
    put(connection, client_tokens, values, replace=False)


def login_ended(connection: Connection, scope: str) -> bool:
    """Return whether a login was ended."""
    query = select(client_tokens.c.scope).where(client_tokens.c.scope == scope)
    return connection.execute(query).first() is not None


def end_logins(connection: Connection, scope: str, now: datetime) -> None:
    """Note that all logins of an access key that have begun by now are ended. `scope` is a keyed hash of the
    key's id."""
    values = {"scope": scope, "request_hash": "", "resource_id": "", "created_at": to_us(now)}
    put(connection, client_tokens, values, replace=True)


def logins_ended_at(connection: Connection, scope: str) -> datetime | None:
    """Return when `end_logins` was last called, or None."""
    query = select(client_tokens.c.created_at).where(client_tokens.c.scope == scope)
    found = connection.execute(query).scalar()
    return None if found is None else from_us(found)


# --- request rates

#: A token bucket. On PostgreSQL only, where several processes answer calls; its clock counts.
_TAKE = text(
    """
    INSERT INTO rate_buckets AS bucket (account_id, region, operation, calls, filled_at_s)
    VALUES (:account_id, :region, :operation, CAST(:size AS double precision) - 1,
            extract(epoch FROM clock_timestamp()))
    ON CONFLICT (account_id, region, operation) DO UPDATE SET
        calls = least(:size, bucket.calls
            + greatest(0, excluded.filled_at_s - bucket.filled_at_s) * CAST(:rate AS double precision)) - 1,
        filled_at_s = greatest(bucket.filled_at_s, excluded.filled_at_s)
    WHERE least(:size, bucket.calls
        + greatest(0, excluded.filled_at_s - bucket.filled_at_s) * CAST(:rate AS double precision)) >= 1
    """
)


def take_call(
    connection: Connection, account_id: str, region: str, operation: str, *, rate: float, size: float
) -> bool:
    """Take one call of an account's bucket, and return whether there was one.

    A bucket holds `size` calls and fills by `rate` a second.
    """
    wanted = {
        "account_id": account_id,
        "region": region,
        "operation": operation,
        "rate": rate,
        "size": size,
    }
    return connection.execute(_TAKE, wanted).rowcount == 1
