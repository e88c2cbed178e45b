"""A session, or the next stream of one, begins."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from sonant.errors import Conflict, ServiceQuotaExceeded
from sonant.ids import new_generated_id
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import session_streams, sessions
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.sessions import Session, Setup


def begin_stream(
    connection: Connection,
    vault: Vault,
    domain: Domain,
    *,
    name: str,
    speaker_id: str | None,
    setup: Setup,
    quota: int,
    now: datetime,
    wait: timedelta,
    contact_arn: str | None = None,
) -> Session:
    """A new session, or the next stream of the one of this name; its audio must begin within `wait`.

    In a transaction that has locked the domain. `speaker_id` is a generated one. A session that goes on gets
    the set-up, and the speaker and the contact's ARN if they are named. Raises Conflict ANOTHER_ACTIVE_STREAM
    and CANNOT_CHANGE_SPEAKER_AFTER_ENROLLMENT, ServiceQuotaExceeded when the domain has `quota` active
    sessions.
    """
    found = sessions.find(connection, domain.domain_id, name, now)
    if found is not None and found.active:
        raise Conflict("ANOTHER_ACTIVE_STREAM")
    if sessions.count_active(connection, domain.domain_id, now) >= quota:
        raise ServiceQuotaExceeded.of("domain", quota, "active sessions")
    if found is None:
        sessions.add(
            connection,
            vault,
            domain_id=domain.domain_id,
            session_id=new_generated_id(),
            name=name,
            speaker_id=speaker_id,
            setup=setup,
            contact_arn=contact_arn,
            now=now,
            until=now + wait,
        )
    else:
        speaker_id = speaker_id or found.speaker_id
        check_speaker(found, speaker_id)
        sessions.configure(
            connection,
            found.session_id,
            speaker_id=speaker_id,
            setup=setup,
            now=now,
            contact_arn=contact_arn,
        )
        session_streams.add(connection, found, now, now + wait)
    begun = sessions.find(connection, domain.domain_id, name, now)
    assert begun is not None
    return begun


def check_speaker(session: Session, speaker_id: str | None) -> None:
    """Raises Conflict when the session may not get this speaker any more."""
    if session.enrollment_status is not None and speaker_id != session.speaker_id:
        raise Conflict("CANNOT_CHANGE_SPEAKER_AFTER_ENROLLMENT")
