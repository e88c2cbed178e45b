"""Comparisons with a speaker that did not match: who made them, and a keyed hash of the voice."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, func, select

from sonant.storage.database.rows import put
from sonant.storage.database.schema import score_misses
from sonant.storage.times import from_us, to_us


def add(
    connection: Connection,
    *,
    speaker_id: str,
    principal_arn: str,
    probe: bytes,
    rejected: bool,
    budgeted: bool,
    now: datetime,
) -> bool:
    """Store a comparison, and return whether it is new: the same probe counts once."""
    values = {
        "speaker_id": speaker_id,
        "principal_arn": principal_arn,
        "probe": probe,
        "rejected": rejected,
        "budgeted": budgeted,
        "created_at": to_us(now),
    }
    return put(connection, score_misses, values, replace=False)


def nth_newest(
    connection: Connection, speaker_id: str, principal_arn: str, number: int, since: datetime
) -> datetime | None:
    """Return when a principal's `number`th newest comparison after `since` was; None if there are fewer."""
    return _nth_newest(connection, speaker_id, number, since, score_misses.c.principal_arn == principal_arn)


def nth_newest_of_all(
    connection: Connection, speaker_id: str, number: int, since: datetime
) -> datetime | None:
    """Return when the `number`th newest voice after `since` was compared by anybody who has a budget, each
    counted at its first comparison; None if there are fewer."""
    table = score_misses
    first = func.min(table.c.created_at)
    query = (
        select(first)
        .where(table.c.speaker_id == speaker_id, table.c.budgeted, table.c.created_at > to_us(since))
        .group_by(table.c.probe)
        .order_by(first.desc())
        .offset(number - 1)
        .limit(1)
    )
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else from_us(found)


def nth_newest_rejection(
    connection: Connection, speaker_id: str, number: int, since: datetime
) -> datetime | None:
    """Return when the `number`th newest rejection after `since` was; None if there are fewer."""
    return _nth_newest(connection, speaker_id, number, since, score_misses.c.rejected)


def delete_of(connection: Connection, speaker_id: str) -> int:
    """Delete the comparisons with a speaker; return how many."""
    return connection.execute(delete(score_misses).where(score_misses.c.speaker_id == speaker_id)).rowcount


def delete_before(connection: Connection, moment: datetime) -> int:
    """Delete old comparisons; return how many."""
    return connection.execute(delete(score_misses).where(score_misses.c.created_at < to_us(moment))).rowcount


def _nth_newest(
    connection: Connection, speaker_id: str, number: int, since: datetime, which: ColumnElement[bool]
) -> datetime | None:
    query = (
        select(score_misses.c.created_at)
        .where(score_misses.c.speaker_id == speaker_id, which, score_misses.c.created_at > to_us(since))
        .order_by(score_misses.c.created_at.desc())
        .offset(number - 1)
        .limit(1)
    )
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else from_us(found)
