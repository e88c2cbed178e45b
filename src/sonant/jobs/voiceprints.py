"""Store a voiceprint: one way for batch jobs and live calls."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from sonant.jobs.entry import TaskResult
from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.repositories import calibrations, speakers, templates
from sonant.voice.sample import VoiceSample


def store_voiceprint(
    connection: Connection,
    vault: Vault,
    domain_id: str,
    speaker: speakers.Speaker,
    result: TaskResult,
    now: datetime,
) -> SpeakerSeal:
    """Enroll a speaker again, in place of any older voiceprint; return the speaker's new data key.

    The similarity of an older voiceprint to the new one is recorded for calibration. Raises SealBroken.
    """
    _record_repetition(connection, vault, domain_id, speaker, result.sample, now)
    seal = speakers.renew_key(connection, vault, speaker)
    speakers.enroll(connection, seal, speaker.speaker_id, result.sample, now, audio=result.audio)
    return seal


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
    spaces = templates.open_spaces(connection, vault.templates)
    repetition = calibrations.RepeatedEnrollment(
        similarity=spaces.protect(old).similarity(spaces.protect(sample)),
        speech_s=sample.quality.net_speech_s,
        snr_db=sample.quality.snr_db,
    )
    calibrations.add_repeated_enrollment(connection, domain_id, sample.model_id, repetition, now)
