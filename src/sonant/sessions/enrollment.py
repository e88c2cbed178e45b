"""Enrollment in a session: thirty seconds of a call become the speaker's voiceprint.

NOT_ENOUGH_SPEECH --begin--> IN_PROGRESS --finish--> COMPLETED | FAILED, each step once.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection

from sonant.errors import Conflict, ResourceNotFound, SealBroken, SetupError
from sonant.events.documents import ErrorInfo, Event, fraud_detection_event, speaker_event
from sonant.jobs.calibration_cache import scale_of
from sonant.jobs.entry import Prepared
from sonant.jobs.faults import JobFault, Refusal
from sonant.jobs.fraud import Risk, refuse, told
from sonant.jobs.voiceprints import store_voiceprint
from sonant.sessions.context import StreamContext
from sonant.sessions.listener import GATHERING, StreamKey
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import domains, sessions, speakers, voiceprints
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_hearings import Hearing
from sonant.storage.repositories.sessions import Session
from sonant.voice.models import shipped_encoder_id

log = logging.getLogger(__name__)

#: Why risks may not be known.
_UNKNOWABLE = (ResourceNotFound, JobFault, SetupError, SealBroken)

IN_PROGRESS, COMPLETED, FAILED = "IN_PROGRESS", "COMPLETED", "FAILED"


class AnotherModel(Exception):
    """The domain's voice model was changed meanwhile: the speech must be heard again, by `model_id`."""

    def __init__(self, model_id: str | None) -> None:
        super().__init__("the domain's voice model was changed")
        self.model_id = model_id


def begin(context: StreamContext, place: StreamKey) -> Session | None:
    """There is enough speech; the session as it is now, None when the enrollment is not wanted any more."""
    with context.database.write() as connection:
        now = context.clock()
        session = sessions.find(connection, place.domain_id, place.session_id, now)
        if session is None or session.enrollment_status != GATHERING or session.stream != place.number:
            return None
        sessions.set_enrollment(connection, place.session_id, IN_PROGRESS, None, now)
        return session


def finish(
    context: StreamContext, place: StreamKey, heard: Prepared | Refusal, hearing: Hearing | None
) -> None:
    """Decide and store, or say why not. `hearing` is what was heard in the form that risks are asked for.

    Raises AnotherModel, DomainGone.
    """
    if hearing is not None:
        # What must be read and opened for the decision is read here, where nobody waits for the write lock.
        with context.database.read() as connection:
            domain, vault = context.domain(connection, place.domain_id)
            session = sessions.find(connection, place.domain_id, place.session_id, context.clock())
            if session is not None and session.risk_threshold is not None:
                with suppress(*_UNKNOWABLE):  # the decision meets it again
                    _risks(context, connection, domain, vault, session, hearing)
    with context.database.write() as connection:
        domain, vault = context.domain(connection, place.domain_id)
        session = sessions.find(connection, place.domain_id, place.session_id, context.clock())
        if session is None or session.enrollment_status != IN_PROGRESS:
            return
        _Enrollment(context, connection, domain, vault, session).settle(heard, hearing)


def fail(context: StreamContext, place: StreamKey, why: Refusal) -> None:
    """An enrollment in progress cannot be carried through."""
    with context.database.write() as connection:
        now = context.clock()
        session = sessions.find(connection, place.domain_id, place.session_id, now)
        if session is None or session.enrollment_status != IN_PROGRESS:
            return
        sessions.set_enrollment(connection, place.session_id, FAILED, why.message, now)
        domain = domains.find_by_id(connection, place.domain_id)
        if domain is not None:
            context.outbox.put(connection, [outcome_event(domain, session, error=why.told)], now)


def outcome_event(
    domain: Domain, session: Session, *, error: ErrorInfo | None = None, status: str | None = None
) -> Event:
    """What became of a session's enrollment: its `status` as in result files, or why it failed."""
    return speaker_event(
        domain,
        "ENROLL_SPEAKER",
        speaker_id=session.speaker_id,
        error=error,
        source="SESSION",
        source_id=session.session_id,
        enrollment_status=status,
        contact_arn=session.contact_arn,
    )


class _Enrollment:
    """The last step, within one transaction."""

    def __init__(
        self, context: StreamContext, connection: Connection, domain: Domain, vault: Vault, session: Session
    ) -> None:
        self._context, self._connection, self._domain, self._vault = context, connection, domain, vault
        self._session = session
        self._details: dict[str, Any] | None = None

    def settle(self, heard: Prepared | Refusal, hearing: Hearing | None) -> None:
        connection, context, session = self._connection, self._context, self._session
        speaker = None
        if session.speaker_id is not None:
            speaker = speakers.find(connection, self._vault, self._domain.domain_id, session.speaker_id)
        refusal = self._refusal(speaker, heard, hearing)
        now = context.clock()
        if refusal is None and speaker is not None and isinstance(heard, Prepared):
            try:
                self._store(speaker, heard)
            except SealBroken:
                refusal = Refusal(500, "what is stored of the speaker is damaged")
        if refusal is None:
            sessions.set_enrollment(connection, session.session_id, COMPLETED, None, now)
            was_enrolled = speaker is not None and speaker.status == "ENROLLED"
            done = "ENROLLMENT_OVERWRITE" if was_enrolled else "NEW_ENROLLMENT"
            outcome = outcome_event(self._domain, session, status=done)
        else:
            sessions.set_enrollment(connection, session.session_id, FAILED, refusal.message, now)
            outcome = outcome_event(self._domain, session, error=refusal.told)
        context.outbox.put(connection, [*self._detected(), outcome], now)

    def _detected(self) -> list[Event]:
        if self._details is None:
            return []
        session = self._session
        told = fraud_detection_event(
            self._domain,
            speaker_id=session.speaker_id,
            source="SESSION",
            source_id=session.session_id,
            found=self._details,
        )
        return [told]

    def _refusal(
        self, speaker: speakers.Speaker | None, heard: Prepared | Refusal, hearing: Hearing | None
    ) -> Refusal | None:
        """In the order of batch enrollment: state, audio, fraud."""
        if speaker is None:
            return Refusal(409, "the speaker was deleted while the call went on")
        if speaker.status == "OPTED_OUT":
            return Refusal(409, Conflict.TEXTS["SPEAKER_OPTED_OUT"])
        if isinstance(heard, Refusal):
            return heard
        if heard.model_id != (self._domain.model_id or shipped_encoder_id()):
            raise AnotherModel(self._domain.model_id)
        if self._session.risk_threshold is None or hearing is None:
            return None
        return self._fraud(hearing, self._session.risk_threshold)

    def _fraud(self, hearing: Hearing, threshold: int) -> Refusal | None:
        session = self._session
        try:
            risks = _risks(self._context, self._connection, self._domain, self._vault, session, hearing)
        except ResourceNotFound:
            return Refusal(404, "the session's watchlist does not exist")
        except _UNKNOWABLE as fault:
            log.error("session %s: fraud detection failed: %s", session.session_id, fault)
            return Refusal(500, "fraud detection failed; see the service's log")
        self._details = told(
            risks,
            risk_threshold=threshold,
            watchlist_id=session.watchlist_id or self._domain.default_watchlist_id,
        )
        if self._details["reasons"]:
            log.info("session %s: its enrollment is flagged: %s", session.session_id, self._details)
        return refuse(risks, action="FAIL", risk_threshold=threshold)

    def _store(self, speaker: speakers.Speaker, heard: Prepared) -> None:
        connection, vault, now = self._connection, self._vault, self._context.clock()
        seal, domain_id = speaker.seal(vault), self._domain.domain_id
        store_voiceprint(connection, vault, domain_id, speaker.speaker_id, seal, heard, now, before=speaker)
        if heard.fingerprint is not None:
            voiceprints.add_fingerprint(
                connection, seal, domain_id, speaker.speaker_id, heard.fingerprint, now
            )


def _risks(
    context: StreamContext,
    connection: Connection,
    domain: Domain,
    vault: Vault,
    session: Session,
    hearing: Hearing,
) -> tuple[Risk, ...]:
    """Raises ResourceNotFound WATCHLIST."""
    scale = scale_of(connection, domain.domain_id, hearing.model_id, context.calibration_of)
    return context.risks(
        connection,
        domain,
        vault,
        watchlist_id=session.watchlist_id,
        hearing=hearing,
        scale=scale,
        began=session.stream_started_at,
    )
