"""All voiceprints of a domain, and the fingerprints of the speech that they were made from.

Fingerprints are sealed under the speaker's own key and deleted with it. Their numbers grow in the order in
which they are stored, over all domains: an index in memory reads those after the last that it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.database.bulk import insert_rows
from sonant.storage.database.schema import fingerprints, speaker_keys, speakers, voiceprints
from sonant.storage.repositories import templates
from sonant.storage.repositories.speakers import FINGERPRINT
from sonant.storage.repositories.voice_samples import open_sample, sample_columns
from sonant.storage.times import from_us, to_us
from sonant.voice.sample import VoiceSample

_PAGE = 500


def enrolled(
    connection: Connection, vault: Vault, domain_id: str, model_id: str
) -> Iterator[tuple[str, VoiceSample]]:
    """Yield the voiceprints of one voice model in a domain by speaker id, with one page in memory.

    All are in the domain's present template space.

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
    spaces, after = templates.open_spaces(connection, vault.templates), ""
    while rows := connection.execute(query.where(voiceprints.c.speaker_id > after)).mappings().all():
        for row in rows:
            seal = vault.speaker(row["speaker_id"], row["wrapped"])
            yield row["speaker_id"], open_sample(seal, spaces, row)
        after = rows[-1]["speaker_id"]


def count_by_model(connection: Connection, domain_id: str) -> dict[str, int]:
    """Return how many voiceprints of a domain each voice model made."""
    query = (
        select(voiceprints.c.model_id, func.count())
        .join(speakers, speakers.c.speaker_id == voiceprints.c.speaker_id)
        .where(speakers.c.domain_id == domain_id)
        .group_by(voiceprints.c.model_id)
        .order_by(voiceprints.c.model_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


# --- fingerprints

#: The newest fingerprints that are stored of one speaker: repeated enrollments must not fill the disk.
MAX_FINGERPRINTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """An opened fingerprint; `data` is that of `add_fingerprint`."""

    number: int
    speaker_id: str
    data: bytes
    created_at: datetime


def add_fingerprint(
    connection: Connection, seal: SpeakerSeal, domain_id: str, speaker_id: str, data: bytes, now: datetime
) -> int:
    """Store a fingerprint beside the speaker's older ones, and return its number."""
    values = {
        "domain_id": domain_id,
        "speaker_id": speaker_id,
        "sealed": seal.seal(FINGERPRINT, data),
        "created_at": to_us(now),
    }
    inserted = connection.execute(insert(fingerprints).values(values)).inserted_primary_key
    assert inserted is not None
    number = int(inserted[0])
    numbers = select(fingerprints.c.number).where(fingerprints.c.speaker_id == speaker_id)
    surplus = numbers.order_by(fingerprints.c.number.desc()).offset(MAX_FINGERPRINTS)
    for old in connection.execute(surplus).scalars().all():
        connection.execute(delete(fingerprints).where(fingerprints.c.number == old))
    return number


def add_first_fingerprints(
    connection: Connection, domain_id: str, new: Sequence[tuple[SpeakerSeal, str, bytes]], now: datetime
) -> None:
    """Store fingerprints of speakers who have none yet, in this order: data key, speaker and data of each."""
    rows = [
        {
            "domain_id": domain_id,
            "speaker_id": speaker_id,
            "sealed": seal.seal(FINGERPRINT, data),
            "created_at": to_us(now),
        }
        for seal, speaker_id, data in new
    ]
    insert_rows(connection, fingerprints, rows)


def fingerprints_after(
    connection: Connection, vault: Vault, domain_id: str, number: int, limit: int, most: int | None = None
) -> Iterator[Fingerprint]:
    """Yield the newest `limit` fingerprints of a domain after a number, in order; no more than `most`, if
    given. Raises SealBroken."""
    newest = (
        select(fingerprints.c.number)
        .where(fingerprints.c.domain_id == domain_id, fingerprints.c.number > number)
        .order_by(fingerprints.c.number.desc())
        .limit(1)
        .offset(limit)
    )
    floor = max(number, connection.execute(newest).scalar() or 0)
    query = _FINGERPRINTS.where(fingerprints.c.domain_id == domain_id, fingerprints.c.number > floor)
    rows = connection.execute(query.order_by(fingerprints.c.number).limit(most))
    return (_open(vault, row) for row in rows)


def fingerprint_numbers(connection: Connection, domain_id: str) -> list[int]:
    """Return the numbers of all fingerprints of a domain, in order. Opens nothing."""
    query = select(fingerprints.c.number).where(fingerprints.c.domain_id == domain_id)
    return list(connection.execute(query.order_by(fingerprints.c.number)).scalars())


def find_fingerprint(connection: Connection, vault: Vault, domain_id: str, number: int) -> Fingerprint | None:
    """Return a fingerprint, or None when it was deleted with its speaker. Raises SealBroken."""
    query = _FINGERPRINTS.where(fingerprints.c.number == number, fingerprints.c.domain_id == domain_id)
    row = connection.execute(query).first()
    return None if row is None else _open(vault, row)


_FINGERPRINTS = select(
    fingerprints.c.number,
    fingerprints.c.speaker_id,
    fingerprints.c.sealed,
    fingerprints.c.created_at,
    speaker_keys.c.wrapped,
).join(speaker_keys, speaker_keys.c.speaker_id == fingerprints.c.speaker_id)


def _open(vault: Vault, row: Any) -> Fingerprint:
    data = vault.speaker(row.speaker_id, row.wrapped).open(FINGERPRINT, row.sealed)
    return Fingerprint(
        number=row.number, speaker_id=row.speaker_id, data=data, created_at=from_us(row.created_at)
    )
