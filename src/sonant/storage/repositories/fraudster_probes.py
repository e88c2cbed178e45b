"""Answers about known fraudsters: who was told a risk, of which band, and a keyed hash of the voice."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, select

from sonant.storage.database.bound_connection import unverified
from sonant.storage.database.rows import first_row, put
from sonant.storage.database.schema import fraudster_probes, fraudsters
from sonant.storage.times import to_us

#: Locked, so that it stays until the answer is stored (SQLite has one writer, and ignores it).
_PRESENT = unverified(
    select(fraudsters.c.fraudster_id)
    .where(fraudsters.c.fraudster_id == bindparam("wanted"))
    .with_for_update(read=True, key_share=True),
    "whether there is a row; the decision has read what it says",
)


def add(
    connection: Connection, *, fraudster_id: str, principal_arn: str, probe: bytes, band: int, now: datetime
) -> bool:
    """Store an answer, and return whether it is new: the same probe counts once.

    Nothing is stored of a fraudster who was deleted meanwhile.
    """
    if first_row(connection, _PRESENT, {"wanted": fraudster_id}) is None:
        return False
    values = {
        "fraudster_id": fraudster_id,
        "principal_arn": principal_arn,
        "probe": probe,
        "band": band,
        "created_at": to_us(now),
    }
    return put(connection, fraudster_probes, values, replace=False)


def count(
    connection: Connection, fraudster_id: str, since: datetime, *, principal_arn: str | None = None
) -> dict[int, int]:
    """Count the different probes after `since` by band, of one principal or of all."""
    table = fraudster_probes
    query = (
        select(table.c.band, func.count(table.c.probe.distinct()).label("probes"))
        .where(table.c.fraudster_id == fraudster_id, table.c.created_at > to_us(since))
        .group_by(table.c.band)
    )
    if principal_arn is not None:
        query = query.where(table.c.principal_arn == principal_arn)
    return {row.band: row.probes for row in connection.execute(query)}


def delete_of(connection: Connection, fraudster_id: str) -> int:
    """Delete the answers about a fraudster; return how many."""
    table = fraudster_probes
    return connection.execute(delete(table).where(table.c.fraudster_id == fraudster_id)).rowcount


def delete_before(connection: Connection, moment: datetime) -> int:
    """Delete old answers; return how many."""
    table = fraudster_probes
    return connection.execute(delete(table).where(table.c.created_at < to_us(moment))).rowcount
