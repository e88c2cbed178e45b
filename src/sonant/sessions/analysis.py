"""The analysis of a call's speech by a worker: the task for it, and its result in the form that is stored."""

from __future__ import annotations

from datetime import datetime, timedelta

from sonant.jobs.entry import CallParts, Pcm16Audio, Role, Task, TaskResult, quality_floors
from sonant.jobs.fraud import SPOOFING
from sonant.sessions.listener import AGAIN, ENROLLMENT, EmbedSpeech
from sonant.sessions.worker_pool import Priority
from sonant.settings import Settings
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD, SessionSample
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.collector import SpeechWindow
from sonant.voice.sample import VoiceSample

PRIORITIES = {
    AUTHENTICATION: Priority.AUTHENTICATION,
    FRAUD: Priority.FRAUD,
    ENROLLMENT: Priority.ENROLLMENT,
    AGAIN: Priority.FRAUD,
}

_PARTS = {AUTHENTICATION: CallParts.STRETCHES, FRAUD: CallParts.VOICES}

#: Speech of calls is read from no bucket, so it needs no rights.
_NO_ROLE = Role(arn="", policies=())


def analysis_task(request: EmbedSpeech, settings: Settings, voice: VoiceSample | None = None) -> Task:
    """Build the worker's task for a request. `voice` is that of the speech if it is known to be one person's.

    Without a risk threshold no spoofing is looked for. Detectors tell risks below the threshold apart no
    further, so that a threshold lowered later may find a risk that is greater than it need be.
    """
    purpose, risk_threshold = request.purpose, request.risk_threshold
    keep = settings.audio.keep if purpose == ENROLLMENT else settings.live.keep_audio and purpose != AGAIN
    return Task(
        task_id=0,
        role=_NO_ROLE,
        audio=(),
        need_s=request.need / RATE_HZ,
        keep_audio=keep,
        detect=purpose != AUTHENTICATION and risk_threshold is not None,
        risk_threshold=risk_threshold or 0,
        fingerprint=purpose != AUTHENTICATION and settings.fraud.replay_recordings > 0,
        model_id=request.model_id,
        call_audio=Pcm16Audio.of(request.window.samples, request.window.quality),
        call_parts=_PARTS.get(purpose),
        call_voice=voice,
        floors=quality_floors(settings),
    )


def analyzed_speech(
    purpose: str, stream: int, started_at: datetime, window: SpeechWindow, result: TaskResult
) -> SessionSample:
    """Combine a worker's result with the place of the speech in stream number `stream`."""
    spoofing = next((risk for risk in result.risks if risk.name == SPOOFING), None)
    return SessionSample(
        purpose=purpose,
        stream=stream,
        started_at=started_at + timedelta(seconds=window.start / RATE_HZ),
        ended_at=started_at + timedelta(seconds=window.end / RATE_HZ),
        sample=result.sample,
        fingerprint=result.fingerprint,
        audio=result.audio,
        spoofing_score=None if spoofing is None else spoofing.score,
        spoofing_evidence=None if spoofing is None else spoofing.evidence,
        parts=result.parts,
    )
