"""EvaluateSession: the decisions on a caller, made once from analyzed speech and then repeated.

It never analyzes audio or waits for speech. A call that finds stored results only reads
(`stored_evaluation`); a new result is made outside of the transaction that stores it. "Not enough speech" is
such a result, too: it is stored, with one event, and repeated until there is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from sonant.errors import Conflict, ModelledError
from sonant.events.documents import Event
from sonant.events.session_documents import evaluate_session_event, evaluation_refused_event
from sonant.ids import new_id
from sonant.jobs.fraud import KNOWN_FRAUDSTER, Risk
from sonant.jobs.risk_limits import RiskLimits
from sonant.jobs.score_limits import ScoreLimits, probe_digest
from sonant.operations.comparisons import (
    SessionView,
    detect_fraud,
    open_session_view,
    refuse_damaged,
    sample_for,
    score_speaker,
)
from sonant.operations.registry import operation
from sonant.operations.service import READ_EXACT_SCORES, Answer, Caller, Request, Service
from sonant.operations.sessions import refusal_events
from sonant.operations.watchlists import require_watchlist
from sonant.sessions.decisions import (
    Authentication,
    FraudDetection,
    authentication_basis,
    basis_before_speech,
    decide_authentication,
    decide_without_speech,
    fraud_basis,
)
from sonant.sessions.records import report_multiple_speakers
from sonant.storage.repositories import session_samples, speakers
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD, LATER_FRAUD, Result

#: A distance from the threshold that covers all scores: all are exact.
EXACT = 100
#: How often results are made again because the session changed meanwhile.
TRIES = 3

Decision = TypeVar("Decision", Authentication, FraudDetection)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult(Generic[Decision]):
    """One result, stored or `new`."""

    purpose: str
    basis: str
    result_id: str
    decision: Decision
    new: bool = False
    probe: bytes | None = None
    """Hash of the voice of a new result that has a score; see `score_limits.probe_digest`."""
    multiple_speakers: bool = False
    """Whether a new authentication has noticed that several people speak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The results of EvaluateSession; None for what the session is not set up for."""

    authentication: EvaluationResult[Authentication] | None
    fraud_detection: EvaluationResult[FraudDetection] | None

    @property
    def all(self) -> list[EvaluationResult[Any]]:
        return [one for one in (self.authentication, self.fraud_detection) if one is not None]

    @property
    def new(self) -> list[EvaluationResult[Any]]:
        return [one for one in self.all if one.new]


class _NotStored(Exception):
    """A result must be made."""


def stored_evaluation(service: Service, caller: Caller, request: Request) -> Answer | None:
    """Return the response if all results are stored; None if one must be made or the request is refused."""
    try:
        with _reading(service, caller, request) as view:
            try:
                evaluation = Evaluation(
                    authentication=_authentication(view, None, None), fraud_detection=_fraud(view, None)
                )
            except _NotStored:
                return None
            return _response(view, evaluation, _exact_within(service, caller, view.domain))
    except ModelledError:
        return None


@operation(read_first=stored_evaluation)
def evaluate_session(service: Service, caller: Caller, request: Request) -> Answer:
    """Evaluate a session. Raises Conflict DOMAIN_NOT_ACTIVE, although it mostly reads, ResourceNotFound
    SESSION and WATCHLIST, SpeakerLocked and ProbeBudgetUsed, and Validation for what cannot be compared, with
    what to do."""
    name_or_id: str = request["SessionNameOrId"]
    with refusal_events(service, caller, request["DomainId"], name_or_id, evaluation_refused_event):
        for _ in range(TRIES):
            with _reading(service, caller, request) as view:
                limits = service.score_limits(caller, view.domain)
                evaluation = Evaluation(
                    authentication=_authentication(view, service, limits),
                    fraud_detection=_fraud(view, service),
                )
                if not evaluation.new:
                    return _response(view, evaluation, _exact_within(service, caller, view.domain))
            response = _store(service, caller, request, evaluation)
            if response is not None:
                _measure(service, view, evaluation)
                return response
        raise Conflict("CONCURRENT_CHANGES")


@contextmanager
def _reading(service: Service, caller: Caller, request: Request) -> Iterator[SessionView]:
    with service.database.read() as connection:
        domain = service.require_domain(connection, caller, request["DomainId"])
        if not domain.active:
            raise Conflict("DOMAIN_NOT_ACTIVE")
        view = open_session_view(service, connection, domain, service.open_vault(caller, domain), request)
        yield replace(view, exact=caller.may(READ_EXACT_SCORES, domain.arn))


def _authentication(
    view: SessionView, service: Service | None, limits: ScoreLimits | None
) -> EvaluationResult[Authentication] | None:
    """Find or make the authentication; with `service` or `limits` None raise _NotStored instead."""
    threshold = view.session.acceptance_threshold
    if threshold is None:
        return None
    basis = authentication_basis(view.session, view.status)
    stored = view.stored_result(AUTHENTICATION, basis)
    if stored is not None:
        return EvaluationResult(
            purpose=AUTHENTICATION,
            basis=basis,
            result_id=stored.result_id,
            decision=Authentication.from_json(stored.exact or stored.document),
        )
    without_score = decide_without_speech(view.session.speaker_id, view.status)
    if without_score is None and not view.has_sample(AUTHENTICATION):
        without_score = "NOT_ENOUGH_SPEECH"
    if without_score is not None:
        decision = Authentication(decision=without_score, threshold=threshold)
    elif service is None or limits is None:
        raise _NotStored
    else:
        assert view.speaker is not None  # else the decision needs no speech
        limits.require(view.connection, view.speaker.speaker_id)
        speech = sample_for(view, AUTHENTICATION)
        score = score_speaker(service, view, speech)
        decision = decide_authentication(threshold, score.value, speech)
        result = _result(view, service, AUTHENTICATION, basis, decision)
        return replace(
            result,
            probe=probe_digest(view.vault, speech.sample, threshold),
            multiple_speakers=score.is_handover(threshold),
        )
    return _result(view, service, AUTHENTICATION, basis, decision)


def _fraud(view: SessionView, service: Service | None) -> EvaluationResult[FraudDetection] | None:
    """Find or make the fraud detection; with `service` None raise _NotStored instead of making it."""
    threshold = view.session.risk_threshold
    if threshold is None:
        return None
    basis = _fraud_basis(view)
    stored = view.stored_result(FRAUD, basis)
    if stored is not None:
        return EvaluationResult(
            purpose=FRAUD,
            basis=basis,
            result_id=stored.result_id,
            decision=FraudDetection.from_json(stored.exact or stored.document),
        )
    require_watchlist(view.connection, view.domain.domain_id, view.watchlist_id)
    decision = FraudDetection(
        decision="NOT_ENOUGH_SPEECH", threshold=threshold, watchlist_id=view.watchlist_id
    )
    if view.has_sample(FRAUD):
        if service is None:
            raise _NotStored
        speech = sample_for(view, FRAUD)
        undecided, decision = decision, detect_fraud(service, view, decision, speech)
        if _has_later_finding(view):
            later = detect_fraud(service, view, undecided, sample_for(view, LATER_FRAUD))
            decision = decision.joined(later)
        result = _result(view, service, FRAUD, basis, decision)
        return replace(result, probe=probe_digest(view.vault, speech.sample, threshold))
    return _result(view, service, FRAUD, basis, decision)


def _fraud_basis(view: SessionView) -> str:
    return fraud_basis(view.session, view.watchlist_id, later_finding=_has_later_finding(view))


def _has_later_finding(view: SessionView) -> bool:
    """Whether later speech of the stream is of a high risk: an enrollment or a later look has found it."""
    session = view.session
    may_have = session.enrollment_status == "FAILED" or session.later_risk_at is not None
    return may_have and view.has_sample(LATER_FRAUD)


def _result(
    view: SessionView, service: Service | None, purpose: str, basis: str, decision: Decision
) -> EvaluationResult[Decision]:
    """Return the result with its stored id, or with a new one; with `service` None raise _NotStored
    instead."""
    if not decision.final:
        basis = basis_before_speech(basis)
        stored = view.stored_result(purpose, basis)
        if stored is not None:
            return EvaluationResult(
                purpose=purpose, basis=basis, result_id=stored.result_id, decision=decision
            )
    if service is None:
        raise _NotStored
    return EvaluationResult(purpose=purpose, basis=basis, result_id=new_id(), decision=decision, new=True)


def _store(service: Service, caller: Caller, request: Request, evaluation: Evaluation) -> Answer | None:
    """Store new results and send their event. None when the session has changed meanwhile, or another call
    has stored the same results."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        view = open_session_view(service, connection, domain, vault, request)
        if not _is_current(view, evaluation):
            return None
        now, limits = service.clock(), service.score_limits(caller, domain)
        evaluation, events = _limit_risk(view, service.risk_limits(caller, domain), evaluation)
        for one in evaluation.new:
            _save(view, one, service.settings.scores.exact_within, now)
            if isinstance(one.decision, Authentication) and one.probe is not None:
                events += _count(view, limits, one.decision, one.probe)
                if one.decision.decision == "ACCEPT":
                    assert view.speaker is not None
                    speakers.set_last_accessed(connection, view.speaker.speaker_id, now)
            if one.multiple_speakers:
                report_multiple_speakers(connection, service.outbox, domain, view.session, now)
        # Receivers of events are unknown: they get what everybody may know.
        told = _response(view, evaluation, service.settings.scores.exact_within)
        event = evaluate_session_event(
            domain,
            view.session,
            authentication=told["AuthenticationResult"],
            fraud_detection=told["FraudDetectionResult"],
        )
        service.outbox.put(connection, [event, *events], now)
        return _response(view, evaluation, _exact_within(service, caller, domain))


def _measure(service: Service, view: SessionView, evaluation: Evaluation) -> None:
    """Count new decisions in the metrics, with their scores as answers tell them."""
    if service.decisions is None:
        return
    started_at = view.session.stream_started_at
    seconds = None if started_at is None else (service.clock() - started_at).total_seconds()
    for one in evaluation.new:
        told = one.decision.coarse(service.settings.scores.exact_within)
        if isinstance(told, Authentication):
            service.decisions.observe("authentication", told.decision, told.score, seconds)
        else:
            risks = [risk for risk in (told.known_score, told.spoofing_score) if risk is not None]
            service.decisions.observe("fraud", told.decision, max(risks, default=None), seconds)


def _save(view: SessionView, one: EvaluationResult[Any], exact_within: int, now: datetime) -> None:
    """Store a new result: what everybody may be told, and exact scores sealed under the session's key."""
    result = Result(
        basis=one.basis,
        result_id=one.result_id,
        document=one.decision.coarse(exact_within).to_json(),
        exact=one.decision.to_json(),
        decision=session_samples.StoredDecision(one.decision.decision, one.decision.reasons),
    )
    seal = view.session.seal(view.vault)
    session_samples.save_result(view.connection, seal, view.session, one.purpose, result, now)


def _limit_risk(
    view: SessionView, limits: RiskLimits, evaluation: Evaluation
) -> tuple[Evaluation, list[Event]]:
    """Count the known-fraudster risk of a new fraud detection, and leave it out where it may not be told."""
    fraud = evaluation.fraud_detection
    if fraud is None or not fraud.new or fraud.probe is None:
        return evaluation, []
    decision = fraud.decision
    if not decision.known_score:
        return evaluation, []
    risk, events = limits.apply(
        view.connection,
        view.domain,
        Risk(name=KNOWN_FRAUDSTER, score=decision.known_score, fraudster_id=decision.fraudster_id),
        fraud.probe,
        threshold=decision.threshold,
        exact_within=limits.settings.scores.exact_within,
    )
    limited = replace(fraud, decision=decision.with_known_fraudster(risk))
    return replace(evaluation, fraud_detection=limited), events


def _count(view: SessionView, limits: ScoreLimits, decision: Authentication, probe: bytes) -> list[Event]:
    """Count a new authentication that did not match. Raises SpeakerLocked and ProbeBudgetUsed when others
    have used the limits up meanwhile."""
    assert view.speaker is not None and decision.score is not None
    limits.require(view.connection, view.speaker.speaker_id)
    rejected = decision.decision == "REJECT"
    if not rejected and not limits.is_miss(decision.score):
        return []
    return limits.count_miss(view.connection, view.domain, view.speaker.speaker_id, probe, rejected=rejected)


def _is_current(view: SessionView, evaluation: Evaluation) -> bool:
    """Whether the results' bases still hold and no new result is stored already."""
    bases = {
        AUTHENTICATION: authentication_basis(view.session, view.status),
        FRAUD: _fraud_basis(view),
    }
    for one in evaluation.all:
        final = bases[one.purpose]
        if one.basis != (final if one.decision.final else basis_before_speech(final)):
            return False
    return all(
        view.stored_result(one.purpose, basis) is None
        for one in evaluation.new
        for basis in (one.basis, bases[one.purpose])
    )


def _response(view: SessionView, evaluation: Evaluation, exact_within: int) -> dict[str, Any]:
    """Build the response. Scores further than `exact_within` from their threshold are told in bands."""
    session, speaker = view.session, view.speaker
    authentication, fraud = evaluation.authentication, evaluation.fraud_detection
    customer_id = None
    if authentication is not None and speaker is not None:
        with refuse_damaged("what is kept of the speaker is damaged; delete the speaker and enroll it again"):
            customer_id = speaker.customer_id(view.vault)
    return {
        "DomainId": session.domain_id,
        "SessionId": session.session_id,
        "SessionName": session.name,
        "StreamingStatus": session.stream_status,
        "AuthenticationResult": None
        if authentication is None
        else authentication.decision.coarse(exact_within).to_response(
            authentication.result_id, session.speaker_id, customer_id
        ),
        "FraudDetectionResult": None
        if fraud is None
        else fraud.decision.coarse(exact_within).to_response(fraud.result_id),
    }


def _exact_within(service: Service, caller: Caller, domain: Domain) -> int:
    """How far from its threshold a score is told to the caller exactly."""
    return EXACT if caller.may(READ_EXACT_SCORES, domain.arn) else service.settings.scores.exact_within
