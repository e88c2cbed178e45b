"""Reads and writes sessions of live calls; `session_streams` has their streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.database.bound_connection import unverified
from sonant.storage.database.paging import Position, page_of
from sonant.storage.database.rows import first_row
from sonant.storage.database.schema import domains, session_results, sessions
from sonant.storage.times import from_us, to_us

#: A decision that so many sessions of a domain have at most is rare.
MOST_RARE = 5000

PENDING, ONGOING, ENDED = "PENDING_CONFIGURATION", "ONGOING", "ENDED"
ACTIVE = (PENDING, ONGOING)

#: Reasons for which streams end without a request.
NEVER_BEGAN, SERVICE_STOPPED = "NEVER_BEGAN", "SERVICE_STOPPED"

#: Why speech of a stream could not be used, or only a part of it.
MULTIPLE_SPEAKERS = "MULTIPLE_SPEAKERS"
SPEAKER_CHANGED, LATER_HIGH_RISK = "SPEAKER_CHANGED", "LATER_HIGH_RISK"
"""What a later look at the voice of a call has found."""

_TIMES = (
    "created_at",
    "updated_at",
    "stream_until",
    "stream_started_at",
    "stream_ended_at",
    "enrollment_speech_at",
    "multiple_speakers_at",
    "speaker_changed_at",
    "later_risk_at",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The configuration of a session."""

    acceptance_threshold: int | None
    """None: no authentication."""
    authentication_speech_s: float
    risk_threshold: int | None
    """None: no fraud detection."""
    watchlist_id: str | None
    """None: the domain's default one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as stored, except that an expired stream is ENDED here."""

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
    """When the stream had enough speech for an enrollment, whether or not one was requested."""
    contact_arn: str | None = None
    """The ARN of the contact in Amazon Connect."""
    multiple_speakers_at: datetime | None = None
    """When several people were first noticed in the stream."""
    speaker_changed_at: datetime | None = None
    """When a later look first found another voice than that of the speech for the authentication."""
    later_risk_at: datetime | None = None
    """When a later look first found a high risk."""
    erasures: int = 0
    """How often its data key was renewed: analyzed speech of before may not be stored."""

    @property
    def active(self) -> bool:
        return self.stream_status in ACTIVE

    @property
    def speech_reasons(self) -> tuple[str, ...]:
        """What was noticed in the stream's speech that a decision may depend on."""
        noticed = {
            MULTIPLE_SPEAKERS: self.multiple_speakers_at,
            SPEAKER_CHANGED: self.speaker_changed_at,
            LATER_HIGH_RISK: self.later_risk_at,
        }
        return tuple(reason for reason, moment in noticed.items() if moment is not None)

    @property
    def setup(self) -> Setup:
        return Setup(
            acceptance_threshold=self.acceptance_threshold,
            authentication_speech_s=self.authentication_speech_s,
            risk_threshold=self.risk_threshold,
            watchlist_id=self.watchlist_id,
        )

    def seal(self, vault: Vault) -> SpeakerSeal:
        """Open the session's data key. Raises SealBroken."""
        return vault.session(self.session_id, self.wrapped)


SELECT_SESSION = select(*[sessions.c[name] for name in Session.__slots__])
_OF_DOMAIN = SELECT_SESSION.where(sessions.c.domain_id == bindparam("of_domain"))
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
    """Add a session, whose first stream must start before `until`."""
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
    """Find a session by id (`id#…`) or by name, which cannot begin with `id#`."""
    query = _BY_ID if name_or_id.startswith("id#") else _BY_NAME
    row = first_row(connection, query, {"of_domain": domain_id, "wanted": name_or_id})
    return None if row is None else from_row(row, now)


def domain_of(connection: Connection, session_id: str) -> tuple[str, str] | None:
    """Return Region and id of a session's domain, of any account, or None."""
    query = select(domains.c.region, domains.c.domain_id).join_from(
        sessions, domains, domains.c.domain_id == sessions.c.domain_id
    )
    found = connection.execute(query.where(sessions.c.session_id == session_id)).first()
    return None if found is None else (found.region, found.domain_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChoice:
    """Which sessions of a domain a listing has, and in which order. None selects nothing."""

    now: datetime
    status: str | None = None
    speaker_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    authentication: str | None = None
    """The latest decision on the speaker."""
    fraud: str | None = None
    """The latest decision on fraud."""
    fraud_reason: str | None = None
    """Why that is a high risk."""
    newest_first: bool = False

    @property
    def decisions(self) -> tuple[tuple[str, str, str | None], ...]:
        """The chosen decisions, as (purpose, decision, reason). Only a high risk has reasons."""
        fraud = self.fraud or (None if self.fraud_reason is None else "HIGH_RISK")
        chosen = (("AUTHENTICATION", self.authentication, None), ("FRAUD", fraud, self.fraud_reason))
        return tuple((purpose, decision, why) for purpose, decision, why in chosen if decision is not None)

    @property
    def scope(self) -> tuple[str, ...]:
        """What a page token of the listing is bound to."""
        given = (
            self.status,
            self.speaker_id,
            self.created_after,
            self.created_before,
            self.authentication,
            self.fraud,
            self.fraud_reason,
            self.newest_first or None,
        )
        return tuple("" if one is None else str(one) for one in given)


def page(
    connection: Connection, domain_id: str, choice: SessionChoice, after: Position | None, limit: int
) -> list[Session]:
    """Return a page of the sessions that are chosen, at most `limit` after the position `after`.

    Sessions of a rare decision are found by it; those of a frequent one by looking at sessions in order.
    """
    columns = sessions.c
    results = [_of_decision(domain_id, *one) for one in choice.decisions]
    rare = next((ids for one in results if (ids := _ids_if_rare(connection, one)) is not None), None)
    conditions = [*_chosen(choice), *(_has_result(one) for one in results)]
    if rare is not None:
        keys = select(columns.created_at, columns.session_id).where(columns.session_id.in_(rare), *conditions)
        rows = connection.execute(unverified(keys, "`from_row` reads the rows of the page"))
        found = sorted(((row.created_at, row.session_id) for row in rows), reverse=choice.newest_first)
        if after is not None:
            found = [key for key in found if (key < after if choice.newest_first else key > after)]
        return _by_key(connection, domain_id, found[:limit], choice.now)
    query = SELECT_SESSION.where(columns.domain_id == domain_id, *conditions)
    query = page_of(query, columns.created_at, columns.session_id, after, limit, choice.newest_first)
    return [from_row(dict(row), choice.now) for row in connection.execute(query).mappings()]


def _by_key(connection: Connection, domain_id: str, keys: Sequence[Position], now: datetime) -> list[Session]:
    """Return the sessions of these keys, in their order.

    Told to sort, the database walks all sessions in order and looks for the few: half a second for a million.
    """
    columns, order = sessions.c, {session_id: number for number, (_, session_id) in enumerate(keys)}
    if not order:
        return []
    query = SELECT_SESSION.where(columns.domain_id == domain_id, columns.session_id.in_(order))
    found = [from_row(dict(row), now) for row in connection.execute(query).mappings()]
    return sorted(found, key=lambda one: order[one.session_id])


def _chosen(choice: SessionChoice) -> Iterator[ColumnElement[bool]]:
    columns, now_us = sessions.c, to_us(choice.now)
    if choice.status in ACTIVE:
        yield and_(columns.stream_status == choice.status, columns.stream_until >= now_us)
    elif choice.status is not None:
        yield or_(columns.stream_status == ENDED, columns.stream_until < now_us)
    if choice.speaker_id is not None:
        yield columns.speaker_id == choice.speaker_id
    if choice.created_after is not None:
        yield columns.created_at >= to_us(choice.created_after)
    if choice.created_before is not None:
        yield columns.created_at < to_us(choice.created_before)


def _of_decision(domain_id: str, purpose: str, decision: str, reason: str | None) -> Select[tuple[str]]:
    """Select the ids of the sessions whose latest decision is this, for this reason if one is given."""
    columns = session_results.c
    query = select(columns.session_id).where(
        columns.domain_id == domain_id, columns.purpose == purpose, columns.decision == decision
    )
    return query if reason is None else query.where(columns.reasons.contains(reason, autoescape=True))


def _ids_if_rare(connection: Connection, ids: Select[tuple[str]]) -> list[str] | None:
    """Return the ids if they are few, else None."""
    found = connection.execute(unverified(ids.limit(MOST_RARE + 1), "finds rows, which are read then"))
    rare = [row.session_id for row in found]
    return rare if len(rare) <= MOST_RARE else None


def _has_result(ids: Select[tuple[str]]) -> ColumnElement[bool]:
    return exists(ids.where(session_results.c.session_id == sessions.c.session_id).correlate(sessions))


def count_active(connection: Connection, domain_id: str, now: datetime) -> int:
    """Return the number of sessions whose stream is pending or ongoing."""
    query = select(func.count()).where(
        sessions.c.domain_id == domain_id,
        sessions.c.stream_status.in_(ACTIVE),
        sessions.c.stream_until >= to_us(now),
    )
    return connection.execute(query).scalar_one()


def active_by_domain(connection: Connection, now: datetime) -> dict[str, int]:
    """Return `count_active` of every domain that has active sessions."""
    query = (
        select(sessions.c.domain_id, func.count())
        .where(sessions.c.stream_status.in_(ACTIVE), sessions.c.stream_until >= to_us(now))
        .group_by(sessions.c.domain_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def configure(
    connection: Connection,
    session_id: str,
    *,
    speaker_id: str | None,
    setup: Setup,
    now: datetime,
    contact_arn: str | None = None,
) -> None:
    """Change a session's configuration and speaker. Without a `contact_arn` it keeps its own."""
    contact = {} if contact_arn is None else {"contact_arn": contact_arn}
    connection.execute(
        update(sessions)
        .where(sessions.c.session_id == session_id)
        .values(speaker_id=speaker_id, updated_at=to_us(now), **_setup(setup), **contact)
    )


def set_enrollment(
    connection: Connection, session_id: str, status: str, message: str | None, now: datetime
) -> None:
    """Set the status of a session's enrollment."""
    connection.execute(
        update(sessions)
        .where(sessions.c.session_id == session_id)
        .values(enrollment_status=status, enrollment_message=message, updated_at=to_us(now))
    )


def fail_enrollments(
    connection: Connection, domain_id: str, speaker_ids: Sequence[str], message: str, now: datetime
) -> list[Session]:
    """Fail unfinished enrollments of these speakers in sessions; return the sessions as they were before."""
    running = and_(
        sessions.c.domain_id == domain_id,
        sessions.c.enrollment_status.in_(("NOT_ENOUGH_SPEECH", "IN_PROGRESS")),
    )
    of_speakers = sessions.c.speaker_id.in_(list(speaker_ids))
    rows = connection.execute(SELECT_SESSION.where(running, of_speakers)).mappings().all()
    found = [from_row(dict(row), now) for row in rows]
    for session in found:
        set_enrollment(connection, session.session_id, "FAILED", message, now)
    return found


def _setup(setup: Setup) -> dict[str, Any]:
    return {
        "acceptance_threshold": setup.acceptance_threshold,
        "authentication_speech_s": setup.authentication_speech_s,
        "risk_threshold": setup.risk_threshold,
        "watchlist_id": setup.watchlist_id,
    }


def from_row(row: Mapping[str, Any], now: datetime) -> Session:
    """Return the session of a row of `SELECT_SESSION`; an expired stream is ENDED."""
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
