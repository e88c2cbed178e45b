"""Fingerprints of the speech that voiceprints were made from: rows in and out, sealed under the speaker's own
key and deleted with it.

They are numbered in the order in which they were stored, over all domains: whoever keeps an index in memory
asks for those after the last one it knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.database.schema import fingerprints, speaker_keys
from sonant.storage.times import from_us, to_us

#: Kept of one speaker, the newest: enrolling the same person again and again must not fill the disk.
MOST_A_SPEAKER = 16
_PLACE = "fingerprint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A fingerprint, opened; `data` is what `add` was given."""

    number: int
    speaker_id: str
    data: bytes
    created_at: datetime


def add(
    connection: Connection, seal: SpeakerSeal, domain_id: str, speaker_id: str, data: bytes, now: datetime
) -> int:
    """Store a fingerprint beside the speaker's older ones; its number."""
    values = {
        "domain_id": domain_id,
        "speaker_id": speaker_id,
        "sealed": seal.seal(_PLACE, data),
        "created_at": to_us(now),
    }
    inserted = connection.execute(insert(fingerprints).values(values)).inserted_primary_key
    assert inserted is not None
    number = int(inserted[0])
    numbers = select(fingerprints.c.number).where(fingerprints.c.speaker_id == speaker_id)
    surplus = numbers.order_by(fingerprints.c.number.desc()).offset(MOST_A_SPEAKER)
    for old in connection.execute(surplus).scalars().all():
        connection.execute(delete(fingerprints).where(fingerprints.c.number == old))
    return number


def after(connection: Connection, vault: Vault, domain_id: str, number: int, most: int) -> Iterator[Stored]:
    """The newest `most` of a domain with higher numbers, in order. Raises SealBroken."""
    newest = (
        select(fingerprints.c.number)
        .where(fingerprints.c.domain_id == domain_id, fingerprints.c.number > number)
        .order_by(fingerprints.c.number.desc())
        .limit(1)
        .offset(most)
    )
    floor = max(number, connection.execute(newest).scalar() or 0)
    query = _STORED.where(fingerprints.c.domain_id == domain_id, fingerprints.c.number > floor)
    rows = connection.execute(query.order_by(fingerprints.c.number))
    return (_open(vault, row) for row in rows)


def find(connection: Connection, vault: Vault, domain_id: str, number: int) -> Stored | None:
    """One of them, None when it went with its speaker. Raises SealBroken."""
    query = _STORED.where(fingerprints.c.number == number, fingerprints.c.domain_id == domain_id)
    row = connection.execute(query).first()
    return None if row is None else _open(vault, row)


_STORED = select(
    fingerprints.c.number,
    fingerprints.c.speaker_id,
    fingerprints.c.sealed,
    fingerprints.c.created_at,
    speaker_keys.c.wrapped,
).join(speaker_keys, speaker_keys.c.speaker_id == fingerprints.c.speaker_id)


def _open(vault: Vault, row: Any) -> Stored:
    data = vault.speaker(row.speaker_id, row.wrapped).open(_PLACE, row.sealed)
    return Stored(number=row.number, speaker_id=row.speaker_id, data=data, created_at=from_us(row.created_at))
