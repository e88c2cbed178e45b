"""What EvaluateSession looks at in one transaction, and how a voice that was heard is compared."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from sonant.errors import ModelMismatch, SealBroken, Validation
from sonant.jobs.calibration_cache import scale_of
from sonant.jobs.faults import JobFault
from sonant.operations.service import Request, Service
from sonant.operations.sessions import require_session
from sonant.sessions.decisions import FraudDetection, fraud_detected
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import session_hearings, speakers
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_hearings import FRAUD, Hearing, Result
from sonant.storage.repositories.sessions import Session
from sonant.storage.repositories.speakers import Speaker
from sonant.voice.calibration.model import Calibration
from sonant.voice.models import shipped_encoder_id
from sonant.voice.models.embedding import Embedding
from sonant.voice.scoring import similarity

log = logging.getLogger(__name__)

#: How long a call waits for a domain's recordings to be read (see `Watches.ready`).
READY_S = 1.0


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
    """What was heard, searched for fraud; `not_yet` while the domain's recordings are still being read: the
    caller asks again. Raises ResourceNotFound WATCHLIST, Validation for what is damaged."""
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
            hearing=hearing,
            scale=_scale(service, view, hearing),
            began=view.session.stream_started_at,
        )
    except JobFault as fault:
        log.error("session %s cannot be searched for fraud: %s", view.session.session_id, fault.message)
        raise Validation(f"Fraud detection is not possible: {fault.message}") from None
    return fraud_detected(not_yet.threshold, watchlist_id, risks, hearing)


def score(service: Service, view: View, hearing: Hearing) -> int:
    """How well the voice that was heard fits the speaker's voiceprint, 0-100. Raises Validation for what is
    damaged or comes from different voice models."""
    assert view.speaker is not None  # else nothing had to be heard
    with undamaged("the speaker's voiceprint is damaged; enroll the speaker again"):
        reference = speakers.load_reference(view.connection, view.vault, view.speaker)
    if reference is None:
        raise Validation("The speaker has no voiceprint; enroll the speaker again")
    try:
        alike = similarity(
            _embedding(hearing.model_id, hearing.vector), _embedding(reference.model_id, reference.vector)
        )
    except ModelMismatch:
        own = view.domain.model_id or shipped_encoder_id()
        cure = (
            "ask again in a moment, or start a new stream"
            if hearing.model_id != own
            else "enroll the speaker again, or have the operator bring all voiceprints over with "
            f"`sonant model upgrade {view.domain.domain_id} {own}`"
        )
        raise Validation(
            f"The speaker's voiceprint was made by the voice model {reference.model_id}, and the call was "
            f"heard by another, {hearing.model_id}: {cure}"
        ) from None
    noise = [hearing.snr_db] if reference.snr_db is None else [hearing.snr_db, reference.snr_db]
    scale = _scale(service, view, hearing)
    highpass_300hz = hearing.highpass_300hz and reference.highpass_300hz is not False
    return scale.score(alike, speech_s=hearing.net_speech_s, snr_db=min(noise), highpass_300hz=highpass_300hz)


def _scale(service: Service, view: View, hearing: Hearing) -> Calibration:
    return scale_of(view.connection, view.domain.domain_id, hearing.model_id, service.calibration_of)


def heard_for(view: View, purpose: str) -> Hearing:
    """What was heard for a purpose. Raises Validation if it is damaged."""
    with undamaged("what was heard of the call is damaged; start a new stream"):
        found = session_hearings.hearings(view.connection, view.session.seal(view.vault), view.session)
    return found[purpose]


@contextmanager
def undamaged(cure: str) -> Iterator[None]:
    """Raises Validation for sealed bytes that do not open: asking again mends nothing, the cure does."""
    try:
        yield
    except SealBroken:
        log.error("EvaluateSession: %s", cure)
        raise Validation(f"The session cannot be evaluated: {cure}") from None


def _embedding(model_id: str, vector: bytes) -> Embedding:
    return Embedding(vector=np.frombuffer(vector, dtype="<f4"), model_id=model_id)
