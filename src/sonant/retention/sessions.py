"""End silent streams, delete old sessions, and delete speakers who were only named on sessions.

Each method is a step of the housekeeping, or of a service's start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sonant.events import session_documents
from sonant.events.documents import Event, speaker_event
from sonant.events.error_info import ErrorInfo
from sonant.events.outbox import Outbox
from sonant.events.session_documents import Window
from sonant.retention.rules import SESSION_SPEAKER, session_stored_for
from sonant.settings import Settings
from sonant.storage.database.engine import Database
from sonant.storage.repositories import domains, session_samples, session_streams, sessions, speakers
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.sessions import Session

#: Rows changed in one transaction.
BATCH = 200
#: An enrollment takes seconds; the process of one that is in progress for so long has ended.
STALLED_AFTER = timedelta(minutes=5)

LOST = "the service stopped before the voiceprint was stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKeeper:
    """Keeps sessions tidy. Each method does what is due now and returns how much it did."""

    database: Database
    clock: Callable[[], datetime]
    settings: Settings = field(default_factory=Settings)
    outbox: Outbox = field(default_factory=Outbox)

    def take_over(self) -> int:
        """End all ongoing streams, when a service that is alone starts."""
        with self.database.write() as connection:
            found = session_streams.list_ongoing(connection, self.clock())
            for session in found:
                self._end(connection, session, sessions.SERVICE_STOPPED, self.clock())
        with self.database.write() as connection:
            for session in session_streams.list_stalled(connection, self.clock(), self.clock(), BATCH):
                self._fail_enrollment(connection, session)
        return len(found)

    def end_silent(self) -> int:
        """Store streams as ended that count as ended, and enrollments as failed whose process has ended."""
        now = self.clock()
        with self.database.read() as connection:  # there hardly ever is one
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
        """Delete sessions whose time is over, with their keys."""
        return self._batches(
            lambda connection: session_streams.delete_expired_sessions(connection, self.clock(), BATCH)
        )

    def forget_pending(self) -> int:
        """Delete speakers who were only named on sessions and never enrolled."""
        before = SESSION_SPEAKER.cutoff(self.clock(), self.settings)
        if before is None:
            return 0
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
        until = at + session_stored_for(self.settings)
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
    """Build the event of a stream that started, ended or failed, with the windows of its samples."""
    windows = {
        purpose: Window(started_at=started_at, ended_at=ended_at)
        for purpose, (started_at, ended_at) in session_samples.windows(connection, session).items()
    }
    return session_documents.stream_event(domain, session, windows)
