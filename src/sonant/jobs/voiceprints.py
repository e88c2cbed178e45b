"""Store a voiceprint: one way for batch jobs and live calls."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from sonant.jobs.entry import TaskResult
from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.repositories import calibrations, speakers
from sonant.voice.sample import VoiceSample


def store_voiceprint(
    connection: Connection,
    vault: Vault,
    domain_id: str,
    speaker_id: str,
    seal: SpeakerSeal,
    result: TaskResult,
    now: datetime,
    *,
    before: speakers.Speaker | None,
) -> None:
    """Enroll a speaker with a task's result, in place of any older voiceprint.

    `before` is the speaker as it was, None for a new one: the similarity of its voiceprint to the new one is
    recorded for calibration. Raises SealBroken.
    """
    if before is not None:
        _record_repetition(connection, vault, domain_id, before, result.sample, now)
    speakers.enroll(connection, seal, speaker_id, result.sample, now, audio=result.audio)


def _record_repetition(
    connection: Connection,
    vault: Vault,
    domain_id: str,
    speaker: speakers.Speaker,
    sample: VoiceSample,
    now: datetime,
) -> None:
    old = speakers.load_sample(connection, vault, speaker)
    if old is None or old.model_id != sample.model_id or sample.quality.snr_db is None:
        return
    repetition = calibrations.RepeatedEnrollment(
        similarity=old.similarity(sample),
        speech_s=sample.quality.net_speech_s,
        snr_db=sample.quality.snr_db,
    )
    calibrations.add_repeated_enrollment(connection, domain_id, sample.model_id, repetition, now)
