"""Client tokens: which call made which resource, so that the same call again makes no other."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from sonant.storage.database.schema import client_tokens
from sonant.storage.times import to_us

#: A client token and a page token last this long.
TOKEN_LIFE = timedelta(hours=24)


def find(connection: Connection, scope: str, now: datetime) -> tuple[str, str] | None:
    """(request hash, resource id) of a token used in the last 24 hours."""
    query = select(client_tokens.c.request_hash, client_tokens.c.resource_id).where(
        client_tokens.c.scope == scope, client_tokens.c.created_at > to_us(now - TOKEN_LIFE)
    )
    row = connection.execute(query).first()
    return None if row is None else (row.request_hash, row.resource_id)


def keep(connection: Connection, scope: str, request_hash: str, resource_id: str, now: datetime) -> None:
    """Store a token, in place of an expired one of the same scope."""
    connection.execute(delete(client_tokens).where(client_tokens.c.scope == scope))
    connection.execute(
        insert(client_tokens).values(
            scope=scope, request_hash=request_hash, resource_id=resource_id, created_at=to_us(now)
        )
    )


def delete_used_by(connection: Connection, moment: datetime) -> int:
    """Delete tokens that were used by a moment; how many."""
    # Rows that another process is deleting are left to it: two that wait for each other would both fail.
    old = select(client_tokens.c.scope).where(client_tokens.c.created_at <= to_us(moment))
    old = old.with_for_update(skip_locked=True)
    return connection.execute(delete(client_tokens).where(client_tokens.c.scope.in_(old))).rowcount
