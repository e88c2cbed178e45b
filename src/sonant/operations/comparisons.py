"""Read what EvaluateSession needs in one transaction, and compare a call's voice samples."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from sonant.errors import ModelMismatch, SealBroken, Validation
from sonant.jobs.calibration_cache import domain_calibration
from sonant.jobs.faults import JobFault
from sonant.operations.service import Request, Service
from sonant.operations.sessions import require_session
from sonant.sessions.decisions import FraudDetection, decide_fraud
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import session_samples, speakers
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_samples import Result, SessionSample
from sonant.storage.repositories.sessions import Session
from sonant.storage.repositories.speakers import Speaker
from sonant.voice.calibration.model import Calibration
from sonant.voice.call_voices import SpeakerScore
from sonant.voice.models import shipped_encoder_id

log = logging.getLogger(__name__)

#: How long a request waits for a domain's fingerprints to be read (see `FraudIndexes.ready`).
READY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """A session in one transaction, with what its results depend on."""

    connection: Connection
    domain: Domain
    vault: Vault
    session: Session
    speaker: Speaker | None
    exact: bool = False
    """Whether the caller may be told exact scores."""

    @property
    def status(self) -> str | None:
        return None if self.speaker is None else self.speaker.status

    def stored_result(self, purpose: str, basis: str) -> Result | None:
        """Find the stored result with this basis. Raises Validation if its exact scores are damaged."""
        seal = partial(self.session.seal, self.vault) if self.exact else None
        with refuse_damaged("its stored result is damaged; start a new stream"):
            found = session_samples.result(self.connection, self.session.session_id, purpose, seal)
        return found if found is not None and found.basis == basis else None

    def has_sample(self, purpose: str) -> bool:
        return session_samples.has_sample(self.connection, self.session, purpose)

    @property
    def watchlist_id(self) -> str:
        return self.session.watchlist_id or self.domain.default_watchlist_id


def open_session_view(
    service: Service, connection: Connection, domain: Domain, vault: Vault, request: Request
) -> SessionView:
    session = require_session(service, connection, domain.domain_id, request["SessionNameOrId"])
    speaker = None
    if session.speaker_id is not None:
        speaker = speakers.find(connection, vault, domain.domain_id, session.speaker_id)
    return SessionView(
        connection=connection,
        domain=domain,
        vault=vault,
        session=session,
        speaker=speaker,
    )


def detect_fraud(
    service: Service, view: SessionView, undecided: FraudDetection, speech: SessionSample
) -> FraudDetection:
    """Detect fraud in a call's speech; `undecided` while the domain's fingerprints are still being read.

    Raises ResourceNotFound WATCHLIST, Validation for damaged data.
    """
    domain, vault, watchlist_id = view.domain, view.vault, view.watchlist_id
    try:
        if speech.fingerprint is not None and not service.fraud_indexes.ready(
            service.database.read, domain, vault, wait_s=READY_S
        ):
            return undecided
        risks = service.fraud_indexes.risks(
            view.connection,
            domain,
            vault,
            watchlist_id=watchlist_id,
            speech=speech,
            calibration=_calibration(service, view, speech),
            call_started_at=view.session.stream_started_at,
        )
    except JobFault as fault:
        log.error("session %s cannot be searched for fraud: %s", view.session.session_id, fault.message)
        raise Validation(f"Fraud detection is not possible: {fault.message}") from None
    return decide_fraud(undecided.threshold, watchlist_id, risks, speech)


def score_speaker(service: Service, view: SessionView, speech: SessionSample) -> SpeakerScore:
    """Score how well a call's voice, and the voice in parts of its speech, match the speaker's voiceprint.

    Raises Validation for damaged data, and for samples of different voice models.
    """
    assert view.speaker is not None  # else no speech is needed
    with refuse_damaged("the speaker's voiceprint is damaged; enroll the speaker again"):
        reference = speakers.load_sample(view.connection, view.vault, view.speaker)
    if reference is None:
        raise Validation("The speaker has no voiceprint; enroll the speaker again")
    probe = speech.sample
    try:
        similarities = [sample.similarity(reference) for sample in (probe, *speech.parts)]
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
    calibration = _calibration(service, view, speech)
    whole, *parts = (
        calibration.score_for(similarity, sample.comparison_quality(reference))
        for similarity, sample in zip(similarities, (probe, *speech.parts), strict=True)
    )
    return SpeakerScore(whole=whole, parts=tuple(parts), limits=calibration.part_limits)


def _calibration(service: Service, view: SessionView, speech: SessionSample) -> Calibration:
    return domain_calibration(
        view.connection, view.domain.domain_id, speech.sample.model_id, service.calibration_of
    )


def sample_for(view: SessionView, purpose: str) -> SessionSample:
    """Open the voice sample for a purpose. Raises Validation if it is damaged."""
    with refuse_damaged("what was heard of the call is damaged; start a new stream"):
        found = session_samples.load_samples(view.connection, view.session.seal(view.vault), view.session)
    return found[purpose]


@contextmanager
def refuse_damaged(cure: str) -> Iterator[None]:
    """Turn SealBroken into Validation that names the cure: a repeated request cannot succeed."""
    try:
        yield
    except SealBroken:
        log.error("EvaluateSession: %s", cure)
        raise Validation(f"The session cannot be evaluated: {cure}") from None
