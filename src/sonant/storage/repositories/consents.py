"""Which accounts have accepted the biometric privacy notice."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from sonant.storage.database.rows import put
from sonant.storage.database.schema import consents
from sonant.storage.times import from_us, to_us


def accepted_at(connection: Connection, account_id: str) -> datetime | None:
    """When the account accepted the biometric privacy notice, None if it has not."""
    query = select(consents.c.accepted_at).where(consents.c.account_id == account_id)
    found = connection.execute(query).scalar()
    return None if found is None else from_us(found)


def accept(connection: Connection, account_id: str, principal_arn: str, now: datetime) -> None:
    """Record the acceptance; the first one stands."""
    values = {"account_id": account_id, "principal_arn": principal_arn, "accepted_at": to_us(now)}
    put(connection, consents, values, replace=False)
