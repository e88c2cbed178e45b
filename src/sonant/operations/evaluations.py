"""EvaluateSession: the decisions on a caller, made once from what was heard and then given again.

It never listens, infers or waits for speech. A call that finds the results made, or nothing to make them
from, only reads (`known_evaluation`); a new result is made outside of the transaction that stores it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from sqlalchemy import Connection

from sonant.errors import Conflict, ModelledError, ModelMismatch, SealBroken, Validation
from sonant.events.documents import ErrorInfo, Event
from sonant.events.session_documents import evaluate_session_event
from sonant.ids import new_id
from sonant.jobs.faults import JobFault
from sonant.jobs.scale import scale_of
from sonant.live.evaluation import (
    Authentication,
    FraudDetection,
    authenticated,
    authentication_basis,
    fraud_basis,
    fraud_detected,
    without_listening,
)
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.sessions import require_session
from sonant.operations.watchlists import require_watchlist
from sonant.store import sessions, speakers
from sonant.store.domains import Domain
from sonant.store.sessions import AUTHENTICATION, FRAUD, Hearing, Result, Session
from sonant.store.speakers import Speaker
from sonant.store.vault import Vault
from sonant.voice.calibration import Calibration
from sonant.voice.embedding import Embedding
from sonant.voice.models import shipped_encoder_id
from sonant.voice.scoring import similarity

log = logging.getLogger(__name__)

#: How often results are made anew because the session changed while they were made.
TRIES = 3
#: How long a call waits for a domain's recordings to be read (see `Watches.ready`).
READY_S = 1.0

Content = TypeVar("Content", Authentication, FraudDetection)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A session in one transaction, and what its results rest on."""

    connection: Connection
    domain: Domain
    vault: Vault
    session: Session
    speaker: Speaker | None

    @property
    def status(self) -> str | None:
        return None if self.speaker is None else self.speaker.status

    def kept(self, purpose: str, basis: str) -> Result | None:
        """The result that rests on the same, if one was made."""
        found = sessions.result(self.connection, self.session.session_id, purpose)
        return found if found is not None and found.basis == basis else None

    def heard(self, purpose: str) -> bool:
        return sessions.was_heard(self.connection, self.session, purpose)

    @property
    def watchlist_id(self) -> str:
        return self.session.watchlist_id or self.domain.default_watchlist_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Made(Generic[Content]):
    """One result: stored, or `new`; one that is neither is not final."""

    purpose: str
    basis: str
    result_id: str
    content: Content
    new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What EvaluateSession answers; None for what the session is not set up for."""

    authentication: Made[Authentication] | None
    fraud_detection: Made[FraudDetection] | None

    @property
    def all(self) -> list[Made[Any]]:
        return [made for made in (self.authentication, self.fraud_detection) if made is not None]

    @property
    def new(self) -> list[Made[Any]]:
        return [made for made in self.all if made.new]


class _Work(Exception):
    """A result must be made."""


def evaluate_session(service: Service, caller: Caller, request: Request) -> Answer:
    """See the module. Raises Conflict DOMAIN_NOT_ACTIVE, although it mostly reads, ResourceNotFound SESSION
    and WATCHLIST, and Validation for what cannot be compared, saying what to do."""

    def failed(domain: Domain, error: ErrorInfo) -> Event:
        return evaluate_session_event(domain, None, error=error, asked=request["SessionNameOrId"])

    with service.telling_failure(caller, request["DomainId"], failed):
        for _ in range(TRIES):
            with _reading(service, caller, request) as view:
                made = Results(
                    authentication=_authentication(view, service), fraud_detection=_fraud(view, service)
                )
                if not made.new:
                    return _answer(view, made)
            answer = _store(service, caller, request, made)
            if answer is not None:
                return answer
        raise Conflict("CONCURRENT_CHANGES")


def known_evaluation(service: Service, caller: Caller, request: Request) -> Answer | None:
    """The same answer if it takes no more than reading; None if there is work to do, or a refusal to tell."""
    try:
        with _reading(service, caller, request) as view:
            try:
                made = Results(authentication=_authentication(view, None), fraud_detection=_fraud(view, None))
            except _Work:
                return None
            return _answer(view, made)
    except ModelledError:
        return None


@contextmanager
def _reading(service: Service, caller: Caller, request: Request) -> Iterator[View]:
    with service.database.read() as connection:
        domain = service.require_domain(connection, caller, request["DomainId"])
        if not domain.active:
            raise Conflict("DOMAIN_NOT_ACTIVE")
        yield _view(service, connection, domain, service.open_vault(caller, domain), request)


def _view(service: Service, connection: Connection, domain: Domain, vault: Vault, request: Request) -> View:
    session = require_session(service, connection, domain.domain_id, request["SessionNameOrId"])
    speaker = None
    if session.speaker_id is not None:
        speaker = speakers.find(connection, vault, domain.domain_id, session.speaker_id)
    return View(
        connection=connection,
        domain=domain,
        vault=vault,
        session=session,
        speaker=speaker,
    )


def _authentication(view: View, service: Service | None) -> Made[Authentication] | None:
    """`service` None: raises _Work instead of making a result."""
    threshold = view.session.acceptance_threshold
    if threshold is None:
        return None
    basis = authentication_basis(view.session, view.status)
    kept = view.kept(AUTHENTICATION, basis)
    if kept is not None:
        content = Authentication.of_text(kept.document)
        return Made(purpose=AUTHENTICATION, basis=basis, result_id=kept.result_id, content=content)
    decision = without_listening(view.session.speaker_id, view.status)
    if decision is None and not view.heard(AUTHENTICATION):
        decision = "NOT_ENOUGH_SPEECH"
    if service is None and decision != "NOT_ENOUGH_SPEECH":
        raise _Work
    if decision is not None or service is None:
        content = Authentication(decision=decision or "NOT_ENOUGH_SPEECH", threshold=threshold)
    else:
        hearing = _hearing(view, AUTHENTICATION)
        content = authenticated(threshold, _score(service, view, hearing), hearing)
    return Made(purpose=AUTHENTICATION, basis=basis, result_id=new_id(), content=content, new=content.final)


def _fraud(view: View, service: Service | None) -> Made[FraudDetection] | None:
    """`service` None: raises _Work instead of making a result."""
    threshold = view.session.risk_threshold
    if threshold is None:
        return None
    basis = fraud_basis(view.session, view.watchlist_id)
    kept = view.kept(FRAUD, basis)
    if kept is not None:
        content = FraudDetection.of_text(kept.document)
        return Made(purpose=FRAUD, basis=basis, result_id=kept.result_id, content=content)
    require_watchlist(view.connection, view.domain.domain_id, view.watchlist_id)
    content = FraudDetection(
        decision="NOT_ENOUGH_SPEECH", threshold=threshold, watchlist_id=view.watchlist_id
    )
    if view.heard(FRAUD):
        if service is None:
            raise _Work
        content = _assessed(service, view, content)
    return Made(purpose=FRAUD, basis=basis, result_id=new_id(), content=content, new=content.final)


def _assessed(service: Service, view: View, not_yet: FraudDetection) -> FraudDetection:
    """`not_yet` while the domain's recordings are still being read: the caller asks again."""
    hearing = _hearing(view, FRAUD)
    domain, vault, watchlist_id = view.domain, view.vault, view.watchlist_id
    try:
        if hearing.fingerprint is not None and not service.watches.ready(
            service.database.read, domain, vault, wait_s=READY_S
        ):
            return not_yet
        risks = service.watches.risks(
            view.connection,
            domain,
            vault,
            watchlist_id=watchlist_id,
            hearing=hearing,
            scale=_scale(service, view, hearing),
            began=view.session.stream_started_at,
        )
    except JobFault as fault:
        log.error("session %s cannot be searched for fraud: %s", view.session.session_id, fault.message)
        raise Validation(f"Fraud detection is not possible: {fault.message}") from None
    return fraud_detected(not_yet.threshold, watchlist_id, risks, hearing)


def _score(service: Service, view: View, hearing: Hearing) -> int:
    """How well the voice that was heard fits the speaker's voiceprint, 0-100."""
    assert view.speaker is not None  # else nothing had to be heard
    with _undamaged("the speaker's voiceprint is damaged; enroll the speaker again"):
        reference = speakers.load_reference(view.connection, view.vault, view.speaker)
    if reference is None:
        raise Validation("The speaker has no voiceprint; enroll the speaker again")
    try:
        alike = similarity(
            _embedding(hearing.model_id, hearing.vector), _embedding(reference.model_id, reference.vector)
        )
    except ModelMismatch:
        own = view.domain.model_id or shipped_encoder_id()
        cure = "start a new stream" if hearing.model_id != own else "enroll the speaker again"
        raise Validation(
            f"The speaker's voiceprint was made by the voice model {reference.model_id}, and the call was "
            f"heard by another, {hearing.model_id}: {cure}"
        ) from None
    noise = [hearing.snr_db] if reference.snr_db is None else [hearing.snr_db, reference.snr_db]
    scale = _scale(service, view, hearing)
    return scale.score(alike, speech_s=hearing.net_speech_s, snr_db=min(noise))


def _scale(service: Service, view: View, hearing: Hearing) -> Calibration:
    return scale_of(view.connection, view.domain.domain_id, hearing.model_id, service.calibration_of)


def _hearing(view: View, purpose: str) -> Hearing:
    with _undamaged("what was heard of the call is damaged; start a new stream"):
        found = sessions.hearings(view.connection, view.session.seal(view.vault), view.session)
    return found[purpose]


def _store(service: Service, caller: Caller, request: Request, made: Results) -> Answer | None:
    """Store new results and tell of them; None when the session has changed meanwhile, or another call has
    made the same results."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        view = _view(service, connection, domain, vault, request)
        bases = {
            AUTHENTICATION: authentication_basis(view.session, view.status),
            FRAUD: fraud_basis(view.session, view.watchlist_id),
        }
        if any(bases[one.purpose] != one.basis for one in made.all):
            return None
        now = service.clock()
        if any(view.kept(one.purpose, one.basis) is not None for one in made.new):
            return None
        for one in made.new:
            result = Result(basis=one.basis, result_id=one.result_id, document=one.content.text())
            sessions.save_result(connection, view.session.session_id, one.purpose, result)
            if isinstance(one.content, Authentication) and one.content.decision == "ACCEPT":
                assert view.speaker is not None
                speakers.accessed(connection, view.speaker.speaker_id, now)
        answer = _answer(view, made)
        told = evaluate_session_event(
            domain,
            view.session,
            authentication=answer["AuthenticationResult"],
            fraud_detection=answer["FraudDetectionResult"],
        )
        service.outbox.put(connection, [told], now)
        return answer


def _answer(view: View, made: Results) -> dict[str, Any]:
    session, speaker = view.session, view.speaker
    authentication, fraud = made.authentication, made.fraud_detection
    customer_id = None
    if authentication is not None and speaker is not None:
        with _undamaged("what is kept of the speaker is damaged; delete the speaker and enroll it again"):
            customer_id = speaker.customer_id(view.vault)
    return {
        "DomainId": session.domain_id,
        "SessionId": session.session_id,
        "SessionName": session.name,
        "StreamingStatus": session.stream_status,
        "AuthenticationResult": None
        if authentication is None
        else authentication.content.member(authentication.result_id, session.speaker_id, customer_id),
        "FraudDetectionResult": None if fraud is None else fraud.content.member(fraud.result_id),
    }


@contextmanager
def _undamaged(cure: str) -> Iterator[None]:
    """Sealed bytes that do not open are nothing that asking again would mend."""
    try:
        yield
    except SealBroken:
        log.error("EvaluateSession: %s", cure)
        raise Validation(f"The session cannot be evaluated: {cure}") from None


def _embedding(model_id: str, vector: bytes) -> Embedding:
    return Embedding(vector=np.frombuffer(vector, dtype="<f4"), model_id=model_id)
