"""Store the states and results of streams: each function is one short transaction.

Functions that need the domain raise DomainUnavailable; all raise what the database raises.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from sonant.errors import IntegrityFault
from sonant.events.outbox import Outbox
from sonant.events.session_documents import session_speech_event
from sonant.retention.sessions import stream_event
from sonant.sessions.calls import EndReason
from sonant.sessions.context import LEASE, DomainUnavailable, StreamContext
from sonant.sessions.listener import StreamKey
from sonant.storage.repositories import (
    domains,
    session_samples,
    session_streams,
    sessions,
    speakers,
)
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_samples import AUTHENTICATION, SessionSample
from sonant.storage.repositories.session_streams import Progress
from sonant.storage.repositories.sessions import ENDED, ONGOING, PENDING, Session

log = logging.getLogger(__name__)

#: Statuses of a session's speaker who may not be authenticated, however often asked; None is a deleted one.
REFUSED = (None, "OPTED_OUT")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStream:
    """A stream of this process, as the heartbeat reports it."""

    key: StreamKey
    claimed: bool
    progress: Progress
    connected: bool = False
    """Whether its carrier's connection lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """An open stream's state in the store: its session and domain while it goes on, else its end."""

    session: Session | None = None
    domain: Domain | None = None
    end_reason: EndReason | None = None


def claim(context: StreamContext, key: StreamKey, started_at: datetime) -> EndReason | None:
    """Make the stream this process's. None when that is done, else the reason why the stream ends."""
    with context.database.write() as connection:
        domain, _ = context.domain(connection, key.domain_id)
        now = context.clock()
        mine = session_streams.claim(
            connection, key.session_id, key.number, context.owner, started_at, now + LEASE
        )
        session = sessions.find(connection, key.domain_id, key.session_id, now)
        if session is not None and (mine or _holds_stream(context, key, session)):
            if mine:
                context.outbox.put(connection, [stream_event(connection, domain, session)], now)
                log.info("session %s: stream %d has begun", key.session_id, key.number)
            return None
    return end_reason(session, key)


def save(
    context: StreamContext,
    key: StreamKey,
    speech: SessionSample | None,
    *,
    multiple_speakers: bool = False,
    erasures: int = 0,
) -> bool:
    """Store analyzed speech (None: it cannot be used), and whether several people speak in it.

    Speech of before the session's last erasure is dropped (`erasures` is the count when it was collected), as
    is what would authenticate a speaker who was deleted or has opted out. False when the stream belongs to
    another process or a later one has started.
    """
    with context.database.write() as connection:
        domain, vault = context.domain(connection, key.domain_id)
        session = sessions.find(connection, key.domain_id, key.session_id, context.clock())
        if session is None:
            return False
        if session.stream != key.number and not _was_restarted(context, key, session):
            return False
        if session.stream_owner not in (None, context.owner):
            return False
        if session.erasures != erasures:
            return True
        if speech is not None and _may_store(connection, session, speech.purpose):
            session_samples.save_sample(connection, session.seal(vault), key.session_id, speech)
        if multiple_speakers:
            report_multiple_speakers(connection, context.outbox, domain, session, context.clock())
    return True


def _may_store(connection: Connection, session: Session, purpose: str) -> bool:
    if purpose != AUTHENTICATION or session.speaker_id is None:
        return True
    return speakers.status_of(connection, session.domain_id, session.speaker_id) not in REFUSED


def report_multiple_speakers(
    connection: Connection, outbox: Outbox, domain: Domain, session: Session, now: datetime
) -> None:
    """Store that several people speak in a session's stream, with an event the first time."""
    if session_streams.note_multiple_speakers(connection, session.session_id, now):
        noticed = sessions.find(connection, domain.domain_id, session.session_id, now)
        if noticed is not None:
            outbox.put(connection, [session_speech_event(domain, noticed)], now)


def end(context: StreamContext, key: StreamKey, reason: EndReason, progress: Progress) -> None:
    """Store the end of a stream, and of one that EndStream has ended how far it came.

    A stream that got no audio stays pending if another carrier may take it.
    """
    with context.database.write() as connection:
        now = context.clock()
        session = sessions.find(connection, key.domain_id, key.session_id, now)
        if session is None or session.stream != key.number:
            return
        if not _holds_stream(context, key, session):
            stays_pending = reason in (EndReason.DISCONNECTED, EndReason.SERVICE_STOPPED)
            if session.stream_status == ENDED and session.stream_end_reason == EndReason.REQUESTED:
                session_streams.store_progress(connection, progress)
            if session.stream_status != PENDING or stays_pending:
                return
        ended = session_streams.end(
            connection, key.session_id, key.number, reason, now, now + context.session_retention, progress
        )
        domain = domains.find_by_id(connection, key.domain_id)
        session = sessions.find(connection, key.domain_id, key.session_id, now)
        if ended and domain is not None and session is not None:
            context.outbox.put(connection, [stream_event(connection, domain, session)], now)
    if ended:
        log.info("session %s: stream %d has ended: %s", key.session_id, key.number, reason)


def heartbeat(context: StreamContext, streams: Sequence[OpenStream]) -> dict[str, StoredState]:
    """Extend the leases of this process's streams, and read their stored states, by session id."""
    if not streams:
        return {}
    with context.database.read() as connection:
        wanted = {one.key.domain_id for one in streams}
        found = {domain_id: _domain(connection, domain_id) for domain_id in wanted}
    usable = {}
    for domain_id, domain in found.items():
        try:
            if domain is not None and domain.active:
                context.vault(domain)
                usable[domain_id] = domain
        except DomainUnavailable:
            pass
    claimed = [one.progress for one in streams if one.claimed]
    now = context.clock()
    if claimed:
        with context.database.write() as connection:
            session_streams.heartbeat(connection, context.owner, claimed, now + LEASE)
    with context.database.read() as connection:
        stored = session_streams.find_all(connection, [one.key.session_id for one in streams], now)
    _keep_pending(context, streams, stored, now)
    states = {}
    for one in streams:
        key, session = one.key, stored.get(one.key.session_id)
        domain = usable.get(key.domain_id)
        if domain is None:
            states[key.session_id] = StoredState(end_reason=EndReason.DOMAIN_GONE)
        elif session is None or not _continues(context, one, session):
            states[key.session_id] = StoredState(end_reason=end_reason(session, key))
        else:
            states[key.session_id] = StoredState(session=session, domain=domain)
    return states


def _keep_pending(
    context: StreamContext, streams: Sequence[OpenStream], stored: Mapping[str, Session], now: datetime
) -> None:
    """Have the streams wait on whose carriers are connected and have sent no audio, as in a call on hold."""
    due = []
    for one in streams:
        session = stored.get(one.key.session_id)
        if session is None or not one.connected or one.claimed:
            continue
        if session.stream_status == PENDING and session.stream_until < now + LEASE:
            due.append((one.key.session_id, one.key.number))
    if due:
        with context.database.write() as connection:
            session_streams.keep_pending(connection, due, now + 2 * LEASE)


def _domain(connection: Connection, domain_id: str) -> Domain | None:
    """Find a domain; None also for one whose row was changed: its streams end, and no others."""
    try:
        return domains.find_by_id(connection, domain_id)
    except IntegrityFault as fault:
        log.error("%s", fault)
        return None


def end_reason(session: Session | None, key: StreamKey) -> EndReason:
    """Return why this process may no longer process a stream."""
    if session is None:
        return EndReason.DOMAIN_GONE  # sessions are erased with their domain only, while they are active
    if session.stream == key.number and session.stream_status == ENDED:
        return EndReason(session.stream_end_reason or EndReason.REQUESTED)
    return EndReason.OVERRUN  # two carriers for one stream: another process has claimed it


def _continues(context: StreamContext, one: OpenStream, session: Session) -> bool:
    if session.stream != one.key.number:
        return one.claimed and _was_restarted(context, one.key, session)
    if one.claimed:
        return session.stream_status == ONGOING and session.stream_owner == context.owner
    return session.stream_status == PENDING or _holds_stream(context, one.key, session)


def _was_restarted(context: StreamContext, key: StreamKey, session: Session) -> bool:
    """Whether a later stream goes on over the connection of this process's: RestartStream was called."""
    return (
        session.stream > key.number
        and session.stream_status == ONGOING
        and session.stream_owner == context.owner
    )


def _holds_stream(context: StreamContext, key: StreamKey, session: Session) -> bool:
    return session.stream == key.number and session.stream_owner == context.owner
