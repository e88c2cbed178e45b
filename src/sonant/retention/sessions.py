"""What time does to sessions: silent streams are written down as ended, old sessions erased, speakers that
only ever were on a session forgotten. Each function is one step of the housekeeping, or of a start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sonant.events import session_documents
from sonant.events.documents import ErrorInfo, Event, speaker_event
from sonant.events.outbox import Outbox
from sonant.events.session_documents import Window
from sonant.settings import Live
from sonant.storage.database.engine import Database
from sonant.storage.repositories import domains, session_hearings, session_streams, sessions, speakers
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.sessions import Session

#: Rows changed in one transaction.
BATCH = 200
#: Speakers that only ever were on a session are forgotten when no session has had them for so long.
PENDING_KEPT = timedelta(hours=24)
#: An enrollment takes seconds; one that is in progress for so long has lost its process.
STALLED_AFTER = timedelta(minutes=5)

LOST = "the service stopped before the voiceprint was stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKeeper:
    """Each method does what is due by now and returns how much it was."""

    database: Database
    clock: Callable[[], datetime]
    live: Live = field(default_factory=Live)
    outbox: Outbox = field(default_factory=Outbox)

    def take_over(self) -> int:
        """End all ongoing streams: for a service that is alone and has just started."""
        with self.database.write() as connection:
            found = session_streams.list_ongoing(connection, self.clock())
            for session in found:
                self._end(connection, session, sessions.SERVICE_STOPPED, self.clock())
        with self.database.write() as connection:
            for session in session_streams.list_stalled(connection, self.clock(), self.clock(), BATCH):
                self._fail_enrollment(connection, session)
        return len(found)

    def end_silent(self) -> int:
        """Write down what counts as ended, and enrollments that nobody works on."""
        now = self.clock()
        with self.database.read() as connection:  # hardly ever is there any
            if not session_streams.list_expired(connection, now, 1) and not session_streams.list_stalled(
                connection, now - STALLED_AFTER, now, 1
            ):
                return 0
        with self.database.write() as connection:
            found = session_streams.list_expired(connection, now, BATCH)
            for session in found:
                reason = session.stream_end_reason or sessions.SERVICE_STOPPED
                self._end(connection, session, reason, session.stream_until)
            stalled = session_streams.list_stalled(connection, now - STALLED_AFTER, now, BATCH)
            for session in stalled:
                self._fail_enrollment(connection, session)
        return len(found) + len(stalled)

    def erase_old(self) -> int:
        """Erase sessions whose time is up, with their keys."""
        return self._batches(
            lambda connection: session_streams.delete_expired_sessions(connection, self.clock(), BATCH)
        )

    def forget_pending(self) -> int:
        """Forget speakers who were named and never enrolled."""
        before = self.clock() - PENDING_KEPT
        return self._batches(lambda connection: speakers.delete_pending(connection, before, BATCH))

    def _batches(self, step: Callable[[Connection], int]) -> int:
        total = 0
        while True:
            with self.database.write() as connection:
                done = step(connection)
            total += done
            if done < BATCH:
                break
        if total:
            self.database.truncate_wal()
        return total

    def _end(self, connection: Connection, session: Session, reason: str, at: datetime) -> None:
        until = at + timedelta(hours=self.live.keep_h)
        session_streams.end(connection, session.session_id, session.stream, reason, at, until)
        ended = sessions.find(connection, session.domain_id, session.session_id, self.clock())
        domain = domains.find_by_id(connection, session.domain_id)
        if ended is not None and domain is not None:
            self.outbox.put(connection, [stream_event(connection, domain, ended)], self.clock())
        if session.enrollment_status == "IN_PROGRESS":
            self._fail_enrollment(connection, session)

    def _fail_enrollment(self, connection: Connection, session: Session) -> None:
        sessions.set_enrollment(connection, session.session_id, "FAILED", LOST, self.clock())
        domain = domains.find_by_id(connection, session.domain_id)
        if domain is not None:
            event = speaker_event(
                domain,
                "ENROLL_SPEAKER",
                speaker_id=session.speaker_id,
                error=ErrorInfo.of_code(500, LOST),
                source="SESSION",
                source_id=session.session_id,
                contact_arn=session.contact_arn,
            )
            self.outbox.put(connection, [event], self.clock())


def stream_event(connection: Connection, domain: Domain, session: Session) -> Event:
    """A stream has begun, ended or failed, with what was heard in it."""
    heard = {
        purpose: Window(started_at=started_at, ended_at=ended_at)
        for purpose, (started_at, ended_at) in session_hearings.windows(connection, session).items()
    }
    return session_documents.stream_event(domain, session, heard)
