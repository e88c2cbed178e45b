"""What a stream's life writes into the store: each function is one short transaction.

All raise DomainGone where the domain is needed, and what the database raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sonant.retention.sessions import stream_event
from sonant.sessions.calls import EndReason
from sonant.sessions.context import LEASE, DomainGone, StreamContext
from sonant.sessions.listener import StreamKey
from sonant.storage.repositories import domains, session_hearings, session_streams, sessions
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_hearings import Hearing
from sonant.storage.repositories.session_streams import Progress
from sonant.storage.repositories.sessions import ENDED, ONGOING, PENDING, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A stream of this process, as the heartbeat sees it."""

    place: StreamKey
    claimed: bool
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What has become of an open stream in the store: it goes on, or why not."""

    session: Session | None = None
    domain: Domain | None = None
    gone: EndReason | None = None


def claim(context: StreamContext, place: StreamKey, begun_at: datetime) -> EndReason | None:
    """The stream has become this process's; else why not."""
    with context.database.write() as connection:
        domain, _ = context.domain(connection, place.domain_id)
        now = context.clock()
        mine = session_streams.claim(
            connection, place.session_id, place.number, context.owner, begun_at, now + LEASE
        )
        session = sessions.find(connection, place.domain_id, place.session_id, now)
        if session is not None and (mine or _is_mine(context, place, session)):
            if mine:
                context.outbox.put(connection, [stream_event(connection, domain, session)], now)
            return None
    return why_gone(session, place)


def save(context: StreamContext, place: StreamKey, hearing: Hearing) -> bool:
    """Store a hearing; False when the stream is another's by now, or a later one has begun."""
    with context.database.write() as connection:
        _, vault = context.domain(connection, place.domain_id)
        session = sessions.find(connection, place.domain_id, place.session_id, context.clock())
        if session is None or session.stream != place.number:
            return False
        if session.stream_owner not in (None, context.owner):
            return False
        session_hearings.save_hearing(connection, session.seal(vault), place.session_id, hearing)
    return True


def end(context: StreamContext, place: StreamKey, reason: EndReason, progress: Progress) -> None:
    """The stream is over. One that never began is left for another carrier to take, if there may be one."""
    with context.database.write() as connection:
        now = context.clock()
        session = sessions.find(connection, place.domain_id, place.session_id, now)
        if session is None or session.stream != place.number:
            return
        if not _is_mine(context, place, session):
            stays = reason in (EndReason.DISCONNECTED, EndReason.SERVICE_STOPPED)
            if session.stream_status != PENDING or stays:
                return
        ended = session_streams.end(
            connection, place.session_id, place.number, reason, now, now + context.keep, progress
        )
        domain = domains.find_by_id(connection, place.domain_id)
        session = sessions.find(connection, place.domain_id, place.session_id, now)
        if ended and domain is not None and session is not None:
            context.outbox.put(connection, [stream_event(connection, domain, session)], now)


def beat(context: StreamContext, streams: Sequence[Open]) -> dict[str, Seen]:
    """Say that this process listens, and learn what others have changed; by session id."""
    if not streams:
        return {}
    with context.database.read() as connection:
        wanted = {one.place.domain_id for one in streams}
        found = {domain_id: domains.find_by_id(connection, domain_id) for domain_id in wanted}
    usable = {}
    for domain_id, domain in found.items():
        try:
            if domain is not None and domain.active:
                context.vault(domain)
                usable[domain_id] = domain
        except DomainGone:
            pass
    claimed = [one for one in streams if one.claimed]
    now = context.clock()
    if claimed:
        with context.database.write() as connection:
            session_streams.heartbeat(
                connection, context.owner, [one.progress for one in claimed], now + LEASE
            )
            owned = session_streams.list_owned(connection, context.owner, now)
    else:
        owned = {}
    seen = {}
    with context.database.read() as connection:
        for one in streams:
            place = one.place
            session = owned.get(place.session_id)
            if session is None:
                session = sessions.find(connection, place.domain_id, place.session_id, now)
            domain = usable.get(place.domain_id)
            if domain is None:
                seen[place.session_id] = Seen(gone=EndReason.DOMAIN_GONE)
            elif session is None or not _goes_on(context, one, session):
                seen[place.session_id] = Seen(gone=why_gone(session, place))
            else:
                seen[place.session_id] = Seen(session=session, domain=domain)
    return seen


def why_gone(session: Session | None, place: StreamKey) -> EndReason:
    """Why a stream is no longer one that this process may listen to."""
    if session is None:
        return EndReason.DOMAIN_GONE  # sessions are erased with their domain only, while they are active
    if session.stream == place.number and session.stream_status == ENDED:
        return EndReason(session.stream_end_reason or EndReason.REQUESTED)
    return EndReason.OVERRUN  # two carriers for one stream: the other came first


def _goes_on(context: StreamContext, one: Open, session: Session) -> bool:
    if session.stream != one.place.number:
        return False
    if one.claimed:
        return session.stream_status == ONGOING and session.stream_owner == context.owner
    return session.stream_status == PENDING or _is_mine(context, one.place, session)


def _is_mine(context: StreamContext, place: StreamKey, session: Session) -> bool:
    return session.stream == place.number and session.stream_owner == context.owner
