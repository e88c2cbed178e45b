"""Reads and writes the streams of sessions. Every change of a stream checks its present status.

A process that listens to a stream owns it and sends heartbeats. A stream whose owner sends none counts as
ended from then on for every reader, before its row is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from sonant.storage.database.bound_connection import unverified, without_changed_rows
from sonant.storage.database.schema import session_hearings, session_results, sessions
from sonant.storage.repositories import counters
from sonant.storage.repositories.sessions import (
    ACTIVE,
    ENDED,
    ONGOING,
    PENDING,
    SELECT_SESSION,
    Session,
    from_row,
)
from sonant.storage.times import to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of an ongoing stream."""

    session_id: str
    stream: int
    heard_s: float
    net_speech_s: float
    enrollment_speech_at: datetime | None = None
    """See `Session`."""


def add(connection: Connection, session: Session, now: datetime, until: datetime) -> None:
    """Add a stream to a session whose last one has ended; it must start before `until`."""
    connection.execute(
        update(sessions)
        .where(sessions.c.session_id == session.session_id, sessions.c.stream == session.stream)
        .values(
            stream=session.stream + 1,
            stream_status=PENDING,
            stream_until=to_us(until),
            stream_owner=None,
            stream_started_at=None,
            stream_ended_at=None,
            stream_end_reason=None,
            heard_s=0.0,
            net_speech_s=0.0,
            enrollment_speech_at=None,
            multiple_speakers_at=None,
            speaker_changed_at=None,
            later_risk_at=None,
            updated_at=to_us(now),
        )
    )


def restart(connection: Connection, session: Session, now: datetime) -> None:
    """Start a session's next stream in place of the ongoing one: its process goes on with the same
    connection."""
    connection.execute(
        update(sessions)
        .where(
            sessions.c.session_id == session.session_id,
            sessions.c.stream == session.stream,
            sessions.c.stream_status == ONGOING,
        )
        .values(
            stream=session.stream + 1,
            stream_started_at=to_us(now),
            heard_s=0.0,
            net_speech_s=0.0,
            enrollment_speech_at=None,
            multiple_speakers_at=None,
            speaker_changed_at=None,
            later_risk_at=None,
            updated_at=to_us(now),
        )
    )


def claim(
    connection: Connection, session_id: str, stream: int, owner: str, now: datetime, until: datetime
) -> bool:
    """Take a pending stream whose audio has arrived. Returns False when it is not pending."""
    done = connection.execute(
        update(sessions)
        .where(
            sessions.c.session_id == session_id,
            sessions.c.stream == stream,
            sessions.c.stream_status == PENDING,
            sessions.c.stream_until >= to_us(now),
        )
        .values(
            stream_status=ONGOING,
            stream_owner=owner,
            stream_until=to_us(until),
            stream_started_at=to_us(now),
            updated_at=to_us(now),
        )
    )
    return done.rowcount == 1


def note_multiple_speakers(connection: Connection, session_id: str, now: datetime) -> bool:
    """Store that several people speak in the present stream. Returns False when that was known."""
    done = connection.execute(
        update(sessions)
        .where(sessions.c.session_id == session_id, sessions.c.multiple_speakers_at.is_(None))
        .values(multiple_speakers_at=to_us(now), updated_at=to_us(now))
    )
    return done.rowcount == 1


def note_later_look(
    connection: Connection, session: Session, *, changed: bool, risky: bool, now: datetime
) -> bool:
    """Store what a later look at the present stream has found. Returns False when all of it was known."""
    found = {
        sessions.c.speaker_changed_at: changed and session.speaker_changed_at is None,
        sessions.c.later_risk_at: risky and session.later_risk_at is None,
    }
    values = {column: to_us(now) for column, new in found.items() if new}
    if values:
        connection.execute(
            update(sessions)
            .where(sessions.c.session_id == session.session_id, sessions.c.stream == session.stream)
            .values({**values, sessions.c.updated_at: to_us(now)})
        )
    return bool(values)


_HEARTBEAT = (
    update(sessions)
    .where(
        sessions.c.session_id == bindparam("of_session"),
        sessions.c.stream == bindparam("of_stream"),
        sessions.c.stream_owner == bindparam("of_owner"),
        sessions.c.stream_status == ONGOING,
    )
    .values(
        heard_s=bindparam("new_heard_s"),
        net_speech_s=bindparam("new_net_speech_s"),
        enrollment_speech_at=bindparam("new_enrollment_speech_at"),
        stream_until=bindparam("new_until"),
    )
)


def heartbeat(connection: Connection, owner: str, progress: Sequence[Progress], until: datetime) -> None:
    """Record that the process still listens to these streams, with their progress.

    The next heartbeat comes before `until`.
    """
    if progress:
        connection.execute(
            _HEARTBEAT,
            [
                {
                    "of_session": one.session_id,
                    "of_stream": one.stream,
                    "of_owner": owner,
                    "new_heard_s": one.heard_s,
                    "new_net_speech_s": one.net_speech_s,
                    "new_enrollment_speech_at": _us(one.enrollment_speech_at),
                    "new_until": to_us(until),
                }
                for one in progress
            ],
        )


_KEEP_PENDING = (
    update(sessions)
    .where(
        sessions.c.session_id == bindparam("of_session"),
        sessions.c.stream == bindparam("of_stream"),
        sessions.c.stream_status == PENDING,
    )
    .values(stream_until=bindparam("new_until"))
)


def keep_pending(connection: Connection, streams: Sequence[tuple[str, int]], until: datetime) -> None:
    """Have pending streams, by session id and number, wait for their audio `until` then."""
    rows = [{"of_session": one, "of_stream": number, "new_until": to_us(until)} for one, number in streams]
    if rows:
        connection.execute(_KEEP_PENDING, rows)


_BY_IDS = without_changed_rows(
    SELECT_SESSION.where(sessions.c.session_id.in_(bindparam("session_ids", expanding=True)))
)


def find_all(connection: Connection, session_ids: Sequence[str], now: datetime) -> dict[str, Session]:
    """Return the stored sessions of these ids, by id; a changed row is left out, and reported."""
    rows = connection.execute(_BY_IDS, {"session_ids": session_ids}).mappings()
    return {row["session_id"]: from_row(dict(row), now) for row in rows}


def end(
    connection: Connection,
    session_id: str,
    stream: int,
    reason: str,
    now: datetime,
    until: datetime,
    progress: Progress | None = None,
) -> bool:
    """End a pending or ongoing stream; the session is stored `until` then. Returns False for an ended one."""
    reached: dict[str, Any] = {}
    if progress is not None:
        reached = {
            "heard_s": progress.heard_s,
            "net_speech_s": progress.net_speech_s,
            "enrollment_speech_at": _us(progress.enrollment_speech_at),
        }
    done = connection.execute(
        update(sessions)
        .where(
            sessions.c.session_id == session_id,
            sessions.c.stream == stream,
            sessions.c.stream_status.in_(ACTIVE),
        )
        .values(
            stream_status=ENDED,
            stream_owner=None,
            stream_ended_at=to_us(now),
            stream_end_reason=reason,
            stream_until=to_us(until),
            updated_at=to_us(now),
            **reached,
        )
    )
    ended = done.rowcount == 1
    if ended:
        counters.add(connection, {(counters.STREAMS, str(reason)): 1.0})
    return ended


def store_progress(connection: Connection, progress: Progress) -> None:
    """Store how far a stream came that was ended by a request, unless more is known already."""
    connection.execute(
        update(sessions)
        .where(
            sessions.c.session_id == progress.session_id,
            sessions.c.stream == progress.stream,
            sessions.c.stream_status == ENDED,
            sessions.c.heard_s < progress.heard_s,
        )
        .values(
            heard_s=progress.heard_s,
            net_speech_s=progress.net_speech_s,
            enrollment_speech_at=_us(progress.enrollment_speech_at),
        )
    )


def list_expired(connection: Connection, now: datetime, limit: int) -> list[Session]:
    """Return sessions whose stream counts as ended and is not yet stored as such."""
    query = SELECT_SESSION.where(sessions.c.stream_status.in_(ACTIVE), sessions.c.stream_until < to_us(now))
    rows = connection.execute(without_changed_rows(query.limit(limit))).mappings()
    return [from_row(dict(row), now) for row in rows]


def list_ongoing(connection: Connection, now: datetime) -> list[Session]:
    """Return all sessions with an ongoing stream, of any owner."""
    query = SELECT_SESSION.where(sessions.c.stream_status == ONGOING)
    rows = connection.execute(without_changed_rows(query)).mappings()
    return [from_row(dict(row), now) for row in rows]


def list_stalled(connection: Connection, before: datetime, now: datetime, limit: int) -> list[Session]:
    """Return sessions without an ongoing stream whose enrollment is in progress since before a time."""
    query = SELECT_SESSION.where(
        sessions.c.enrollment_status == "IN_PROGRESS",
        sessions.c.stream_status != ONGOING,
        sessions.c.updated_at < to_us(before),
    )
    rows = connection.execute(without_changed_rows(query.limit(limit))).mappings()
    return [from_row(dict(row), now) for row in rows]


def delete_expired_sessions(connection: Connection, now: datetime, limit: int) -> int:
    """Delete sessions whose retention is over, with their keys and voice samples; return how many."""
    old = (
        select(sessions.c.session_id)
        .where(sessions.c.stream_status == ENDED, sessions.c.stream_until < to_us(now))
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    old = unverified(old, "erasing goes on, whatever a row says besides")
    ids = [row.session_id for row in connection.execute(old)]
    if ids:
        for table in (session_results, session_hearings, sessions):
            connection.execute(delete(table).where(table.c.session_id.in_(ids)))
    return len(ids)


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)
