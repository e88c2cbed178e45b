"""Enrollment in a session: make the speaker's voiceprint from the speech of a call.

NOT_ENOUGH_SPEECH --start--> IN_PROGRESS --finish--> COMPLETED | FAILED, each step once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from sonant.errors import Conflict, IntegrityFault, ResourceNotFound, SealBroken, SetupError
from sonant.events.documents import Event, fraud_detection_event, speaker_event
from sonant.events.error_info import ErrorInfo
from sonant.jobs.calibration_cache import domain_calibration
from sonant.jobs.decide import NO_CONSENT
from sonant.jobs.entry import TaskResult
from sonant.jobs.faults import JobFault, Refusal
from sonant.jobs.fraud import Risk, describe_flags, refuse, risk_details
from sonant.jobs.risk_limits import CALLS, RiskLimits
from sonant.jobs.score_limits import probe_digest
from sonant.jobs.voiceprints import store_voiceprint
from sonant.sessions.context import StreamContext
from sonant.sessions.listener import GATHERING, StreamKey
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import domains, session_samples, sessions, speakers, voiceprints
from sonant.storage.repositories.consents import may_enroll
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_samples import FRAUD, LATER_FRAUD, SessionSample
from sonant.storage.repositories.sessions import Session
from sonant.voice.models import shipped_encoder_id

log = logging.getLogger(__name__)

#: What may prevent the assessment of risks.
_RISK_FAILURES = (ResourceNotFound, JobFault, SetupError, SealBroken)

_SEVERAL_VOICES = Refusal(
    400,
    "several people speak in the call; enroll the speaker in another call, in which nobody else is heard",
)

IN_PROGRESS, COMPLETED, FAILED = "IN_PROGRESS", "COMPLETED", "FAILED"


class ModelChanged(Exception):
    """The domain's voice model was changed meanwhile: the speech must be analyzed again, with `model_id`."""

    def __init__(self, model_id: str | None) -> None:
        super().__init__("the domain's voice model was changed")
        self.model_id = model_id


def start(context: StreamContext, key: StreamKey) -> Session | None:
    """Set the enrollment IN_PROGRESS and return the session; None when the enrollment is no longer wanted."""
    with context.database.write() as connection:
        now = context.clock()
        session = sessions.find(connection, key.domain_id, key.session_id, now)
        if session is None or session.enrollment_status != GATHERING or session.stream != key.number:
            return None
        sessions.set_enrollment(connection, key.session_id, IN_PROGRESS, None, now)
        return session


def finish(
    context: StreamContext, key: StreamKey, result: TaskResult | Refusal, speech: SessionSample | None
) -> None:
    """Store the voiceprint, or the reason why there is none. `speech` is the worker's result in the form that
    risks are assessed from.

    Raises ModelChanged, DomainUnavailable.
    """
    if speech is not None:
        # What the decision needs is read and opened here, where no other transaction waits for the write
        # lock.
        with context.database.read() as connection:
            domain, vault = context.domain(connection, key.domain_id)
            session = sessions.find(connection, key.domain_id, key.session_id, context.clock())
            if session is not None and session.risk_threshold is not None:
                with suppress(*_RISK_FAILURES):  # the decision fails the same way and handles it
                    _risks(context, connection, domain, vault, session, speech)
    with context.database.write() as connection:
        domain, vault = context.domain(connection, key.domain_id)
        session = sessions.find(connection, key.domain_id, key.session_id, context.clock())
        if session is None or session.enrollment_status != IN_PROGRESS:
            return
        _Enrollment(context, connection, domain, vault, session).decide(result, speech)


def fail(context: StreamContext, key: StreamKey, why: Refusal) -> None:
    """Set an enrollment in progress FAILED."""
    with context.database.write() as connection:
        now = context.clock()
        session = sessions.find(connection, key.domain_id, key.session_id, now)
        if session is None or session.enrollment_status != IN_PROGRESS:
            return
        sessions.set_enrollment(connection, key.session_id, FAILED, why.message, now)
        domain = domains.find_by_id(connection, key.domain_id)
        if domain is not None:
            context.outbox.put(connection, [outcome_event(domain, session, error=why.event_error)], now)


def outcome_event(
    domain: Domain, session: Session, *, error: ErrorInfo | None = None, status: str | None = None
) -> Event:
    """Build the event of an enrollment's outcome: its `status` as in result files, or why it failed."""
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
    """The decision on an enrollment, within one transaction."""

    def __init__(
        self, context: StreamContext, connection: Connection, domain: Domain, vault: Vault, session: Session
    ) -> None:
        self._context, self._connection, self._domain, self._vault = context, connection, domain, vault
        self._session = session
        self._details: dict[str, Any] | None = None
        self._limit_events: list[Event] = []  # of limits that the decision used up

    def decide(self, result: TaskResult | Refusal, speech: SessionSample | None) -> None:
        connection, context, session = self._connection, self._context, self._session
        speaker = None
        if session.speaker_id is not None:
            speaker = speakers.find(connection, self._vault, self._domain.domain_id, session.speaker_id)
        refusal = self._refusal(speaker, result, speech)
        now = context.clock()
        if refusal is None and speaker is not None and isinstance(result, TaskResult):
            try:
                self._store(speaker, result)
            except (IntegrityFault, SealBroken) as fault:
                log.error("session %s: %s", session.session_id, fault)
                refusal = Refusal(500, "what is stored of the speaker is damaged")
        if refusal is None:
            sessions.set_enrollment(connection, session.session_id, COMPLETED, None, now)
            was_enrolled = speaker is not None and speaker.status == "ENROLLED"
            status = "ENROLLMENT_OVERWRITE" if was_enrolled else "NEW_ENROLLMENT"
            outcome = outcome_event(self._domain, session, status=status)
        else:
            sessions.set_enrollment(connection, session.session_id, FAILED, refusal.message, now)
            outcome = outcome_event(self._domain, session, error=refusal.event_error)
        context.outbox.put(connection, [*self._limit_events, *self._fraud_events(), outcome], now)

    def _fraud_events(self) -> list[Event]:
        if self._details is None:
            return []
        session = self._session
        event = fraud_detection_event(
            self._domain,
            speaker_id=session.speaker_id,
            source="SESSION",
            source_id=session.session_id,
            found=self._details,
        )
        return [event]

    def _refusal(
        self, speaker: speakers.Speaker | None, result: TaskResult | Refusal, speech: SessionSample | None
    ) -> Refusal | None:
        """Return why the speaker is not enrolled, checked in the order of batch enrollment: state, audio,
        fraud."""
        if speaker is None:
            return Refusal(409, "the speaker was deleted while the call went on")
        if speaker.status == "OPTED_OUT":
            return Refusal(409, Conflict.TEXTS["SPEAKER_OPTED_OUT"])
        if not may_enroll(self._connection, self._domain, speaker.speaker_id, self._context.clock()):
            return NO_CONSENT
        if isinstance(result, Refusal):
            return result
        if result.voices.count > 1:
            return _SEVERAL_VOICES
        if result.sample.model_id != (self._domain.model_id or shipped_encoder_id()):
            raise ModelChanged(self._domain.model_id)
        if self._session.risk_threshold is None or speech is None:
            return None
        return self._fraud(speech, self._session.risk_threshold)

    def _fraud(self, speech: SessionSample, threshold: int) -> Refusal | None:
        session = self._session
        try:
            risks = self._greatest_risks(speech)
        except ResourceNotFound:
            return Refusal(404, "the session's watchlist does not exist")
        except _RISK_FAILURES as fault:
            log.error("session %s: fraud detection failed: %s", session.session_id, fault)
            return Refusal(500, "fraud detection failed; see the service's log")
        told = self._told(risks, speech, threshold)
        self._details = risk_details(
            told,
            risk_threshold=threshold,
            watchlist_id=session.watchlist_id or self._domain.default_watchlist_id,
        )
        if self._details["reasons"]:
            flags = describe_flags(self._details)
            log.info("session %s: its enrollment is flagged: %s", session.session_id, flags)
            # EvaluateSession must not say otherwise of the same call.
            found = replace(speech, purpose=LATER_FRAUD, audio=None)
            seal = session.seal(self._vault)
            session_samples.save_sample(self._connection, seal, session.session_id, found)
        return refuse(told, action="FAIL", risk_threshold=threshold)

    def _greatest_risks(self, speech: SessionSample) -> list[Risk]:
        """Assess the risks of the speech and of what fraud detection was made from in the same stream: each
        is the greater one. Raises what `_risks` raises."""
        context, session = self._context, self._session
        parts = (context, self._connection, self._domain, self._vault, session)
        found = list(_risks(*parts, speech))
        earlier = session_samples.load_samples(self._connection, session.seal(self._vault), session).get(
            FRAUD
        )
        if earlier is not None:
            found += _risks(*parts, earlier)
        names = dict.fromkeys(risk.name for risk in found)
        return [max((one for one in found if one.name == name), key=lambda one: one.score) for name in names]

    def _told(self, risks: Sequence[Risk], speech: SessionSample, threshold: int) -> list[Risk]:
        """Return the risks as far as they may be told, and decided by."""
        limits = RiskLimits(settings=self._context.settings, now=self._context.clock(), principal_arn=CALLS)
        probe, told = probe_digest(self._vault, speech.sample, threshold), list[Risk]()
        for risk in risks:
            limited, events = limits.apply(self._connection, self._domain, risk, probe, threshold=threshold)
            told.append(limited)
            self._limit_events += events
        return told

    def _store(self, speaker: speakers.Speaker, result: TaskResult) -> None:
        connection, vault, now = self._connection, self._vault, self._context.clock()
        domain_id = self._domain.domain_id
        seal = store_voiceprint(connection, vault, domain_id, speaker, result, now)
        if result.fingerprint is not None:
            voiceprints.add_fingerprint(
                connection, seal, domain_id, speaker.speaker_id, result.fingerprint, now
            )


def _risks(
    context: StreamContext,
    connection: Connection,
    domain: Domain,
    vault: Vault,
    session: Session,
    speech: SessionSample,
) -> tuple[Risk, ...]:
    """Assess the risks of the speech. Raises ResourceNotFound WATCHLIST."""
    calibration = domain_calibration(
        connection, domain.domain_id, speech.sample.model_id, context.calibration_of
    )
    return context.fraud_indexes.risks(
        connection,
        domain,
        vault,
        watchlist_id=session.watchlist_id,
        speech=speech,
        calibration=calibration,
        call_started_at=session.stream_started_at,
    )
