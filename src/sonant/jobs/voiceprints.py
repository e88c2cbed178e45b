"""A voiceprint is stored: one way for jobs and for calls."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from sqlalchemy import Connection

from sonant.jobs.entry import Prepared
from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.repositories import calibrations, speakers


def store_voiceprint(
    connection: Connection,
    vault: Vault,
    domain_id: str,
    speaker_id: str,
    seal: SpeakerSeal,
    heard: Prepared,
    now: datetime,
    *,
    before: speakers.Speaker | None,
) -> None:
    """Enroll a speaker with what was heard, in place of any older voiceprint.

    `before` is the speaker as it was, None for a new one: what its voiceprint and the new one have in common
    is noted down for calibration. Raises SealBroken.
    """
    if before is not None:
        _note_repetition(connection, vault, domain_id, before, heard, now)
    voiceprint = speakers.Voiceprint(
        model_id=heard.model_id,
        vector=heard.vector,
        audio=heard.audio,
        net_speech_s=heard.net_speech_s,
        snr_db=heard.snr_db,
        highpass_300hz=heard.highpass_300hz,
    )
    speakers.enroll(connection, seal, speaker_id, voiceprint, now)


def _note_repetition(
    connection: Connection,
    vault: Vault,
    domain_id: str,
    speaker: speakers.Speaker,
    heard: Prepared,
    now: datetime,
) -> None:
    """How alike the new voiceprint and the old one are: what calibration learns of one voice."""
    old = speakers.load_vector(connection, vault, speaker)
    if old is None or old[0] != heard.model_id:
        return
    one, two = (np.frombuffer(vector, "<f4") for vector in (old[1], heard.vector))
    repetition = calibrations.RepeatedEnrollment(
        similarity=float(one.dot(two)), speech_s=heard.net_speech_s, snr_db=heard.snr_db
    )
    calibrations.add_repeated_enrollment(connection, domain_id, heard.model_id, repetition, now)
