"""What the pool is asked to do with a stretch of speech, and what its answer is in the store's form."""

from __future__ import annotations

from datetime import datetime, timedelta

from sonant.jobs.entry import Pcm16Audio, Role, Task, TaskResult
from sonant.jobs.fraud import SPOOFING
from sonant.sessions.listener import ENROLLMENT
from sonant.sessions.worker_pool import Urgency
from sonant.settings import Settings
from sonant.storage.repositories.session_hearings import AUTHENTICATION, FRAUD, SessionSample
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.collector import SpeechWindow

URGENCY = {
    AUTHENTICATION: Urgency.AUTHENTICATION,
    FRAUD: Urgency.FRAUD,
    ENROLLMENT: Urgency.ENROLLMENT,
}

#: Speech of calls needs no role: it is fetched from nowhere.
_NOBODY = Role(arn="", policies=())


def task_for(
    purpose: str,
    window: SpeechWindow,
    model_id: str | None,
    settings: Settings,
    *,
    risk_threshold: int | None,
) -> Task:
    """`risk_threshold` is the session's; None looks for no spoofing. What lies below it is not told apart any
    further: should the threshold be lowered later, a risk may be found that is greater than it need be."""
    detect = purpose != AUTHENTICATION and risk_threshold is not None
    keep = settings.audio.keep if purpose == ENROLLMENT else settings.live.keep_audio
    return Task(
        task_id=0,
        role=_NOBODY,
        audio=(),
        need_s=0.0,
        keep_audio=keep,
        detect=detect,
        risk_threshold=risk_threshold or 0,
        fingerprint=purpose != AUTHENTICATION and settings.fraud.replay_recordings > 0,
        model_id=model_id,
        call_audio=Pcm16Audio.of(window.samples, window.quality),
    )


def hearing_of(
    purpose: str, stream: int, begun_at: datetime, window: SpeechWindow, heard: TaskResult
) -> SessionSample:
    spoofing = next((risk for risk in heard.risks if risk.name == SPOOFING), None)
    return SessionSample(
        purpose=purpose,
        stream=stream,
        started_at=begun_at + timedelta(seconds=window.start / RATE_HZ),
        ended_at=begun_at + timedelta(seconds=window.end / RATE_HZ),
        sample=heard.sample,
        fingerprint=heard.fingerprint,
        audio=heard.audio,
        spoofing_score=None if spoofing is None else spoofing.score,
        spoofing_evidence=None if spoofing is None else spoofing.evidence,
    )
