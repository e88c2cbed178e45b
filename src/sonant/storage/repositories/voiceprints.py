"""All voices of a domain at once, for what looks at many: duplicates, calibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from sonant.storage.crypto.vault import Vault
from sonant.storage.database.schema import speaker_keys, speakers, voiceprints

_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """One enrolled speaker's voiceprint. `vector` is little-endian float32."""

    speaker_id: str
    vector: bytes
    net_speech_s: float
    snr_db: float | None


def enrolled(connection: Connection, vault: Vault, domain_id: str, model_id: str) -> Iterator[Voice]:
    """The voiceprints of one voice model in a domain, by speaker id; a page in memory at a time.

    Raises SealBroken.
    """
    query = (
        select(
            voiceprints.c.speaker_id,
            voiceprints.c.vector_sealed,
            voiceprints.c.net_speech_s,
            voiceprints.c.snr_db,
            speaker_keys.c.wrapped,
        )
        .join(speakers, speakers.c.speaker_id == voiceprints.c.speaker_id)
        .join(speaker_keys, speaker_keys.c.speaker_id == voiceprints.c.speaker_id)
        .where(speakers.c.domain_id == domain_id, voiceprints.c.model_id == model_id)
        .order_by(voiceprints.c.speaker_id)
        .limit(_PAGE)
    )
    after = ""
    while rows := connection.execute(query.where(voiceprints.c.speaker_id > after)).all():
        for row in rows:
            seal = vault.speaker(row.speaker_id, row.wrapped)
            vector = seal.open(f"voiceprint {model_id}", row.vector_sealed)
            yield Voice(
                speaker_id=row.speaker_id,
                vector=vector,
                net_speech_s=row.net_speech_s,
                snr_db=row.snr_db,
            )
        after = rows[-1].speaker_id


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
