"""The start of a session or of its next stream: default set-up, speaker, and the row in the store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sonant import settings
from sonant.errors import Conflict, ResourceNotFound, require_room
from sonant.ids import new_generated_id
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import erasure, session_streams, sessions, speakers
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.sessions import Session, Setup
from sonant.storage.repositories.speakers import Speaker


def default_setup(live: settings.Live) -> Setup:
    """Build the set-up of sessions that name none: authentication and fraud detection with the service's
    thresholds, against the domain's default watchlist."""
    return Setup(
        acceptance_threshold=live.acceptance_threshold,
        authentication_speech_s=live.authentication_speech_s,
        risk_threshold=live.risk_threshold,
        watchlist_id=None,
    )


def require_speaker(
    connection: Connection,
    vault: Vault,
    domain: Domain,
    speaker_id: str,
    quota: int,
    now: datetime,
    before_adding: Callable[[], None] = lambda: None,
) -> Speaker:
    """Find the speaker of this id, the customer's own or a generated one.

    A new customer's id becomes a PENDING speaker, which counts against the domain's `quota`, or an OPTED_OUT
    one if its opt-out was repeated by a restore. Raises ResourceNotFound SPEAKER for an unknown generated id,
    ServiceQuotaExceeded when the domain is full, and what `before_adding` raises.
    """
    found = speakers.find(connection, vault, domain.domain_id, speaker_id)
    if found is not None:
        return found
    if speaker_id.startswith("id#"):
        raise ResourceNotFound("SPEAKER")
    before_adding()
    require_room("speakers_per_domain", speakers.count(connection, domain.domain_id), quota)
    erased = erasure.find_erased(connection, domain.domain_id, vault.lookup(speaker_id))
    opted_out = erased is not None and erased.status == "OPTED_OUT"
    new_id = new_generated_id()
    speakers.add(
        connection,
        vault,
        domain_id=domain.domain_id,
        speaker_id=new_id,
        customer_id=speaker_id,
        status="OPTED_OUT" if opted_out else "PENDING",
        now=now,
    )
    added = speakers.find(connection, vault, domain.domain_id, new_id)
    assert added is not None
    return added


def start_stream(
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
    """Start a session, or the next stream of the session of this name. Audio must come within `wait`.

    Runs in a transaction that has locked the domain. `speaker_id` is a generated one. A session that goes on
    gets the set-up, and the speaker and the contact's ARN if they are given. Raises Conflict
    ANOTHER_ACTIVE_STREAM and CANNOT_CHANGE_SPEAKER_AFTER_ENROLLMENT, ServiceQuotaExceeded when the domain has
    `quota` active sessions.
    """
    found = sessions.find(connection, domain.domain_id, name, now)
    if found is not None and found.active:
        raise Conflict("ANOTHER_ACTIVE_STREAM")
    present = sessions.count_active(connection, domain.domain_id, now)
    require_room("active_sessions_per_domain", present, quota)
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
        require_speaker_unchanged(found, speaker_id)
        sessions.configure(
            connection,
            found.session_id,
            speaker_id=speaker_id,
            setup=setup,
            now=now,
            contact_arn=contact_arn,
        )
        session_streams.add(connection, found, now, now + wait)
    started = sessions.find(connection, domain.domain_id, name, now)
    assert started is not None
    return started


def require_speaker_unchanged(session: Session, speaker_id: str | None) -> None:
    """Raise Conflict if an enrollment in the session no longer allows this speaker."""
    if session.enrollment_status is not None and speaker_id != session.speaker_id:
        raise Conflict("CANNOT_CHANGE_SPEAKER_AFTER_ENROLLMENT")
