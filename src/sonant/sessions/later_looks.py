"""Later looks at the voice of a call that was decided on: does somebody else speak now, is there a risk?

The voice is compared with that of the speech for the authentication, not with the speaker's voiceprint: a
look tells nothing of a stored voice. What it finds is noted on the session, with an event the first time;
EvaluateSession then answers the greater risks.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace

from sqlalchemy import Connection

from sonant.errors import ModelMismatch, ResourceNotFound, SealBroken, SetupError, TemplateMismatch
from sonant.events.documents import Event
from sonant.events.session_documents import session_speech_event
from sonant.jobs.calibration_cache import domain_calibration
from sonant.jobs.faults import JobFault
from sonant.jobs.fraud import Risk
from sonant.jobs.risk_limits import CALLS, RiskLimits
from sonant.jobs.score_limits import probe_digest
from sonant.sessions.context import DomainUnavailable, StreamContext
from sonant.sessions.listener import StreamKey
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import session_samples, session_streams, sessions, templates
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD, LATER_FRAUD, SessionSample
from sonant.storage.repositories.sessions import ONGOING, Session

log = logging.getLogger(__name__)

#: A score of later speech against the first below this is another person's.
CHANGED_BELOW = 50

#: What may prevent a comparison; the next look may succeed.
_FAILURES = (JobFault, ModelMismatch, ResourceNotFound, SealBroken, SetupError, TemplateMismatch)


def take(context: StreamContext, key: StreamKey, speech: SessionSample, erasures: int) -> None:
    """Compare speech of after the decisions, and store and tell what is found. Without effect for a stream
    that is over, or speech of before the session's last erasure."""
    with suppress(DomainUnavailable, *_FAILURES), context.database.read() as connection:
        # What is read and opened here need not be where no other transaction may write.
        domain, vault = context.domain(connection, key.domain_id)
        session = _present(context, connection, key, erasures)
        if session is not None and session.risk_threshold is not None:
            _risks(context, connection, domain, vault, session, speech)
    try:
        with context.database.write() as connection:
            domain, vault = context.domain(connection, key.domain_id)
            session = _present(context, connection, key, erasures)
            if session is not None:
                _take(context, connection, domain, vault, session, speech)
    except DomainUnavailable:
        pass
    except _FAILURES as fault:
        log.error("session %s: its voice cannot be looked at again: %s", key.session_id, fault)


def _present(context: StreamContext, connection: Connection, key: StreamKey, erasures: int) -> Session | None:
    session = sessions.find(connection, key.domain_id, key.session_id, context.clock())
    if session is None or session.stream != key.number or session.stream_status != ONGOING:
        return None
    return session if session.erasures == erasures and session.stream_owner == context.owner else None


def _take(
    context: StreamContext,
    connection: Connection,
    domain: Domain,
    vault: Vault,
    session: Session,
    speech: SessionSample,
) -> None:
    now = context.clock()
    changed = _is_another(context, connection, domain, vault, session, speech)
    risks, events = _told_risks(context, connection, domain, vault, session, speech)
    risky = any(risk.score >= (session.risk_threshold or 0) for risk in risks)
    if risky:
        found = replace(speech, purpose=LATER_FRAUD, audio=None)
        session_samples.save_sample(connection, session.seal(vault), session.session_id, found)
    if session_streams.note_later_look(connection, session, changed=changed, risky=risky, now=now):
        noticed = sessions.find(connection, domain.domain_id, session.session_id, now)
        assert noticed is not None
        events.append(session_speech_event(domain, noticed))
    context.outbox.put(connection, events, now)


def _is_another(
    context: StreamContext,
    connection: Connection,
    domain: Domain,
    vault: Vault,
    session: Session,
    speech: SessionSample,
) -> bool:
    """Whether the speech is another person's than the one whom the decisions are about."""
    samples = session_samples.load_samples(connection, session.seal(vault), session)
    first = samples.get(AUTHENTICATION) or samples.get(FRAUD)
    if first is None:
        return False
    sample = templates.open_spaces(connection, vault.templates).protect(speech.sample)
    calibration = domain_calibration(connection, domain.domain_id, sample.model_id, context.calibration_of)
    similarity = sample.similarity(first.sample)
    return calibration.score_for(similarity, sample.comparison_quality(first.sample)) < CHANGED_BELOW


def _told_risks(
    context: StreamContext,
    connection: Connection,
    domain: Domain,
    vault: Vault,
    session: Session,
    speech: SessionSample,
) -> tuple[list[Risk], list[Event]]:
    """Assess the risks of the speech, as far as they may be told, with the events of limits that are used up
    by it."""
    threshold = session.risk_threshold
    if threshold is None:
        return [], []
    limits = RiskLimits(settings=context.settings, now=context.clock(), principal_arn=CALLS)
    probe = probe_digest(vault, speech.sample, threshold)
    told, events = list[Risk](), list[Event]()
    for risk in _risks(context, connection, domain, vault, session, speech):
        limited, used_up = limits.apply(connection, domain, risk, probe, threshold=threshold)
        told.append(limited)
        events += used_up
    return told, events


def _risks(
    context: StreamContext,
    connection: Connection,
    domain: Domain,
    vault: Vault,
    session: Session,
    speech: SessionSample,
) -> tuple[Risk, ...]:
    return context.fraud_indexes.risks(
        connection,
        domain,
        vault,
        watchlist_id=session.watchlist_id,
        speech=speech,
        calibration=domain_calibration(
            connection, domain.domain_id, speech.sample.model_id, context.calibration_of
        ),
        call_started_at=session.stream_started_at,
    )
