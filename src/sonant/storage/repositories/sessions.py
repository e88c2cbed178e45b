"""Sessions of live calls: rows in and out. What a stream may become is guarded by what it is.

A process that listens to a stream owns it and says so again and again (`beat`). A stream whose owner has
fallen silent counts as ended from that moment on, whoever asks, without anybody having to write it down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select, update

from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.database.paging import Position, page_of
from sonant.storage.database.rows import first_row
from sonant.storage.database.schema import domains, session_hearings, session_results, sessions
from sonant.storage.times import from_us, to_us

PENDING, ONGOING, ENDED = "PENDING_CONFIGURATION", "ONGOING", "ENDED"
ACTIVE = (PENDING, ONGOING)

#: Why streams end.
NEVER_BEGAN, SERVICE_STOPPED = "NEVER_BEGAN", "SERVICE_STOPPED"

_TIMES = (
    "created_at",
    "updated_at",
    "stream_until",
    "stream_started_at",
    "stream_ended_at",
    "enrollment_speech_at",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a session is to do."""

    acceptance_threshold: int | None
    """None: no authentication."""
    authentication_speech_s: float
    risk_threshold: int | None
    """None: no fraud detection."""
    watchlist_id: str | None
    """None: the domain's default one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as stored, but for a stream whose time is up, which is ENDED here."""

    session_id: str
    domain_id: str
    name: str
    wrapped: bytes
    speaker_id: str | None
    acceptance_threshold: int | None
    authentication_speech_s: float
    risk_threshold: int | None
    watchlist_id: str | None
    enrollment_status: str | None
    enrollment_message: str | None
    created_at: datetime
    updated_at: datetime
    stream: int
    stream_status: str
    stream_until: datetime
    stream_owner: str | None
    stream_started_at: datetime | None
    stream_ended_at: datetime | None
    stream_end_reason: str | None
    heard_s: float
    net_speech_s: float
    enrollment_speech_at: datetime | None = None
    """When the stream had brought speech enough for an enrollment, asked for or not."""
    contact_arn: str | None = None
    """What Amazon Connect calls the call."""

    @property
    def active(self) -> bool:
        return self.stream_status in ACTIVE

    @property
    def setup(self) -> Setup:
        return Setup(
            acceptance_threshold=self.acceptance_threshold,
            authentication_speech_s=self.authentication_speech_s,
            risk_threshold=self.risk_threshold,
            watchlist_id=self.watchlist_id,
        )

    def seal(self, vault: Vault) -> SpeakerSeal:
        return vault.session(self.session_id, self.wrapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an ongoing stream is."""

    session_id: str
    stream: int
    heard_s: float
    net_speech_s: float
    enrollment_speech_at: datetime | None = None
    """See `Session`."""


_SESSION = select(*[sessions.c[name] for name in Session.__slots__])
_OF_DOMAIN = _SESSION.where(sessions.c.domain_id == bindparam("of_domain"))
_BY_ID = _OF_DOMAIN.where(sessions.c.session_id == bindparam("wanted"))
_BY_NAME = _OF_DOMAIN.where(sessions.c.name == bindparam("wanted"))


def add(
    connection: Connection,
    vault: Vault,
    *,
    domain_id: str,
    session_id: str,
    name: str,
    speaker_id: str | None,
    setup: Setup,
    contact_arn: str | None,
    now: datetime,
    until: datetime,
) -> None:
    """A new session, whose first stream must begin before `until`."""
    _, wrapped = vault.new_session(session_id)
    connection.execute(
        insert(sessions).values(
            session_id=session_id,
            domain_id=domain_id,
            name=name,
            wrapped=wrapped,
            speaker_id=speaker_id,
            contact_arn=contact_arn,
            created_at=to_us(now),
            updated_at=to_us(now),
            stream=1,
            stream_status=PENDING,
            stream_until=to_us(until),
            heard_s=0.0,
            net_speech_s=0.0,
            **_setup(setup),
        )
    )


def find(connection: Connection, domain_id: str, name_or_id: str, now: datetime) -> Session | None:
    """By id (`id#…`) or by name; no name can begin with `id#`."""
    query = _BY_ID if name_or_id.startswith("id#") else _BY_NAME
    row = first_row(connection, query, {"of_domain": domain_id, "wanted": name_or_id})
    return None if row is None else _session(row, now)


def domain_of(connection: Connection, session_id: str) -> tuple[str, str] | None:
    """Region and id of the domain that a session belongs to, of whatever account."""
    query = select(domains.c.region, domains.c.domain_id).join_from(
        sessions, domains, domains.c.domain_id == sessions.c.domain_id
    )
    found = connection.execute(query.where(sessions.c.session_id == session_id)).first()
    return None if found is None else (found.region, found.domain_id)


def page(
    connection: Connection,
    domain_id: str,
    status: str | None,
    after: Position | None,
    limit: int,
    now: datetime,
) -> list[Session]:
    """Oldest first, ties by id; at most `limit` after the position `after`, of one status if it is given."""
    query = _SESSION.where(sessions.c.domain_id == domain_id)
    if status in ACTIVE:
        query = query.where(sessions.c.stream_status == status, sessions.c.stream_until >= to_us(now))
    elif status is not None:
        ended = or_(sessions.c.stream_status == ENDED, sessions.c.stream_until < to_us(now))
        query = query.where(ended)
    query = page_of(query, sessions.c.created_at, sessions.c.session_id, after, limit)
    return [_session(dict(row), now) for row in connection.execute(query).mappings()]


def count_active(connection: Connection, domain_id: str, now: datetime) -> int:
    """Sessions whose stream is pending or ongoing."""
    query = select(func.count()).where(
        sessions.c.domain_id == domain_id,
        sessions.c.stream_status.in_(ACTIVE),
        sessions.c.stream_until >= to_us(now),
    )
    return connection.execute(query).scalar_one()


def active_by_domain(connection: Connection, now: datetime) -> dict[str, int]:
    """`count_active` of every domain that has any."""
    query = (
        select(sessions.c.domain_id, func.count())
        .where(sessions.c.stream_status.in_(ACTIVE), sessions.c.stream_until >= to_us(now))
        .group_by(sessions.c.domain_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def set_up(
    connection: Connection,
    session_id: str,
    *,
    speaker_id: str | None,
    setup: Setup,
    now: datetime,
    contact_arn: str | None = None,
) -> None:
    """Change what a session is to do, and for whom. Without a `contact_arn` it keeps its own."""
    contact = {} if contact_arn is None else {"contact_arn": contact_arn}
    connection.execute(
        update(sessions)
        .where(sessions.c.session_id == session_id)
        .values(speaker_id=speaker_id, updated_at=to_us(now), **_setup(setup), **contact)
    )


def set_enrollment(
    connection: Connection, session_id: str, status: str, message: str | None, now: datetime
) -> None:
    connection.execute(
        update(sessions)
        .where(sessions.c.session_id == session_id)
        .values(enrollment_status=status, enrollment_message=message, updated_at=to_us(now))
    )


def fail_enrollments(
    connection: Connection, domain_id: str, speaker_ids: Sequence[str], message: str, now: datetime
) -> list[Session]:
    """End the enrollments of these speakers that sessions still gather speech for or work on; the sessions,
    as they were."""
    running = and_(
        sessions.c.domain_id == domain_id,
        sessions.c.enrollment_status.in_(("NOT_ENOUGH_SPEECH", "IN_PROGRESS")),
    )
    rows = connection.execute(_SESSION.where(running)).mappings().all()
    found = [_session(dict(row), now) for row in rows if row["speaker_id"] in set(speaker_ids)]
    for session in found:
        set_enrollment(connection, session.session_id, "FAILED", message, now)
    return found


# --- streams ------------------------------------------------------------------------------------------


def next_stream(connection: Connection, session: Session, now: datetime, until: datetime) -> None:
    """A new stream for a session whose last one has ended; it must begin before `until`."""
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
            updated_at=to_us(now),
        )
    )


def claim_stream(
    connection: Connection, session_id: str, stream: int, owner: str, now: datetime, until: datetime
) -> bool:
    """Audio has arrived: the pending stream is this process's. False if it is not pending (any more)."""
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


_BEAT = (
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


def beat(connection: Connection, owner: str, progress: Sequence[Progress], until: datetime) -> None:
    """The process still listens to these streams, and has come so far; it will say so again by `until`."""
    if progress:
        connection.execute(
            _BEAT,
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


def owned(connection: Connection, owner: str, now: datetime) -> dict[str, Session]:
    """The streams that a process listens to, as the store has them; by session id."""
    query = _SESSION.where(sessions.c.stream_owner == owner, sessions.c.stream_status == ONGOING)
    rows = connection.execute(query).mappings()
    return {row["session_id"]: _session(dict(row), now) for row in rows}


def end_stream(
    connection: Connection,
    session_id: str,
    stream: int,
    reason: str,
    now: datetime,
    until: datetime,
    progress: Progress | None = None,
) -> bool:
    """End a pending or ongoing stream; the session is kept `until` then. False if it had ended before."""
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
    return done.rowcount == 1


def silent(connection: Connection, now: datetime, limit: int) -> list[Session]:
    """Sessions whose stream counts as ended although nobody has written it down yet."""
    query = _SESSION.where(sessions.c.stream_status.in_(ACTIVE), sessions.c.stream_until < to_us(now))
    rows = connection.execute(query.limit(limit)).mappings()
    return [_session(dict(row), now) for row in rows]


def ongoing(connection: Connection, now: datetime) -> list[Session]:
    """All sessions whose stream is ongoing, whoever listens."""
    query = _SESSION.where(sessions.c.stream_status == ONGOING)
    return [_session(dict(row), now) for row in connection.execute(query).mappings()]


def stalled(connection: Connection, before: datetime, now: datetime, limit: int) -> list[Session]:
    """Sessions without an ongoing stream whose enrollment is in progress since before a moment."""
    query = _SESSION.where(
        sessions.c.enrollment_status == "IN_PROGRESS",
        sessions.c.stream_status != ONGOING,
        sessions.c.updated_at < to_us(before),
    )
    return [_session(dict(row), now) for row in connection.execute(query.limit(limit)).mappings()]


def erase_old(connection: Connection, now: datetime, limit: int) -> int:
    """Forget sessions whose time is up, with their keys and all that was heard."""
    old = (
        select(sessions.c.session_id)
        .where(sessions.c.stream_status == ENDED, sessions.c.stream_until < to_us(now))
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = [row.session_id for row in connection.execute(old)]
    if ids:
        for table in (session_results, session_hearings, sessions):
            connection.execute(delete(table).where(table.c.session_id.in_(ids)))
    return len(ids)


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)


def _setup(setup: Setup) -> dict[str, Any]:
    return {
        "acceptance_threshold": setup.acceptance_threshold,
        "authentication_speech_s": setup.authentication_speech_s,
        "risk_threshold": setup.risk_threshold,
        "watchlist_id": setup.watchlist_id,
    }


def _session(row: Mapping[str, Any], now: datetime) -> Session:
    values = dict(row)
    for name in _TIMES:
        values[name] = None if values[name] is None else from_us(values[name])
    found = Session(**values)
    if found.active and found.stream_until < now:
        return replace(
            found,
            stream_status=ENDED,
            stream_ended_at=found.stream_until,
            stream_end_reason=NEVER_BEGAN if found.stream_status == PENDING else SERVICE_STOPPED,
        )
    return found
