"""What becomes of one enrollment request: a pure function of the speaker's state and what was heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sonant.errors import Conflict, quota_text
from sonant.jobs.entry import Prepared
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import refuse
from sonant.storage.repositories.speakers import SpeakerStatus

EnrollmentStatus = Literal["DUPLICATE_SKIPPED", "NEW_ENROLLMENT", "ENROLLMENT_OVERWRITE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A job's EnrollmentConfig."""

    overwrite: bool
    fraud_action: str
    risk_threshold: int


#: Beside the statuses of speakers: enrolled with a voiceprint of another model than the domain's. It can be
#: compared with nothing, so the speaker is enrolled anew, as an expired one is, whatever the job's action.
INCOMPARABLE = "INCOMPARABLE"


def state_of(standing: SpeakerStatus | None, model_id: str) -> str | None:
    """A speaker's status in a domain of this voice model, or INCOMPARABLE; None for a new speaker."""
    if standing is None:
        return None
    enrolled = standing.status == "ENROLLED"
    return INCOMPARABLE if enrolled and standing.model_id != model_id else standing.status


def before_listening(status: str | None, config: Config) -> Refusal | EnrollmentStatus | None:
    """What the speaker's status (None: unknown) decides already; None means the audio must be heard."""
    if status == "OPTED_OUT":
        return Refusal(409, Conflict.TEXTS["SPEAKER_OPTED_OUT"])
    if status == "ENROLLED" and not config.overwrite:
        return "DUPLICATE_SKIPPED"
    return None


def after_listening(
    status: str | None, config: Config, heard: Prepared | Refusal, *, speakers_present: int, quota: int
) -> Refusal | EnrollmentStatus:
    """The outcome, in Voice ID's order: state, audio, fraud, quota.

    The status is looked up anew: it may have changed while the audio was heard.
    """
    early = before_listening(status, config)
    if early is not None:
        return early
    if isinstance(heard, Refusal):
        return heard
    flagged = refuse(heard.risks, action=config.fraud_action, risk_threshold=config.risk_threshold)
    if flagged is not None:
        return flagged
    if status is None and speakers_present >= quota:
        return Refusal(402, quota_text("domain", quota, "speakers"))
    return "ENROLLMENT_OVERWRITE" if status in ("ENROLLED", INCOMPARABLE) else "NEW_ENROLLMENT"
