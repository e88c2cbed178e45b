"""Decide enrollment requests: pure functions of the speaker's state and the task's result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sonant.errors import Conflict, quota_sentence
from sonant.jobs.entry import TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import refuse
from sonant.jobs.inspect import InspectionResult
from sonant.storage.repositories.erasure import ErasedSpeaker
from sonant.storage.repositories.speakers import SpeakerStatus

EnrollmentStatus = Literal["DUPLICATE_SKIPPED", "NEW_ENROLLMENT", "ENROLLMENT_OVERWRITE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A job's EnrollmentConfig."""

    overwrite: bool
    fraud_action: str
    risk_threshold: int


#: Beside the statuses of speakers: enrolled with a voiceprint of another model than the domain's. It can be
#: compared with nothing, so the speaker is enrolled again, as an expired one is, whatever the job's action.
INCOMPARABLE = "INCOMPARABLE"


def enrollment_state(standing: SpeakerStatus | None, model_id: str) -> str | None:
    """Find a speaker's status in a domain of this voice model, or INCOMPARABLE; None for a new speaker."""
    if standing is None:
        return None
    enrolled = standing.status == "ENROLLED"
    return INCOMPARABLE if enrolled and standing.model_id != model_id else standing.status


def decide_by_status(status: str | None, config: Config) -> Refusal | EnrollmentStatus | None:
    """Decide by the speaker's status (None: unknown) alone; None means that the audio is needed."""
    if status == "OPTED_OUT":
        return Refusal(409, Conflict.TEXTS["SPEAKER_OPTED_OUT"])
    if status == "ENROLLED" and not config.overwrite:
        return "DUPLICATE_SKIPPED"
    return None


#: Why a speaker is not enrolled in a domain that requires a consent.
NO_CONSENT = Refusal(409, Conflict.TEXTS["CONSENT_MISSING"])

#: Why a request fails whose speaker was deleted after the job was submitted.
DELETED_SINCE = Refusal(
    409, "the speaker was deleted after the job was submitted; submit the request again to enroll the speaker"
)


#: Why a request fails whose speaker's rows something else than Sonant has changed.
DAMAGED_SPEAKER = Refusal(500, "what is stored of the speaker is damaged; see the service's log")


def is_void(erased: ErasedSpeaker | None, submitted_at: datetime) -> bool:
    """Return whether the speaker was deleted after the job was submitted: the job may not undo that."""
    return erased is not None and erased.status == "DELETED" and erased.erased_at > submitted_at


def decide_outcome(
    status: str | None, config: Config, result: TaskResult | Refusal, *, speakers_present: int, quota: int
) -> Refusal | EnrollmentStatus:
    """Decide the outcome in Voice ID's order: status, audio, fraud, quota.

    The status must be looked up again before: it may have changed while the audio was processed.
    """
    early = decide_by_status(status, config)
    if early is not None:
        return early
    if isinstance(result, Refusal):
        return result
    flagged = refuse(result.risks, action=config.fraud_action, risk_threshold=config.risk_threshold)
    if flagged is not None:
        return flagged
    if status is None and speakers_present >= quota:
        return Refusal(402, quota_sentence("speakers_per_domain", quota))
    return "ENROLLMENT_OVERWRITE" if status in ("ENROLLED", INCOMPARABLE) else "NEW_ENROLLMENT"


#: Outcomes after which the speaker has a new voiceprint.
ENROLLS = ("NEW_ENROLLMENT", "ENROLLMENT_OVERWRITE")


class OutcomePredictor:
    """Predicts the outcomes of a job's requests in manifest order, without processing the job.

    It remembers which speakers earlier requests would have enrolled; a `dedup_key` identifies a speaker.
    """

    def __init__(self, config: Config, quota: int) -> None:
        self._config, self._quota = config, quota
        self._enrolled: set[bytes] = set()
        self._added = 0

    def predict(
        self, dedup_key: bytes, status: str | None, result: TaskResult | Refusal, *, speakers_present: int
    ) -> Refusal | EnrollmentStatus:
        """Predict one outcome. `status` and `speakers_present` are those of the domain now."""
        status_then = "ENROLLED" if dedup_key in self._enrolled else status
        early = decide_by_status(status_then, self._config)
        if early is not None:
            return early
        refusal = result.refusal if isinstance(result, InspectionResult) else None
        return decide_outcome(
            status_then,
            self._config,
            refusal or result,
            speakers_present=speakers_present + self._added,
            quota=self._quota,
        )

    def record(self, dedup_key: bytes, status: str | None, outcome: Refusal | EnrollmentStatus) -> None:
        """Record an outcome, on which those of later requests depend."""
        if outcome in ENROLLS and dedup_key not in self._enrolled:
            self._enrolled.add(dedup_key)
            self._added += status is None
