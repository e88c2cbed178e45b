"""All voices of a domain at once, for what looks at many: duplicates, calibration."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from sonant.storage.crypto.vault import Vault
from sonant.storage.database.schema import speaker_keys, speakers, voiceprints
from sonant.storage.repositories.voice_samples import open_sample, sample_columns
from sonant.voice.sample import VoiceSample

_PAGE = 500


def enrolled(
    connection: Connection, vault: Vault, domain_id: str, model_id: str
) -> Iterator[tuple[str, VoiceSample]]:
    """Open the voiceprints of one voice model in a domain, by speaker id; a page in memory at a time.

    Raises SealBroken.
    """
    query = (
        select(voiceprints.c.speaker_id, speaker_keys.c.wrapped, *sample_columns(voiceprints))
        .join(speakers, speakers.c.speaker_id == voiceprints.c.speaker_id)
        .join(speaker_keys, speaker_keys.c.speaker_id == voiceprints.c.speaker_id)
        .where(speakers.c.domain_id == domain_id, voiceprints.c.model_id == model_id)
        .order_by(voiceprints.c.speaker_id)
        .limit(_PAGE)
    )
    after = ""
    while rows := connection.execute(query.where(voiceprints.c.speaker_id > after)).mappings().all():
        for row in rows:
            seal = vault.speaker(row["speaker_id"], row["wrapped"])
            yield row["speaker_id"], open_sample(seal, row)
        after = rows[-1]["speaker_id"]


def makers(connection: Connection, domain_id: str) -> dict[str, int]:
    """How many of a domain's voiceprints each voice model made."""
    query = (
        select(voiceprints.c.model_id, func.count())
        .join(speakers, speakers.c.speaker_id == voiceprints.c.speaker_id)
        .where(speakers.c.domain_id == domain_id)
        .group_by(voiceprints.c.model_id)
        .order_by(voiceprints.c.model_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}
