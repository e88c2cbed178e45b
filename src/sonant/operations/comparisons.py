"""Read what EvaluateSession needs in one transaction, and compare a call's voice samples."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from sonant.errors import ModelMismatch, SealBroken, Validation
from sonant.jobs.calibration_cache import domain_calibration
from sonant.jobs.faults import JobFault
from sonant.operations.service import Request, Service
from sonant.operations.sessions import require_session
from sonant.sessions.decisions import FraudDetection, decide_fraud
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import session_hearings, speakers
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_hearings import FRAUD, Result, SessionSample
from sonant.storage.repositories.sessions import Session
from sonant.storage.repositories.speakers import Speaker
from sonant.voice.calibration.model import Calibration
from sonant.voice.models import shipped_encoder_id

log = logging.getLogger(__name__)

#: How long a request waits for a domain's fingerprints to be read (see `FraudIndexes.ready`).
READY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A session in one transaction, with what its results depend on."""

    connection: Connection
    domain: Domain
    vault: Vault
    session: Session
    speaker: Speaker | None

    @property
    def status(self) -> str | None:
        return None if self.speaker is None else self.speaker.status

    def kept(self, purpose: str, basis: str) -> Result | None:
        """Find the stored result with this basis."""
        found = session_hearings.result(self.connection, self.session.session_id, purpose)
        return found if found is not None and found.basis == basis else None

    def heard(self, purpose: str) -> bool:
        return session_hearings.has_hearing(self.connection, self.session, purpose)

    @property
    def watchlist_id(self) -> str:
        return self.session.watchlist_id or self.domain.default_watchlist_id


def view_of(service: Service, connection: Connection, domain: Domain, vault: Vault, request: Request) -> View:
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


def assessed(service: Service, view: View, not_yet: FraudDetection) -> FraudDetection:
    """Detect fraud in a call; `not_yet` while the domain's fingerprints are still being read.

    Raises ResourceNotFound WATCHLIST, Validation for damaged data.
    """
    hearing = heard_for(view, FRAUD)
    domain, vault, watchlist_id = view.domain, view.vault, view.watchlist_id
    try:
        if hearing.fingerprint is not None and not service.fraud_indexes.ready(
            service.database.read, domain, vault, wait_s=READY_S
        ):
            return not_yet
        risks = service.fraud_indexes.risks(
            view.connection,
            domain,
            vault,
            watchlist_id=watchlist_id,
            speech=hearing,
            calibration=_scale(service, view, hearing),
            call_started_at=view.session.stream_started_at,
        )
    except JobFault as fault:
        log.error("session %s cannot be searched for fraud: %s", view.session.session_id, fault.message)
        raise Validation(f"Fraud detection is not possible: {fault.message}") from None
    return decide_fraud(not_yet.threshold, watchlist_id, risks, hearing)


def score(service: Service, view: View, hearing: SessionSample) -> int:
    """Score how well a call's voice matches the speaker's voiceprint, 0-100.

    Raises Validation for damaged data, and for samples of different voice models.
    """
    assert view.speaker is not None  # else no speech is needed
    with undamaged("the speaker's voiceprint is damaged; enroll the speaker again"):
        reference = speakers.load_sample(view.connection, view.vault, view.speaker)
    if reference is None:
        raise Validation("The speaker has no voiceprint; enroll the speaker again")
    probe = hearing.sample
    try:
        similarity = probe.similarity(reference)
    except ModelMismatch:
        own = view.domain.model_id or shipped_encoder_id()
        cure = (
            "ask again in a moment, or start a new stream"
            if probe.model_id != own
            else "enroll the speaker again, or have the operator bring all voiceprints over with "
            f"`sonant model upgrade {view.domain.domain_id} {own}`"
        )
        raise Validation(
            f"The speaker's voiceprint was made by the voice model {reference.model_id}, and the call was "
            f"heard by another, {probe.model_id}: {cure}"
        ) from None
    return _scale(service, view, hearing).score_for(similarity, probe.comparison_quality(reference))


def _scale(service: Service, view: View, hearing: SessionSample) -> Calibration:
    return domain_calibration(
        view.connection, view.domain.domain_id, hearing.sample.model_id, service.calibration_of
    )


def heard_for(view: View, purpose: str) -> SessionSample:
    """Open the voice sample for a purpose. Raises Validation if it is damaged."""
    with undamaged("what was heard of the call is damaged; start a new stream"):
        found = session_hearings.hearings(view.connection, view.session.seal(view.vault), view.session)
    return found[purpose]


@contextmanager
def undamaged(cure: str) -> Iterator[None]:
    """Turn SealBroken into Validation that names the cure: a repeated request cannot succeed."""
    try:
        yield
    except SealBroken:
        log.error("EvaluateSession: %s", cure)
        raise Validation(f"The session cannot be evaluated: {cure}") from None
