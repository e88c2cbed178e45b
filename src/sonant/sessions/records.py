"""What a stream's life writes into the store: each function is one short transaction.

All raise DomainGone where the domain is needed, and what the database raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sonant.retention.sessions import stream_event
from sonant.sessions.calls import EndReason
from sonant.sessions.context import LEASE, Desk, DomainGone
from sonant.sessions.listener import Place
from sonant.storage.repositories import domains, session_hearings, sessions
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_hearings import Hearing
from sonant.storage.repositories.sessions import ENDED, ONGOING, PENDING, Progress, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A stream of this process, as the heartbeat sees it."""

    place: Place
    claimed: bool
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What has become of an open stream in the store: it goes on, or why not."""

    session: Session | None = None
    domain: Domain | None = None
    gone: EndReason | None = None


def claim(desk: Desk, place: Place, begun_at: datetime) -> EndReason | None:
    """The stream has become this process's; else why not."""
    with desk.database.write() as connection:
        domain, _ = desk.domain(connection, place.domain_id)
        now = desk.clock()
        mine = sessions.claim_stream(
            connection, place.session_id, place.number, desk.owner, begun_at, now + LEASE
        )
        session = sessions.find(connection, place.domain_id, place.session_id, now)
        if session is not None and (mine or _is_mine(desk, place, session)):
            if mine:
                desk.outbox.put(connection, [stream_event(connection, domain, session)], now)
            return None
    return why_gone(session, place)


def save(desk: Desk, place: Place, hearing: Hearing) -> bool:
    """Store a hearing; False when the stream is another's by now, or a later one has begun."""
    with desk.database.write() as connection:
        _, vault = desk.domain(connection, place.domain_id)
        session = sessions.find(connection, place.domain_id, place.session_id, desk.clock())
        if session is None or session.stream != place.number:
            return False
        if session.stream_owner not in (None, desk.owner):
            return False
        session_hearings.save_hearing(connection, session.seal(vault), place.session_id, hearing)
    return True


def end(desk: Desk, place: Place, reason: EndReason, progress: Progress) -> None:
    """The stream is over. One that never began is left for another carrier to take, if there may be one."""
    with desk.database.write() as connection:
        now = desk.clock()
        session = sessions.find(connection, place.domain_id, place.session_id, now)
        if session is None or session.stream != place.number:
            return
        if not _is_mine(desk, place, session):
            stays = reason in (EndReason.DISCONNECTED, EndReason.SERVICE_STOPPED)
            if session.stream_status != PENDING or stays:
                return
        ended = sessions.end_stream(
            connection, place.session_id, place.number, reason, now, now + desk.keep, progress
        )
        domain = domains.find_by_id(connection, place.domain_id)
        session = sessions.find(connection, place.domain_id, place.session_id, now)
        if ended and domain is not None and session is not None:
            desk.outbox.put(connection, [stream_event(connection, domain, session)], now)


def beat(desk: Desk, streams: Sequence[Open]) -> dict[str, Seen]:
    """Say that this process listens, and learn what others have changed; by session id."""
    if not streams:
        return {}
    with desk.database.read() as connection:
        wanted = {one.place.domain_id for one in streams}
        found = {domain_id: domains.find_by_id(connection, domain_id) for domain_id in wanted}
    usable = {}
    for domain_id, domain in found.items():
        try:
            if domain is not None and domain.active:
                desk.vault(domain)
                usable[domain_id] = domain
        except DomainGone:
            pass
    claimed = [one for one in streams if one.claimed]
    now = desk.clock()
    if claimed:
        with desk.database.write() as connection:
            sessions.beat(connection, desk.owner, [one.progress for one in claimed], now + LEASE)
            owned = sessions.owned(connection, desk.owner, now)
    else:
        owned = {}
    seen = {}
    with desk.database.read() as connection:
        for one in streams:
            place = one.place
            session = owned.get(place.session_id)
            if session is None:
                session = sessions.find(connection, place.domain_id, place.session_id, now)
            domain = usable.get(place.domain_id)
            if domain is None:
                seen[place.session_id] = Seen(gone=EndReason.DOMAIN_GONE)
            elif session is None or not _goes_on(desk, one, session):
                seen[place.session_id] = Seen(gone=why_gone(session, place))
            else:
                seen[place.session_id] = Seen(session=session, domain=domain)
    return seen


def why_gone(session: Session | None, place: Place) -> EndReason:
    """Why a stream is no longer one that this process may listen to."""
    if session is None:
        return EndReason.DOMAIN_GONE  # sessions are erased with their domain only, while they are active
    if session.stream == place.number and session.stream_status == ENDED:
        return EndReason(session.stream_end_reason or EndReason.REQUESTED)
    return EndReason.OVERRUN  # two carriers for one stream: the other came first


def _goes_on(desk: Desk, one: Open, session: Session) -> bool:
    if session.stream != one.place.number:
        return False
    if one.claimed:
        return session.stream_status == ONGOING and session.stream_owner == desk.owner
    return session.stream_status == PENDING or _is_mine(desk, one.place, session)


def _is_mine(desk: Desk, place: Place, session: Session) -> bool:
    return session.stream == place.number and session.stream_owner == desk.owner
