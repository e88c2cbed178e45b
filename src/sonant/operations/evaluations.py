"""EvaluateSession: the decisions on a caller, made once from what was heard and then given again.

It never listens, infers or waits for speech. A call that finds the results made only reads
(`known_evaluation`); a new result is made outside of the transaction that stores it. That there is not enough
speech yet is such a result, too: it is stored and told once, and given again until there is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sonant.errors import Conflict, ModelledError
from sonant.events.session_documents import evaluate_session_event, evaluation_refused_event
from sonant.ids import new_id
from sonant.operations.comparisons import View, assessed, heard_for, score, undamaged, view_of
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.sessions import telling_refusal
from sonant.operations.watchlists import require_watchlist
from sonant.sessions.decisions import (
    Authentication,
    FraudDetection,
    authenticated,
    authentication_basis,
    before_speech,
    fraud_basis,
    without_listening,
)
from sonant.storage.repositories import session_hearings, speakers
from sonant.storage.repositories.session_hearings import AUTHENTICATION, FRAUD, Result

#: How often results are made anew because the session changed while they were made.
TRIES = 3

Content = TypeVar("Content", Authentication, FraudDetection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made(Generic[Content]):
    """One result, stored or `new`."""

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


def known_evaluation(service: Service, caller: Caller, request: Request) -> Answer | None:
    """EvaluateSession if reading is enough; None if results must be made or a refusal reported."""
    try:
        with _reading(service, caller, request) as view:
            try:
                made = Results(authentication=_authentication(view, None), fraud_detection=_fraud(view, None))
            except _Work:
                return None
            return _answer(view, made)
    except ModelledError:
        return None


@operation(read_first=known_evaluation)
def evaluate_session(service: Service, caller: Caller, request: Request) -> Answer:
    """See the module. Raises Conflict DOMAIN_NOT_ACTIVE, although it mostly reads, ResourceNotFound SESSION
    and WATCHLIST, and Validation for what cannot be compared, saying what to do."""
    asked: str = request["SessionNameOrId"]
    with telling_refusal(service, caller, request["DomainId"], asked, evaluation_refused_event):
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


@contextmanager
def _reading(service: Service, caller: Caller, request: Request) -> Iterator[View]:
    with service.database.read() as connection:
        domain = service.require_domain(connection, caller, request["DomainId"])
        if not domain.active:
            raise Conflict("DOMAIN_NOT_ACTIVE")
        yield view_of(service, connection, domain, service.open_vault(caller, domain), request)


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
    if decision is not None:
        content = Authentication(decision=decision, threshold=threshold)
    elif service is None:
        raise _Work
    else:
        hearing = heard_for(view, AUTHENTICATION)
        content = authenticated(threshold, score(service, view, hearing), hearing)
    return _made(view, service, AUTHENTICATION, basis, content)


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
        content = assessed(service, view, content)
    return _made(view, service, FRAUD, basis, content)


def _made(view: View, service: Service | None, purpose: str, basis: str, content: Content) -> Made[Content]:
    """The result under the id it was given before, or a new one; for which `service` None raises _Work."""
    if not content.final:
        basis = before_speech(basis)
        kept = view.kept(purpose, basis)
        if kept is not None:
            return Made(purpose=purpose, basis=basis, result_id=kept.result_id, content=content)
    if service is None:
        raise _Work
    return Made(purpose=purpose, basis=basis, result_id=new_id(), content=content, new=True)


def _store(service: Service, caller: Caller, request: Request, made: Results) -> Answer | None:
    """Store new results and tell of them; None when the session has changed meanwhile, or another call has
    made the same results."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        view = view_of(service, connection, domain, vault, request)
        bases = {
            AUTHENTICATION: authentication_basis(view.session, view.status),
            FRAUD: fraud_basis(view.session, view.watchlist_id),
        }
        for one in made.all:
            final = bases[one.purpose]
            if one.basis != (final if one.content.final else before_speech(final)):
                return None
        if any(
            view.kept(one.purpose, basis) is not None
            for one in made.new
            for basis in (one.basis, bases[one.purpose])
        ):
            return None
        now = service.clock()
        for one in made.new:
            result = Result(basis=one.basis, result_id=one.result_id, document=one.content.text())
            session_hearings.save_result(connection, view.session.session_id, one.purpose, result)
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
        with undamaged("what is kept of the speaker is damaged; delete the speaker and enroll it again"):
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
