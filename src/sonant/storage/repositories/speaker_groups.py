"""Looks up and enrolls the speakers of many requests in a few statements; `speakers` does it for one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, insert, select, update

from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.database.bulk import insert_rows
from sonant.storage.database.schema import speaker_counts, speaker_keys, speakers, voiceprints
from sonant.storage.repositories import templates
from sonant.storage.repositories.speakers import SPEAKER, Speaker, SpeakerStatus, speaker_of_row
from sonant.storage.repositories.voice_samples import sample_values
from sonant.storage.times import floor_hour, to_us
from sonant.voice.sample import VoiceSample

#: Values of one query: SQLite takes 32,766, and PostgreSQL plans few of them better.
_CHUNK = 1000

_IN_DOMAIN = speakers.c.domain_id == bindparam("of_domain")
_AMONG = speakers.c.customer_id_hash.in_(bindparam("wanted", expanding=True))
_STATUSES = (
    select(speakers.c.customer_id_hash, speakers.c.status, voiceprints.c.model_id)
    .outerjoin(voiceprints, voiceprints.c.speaker_id == speakers.c.speaker_id)
    .where(_IN_DOMAIN, _AMONG)
)
_SPEAKERS = SPEAKER.add_columns(speakers.c.customer_id_hash).where(_IN_DOMAIN, _AMONG)
_SPEAKERS_BY_ID = SPEAKER.where(_IN_DOMAIN, speakers.c.speaker_id.in_(bindparam("wanted", expanding=True)))
_MORE = (
    update(speaker_counts)
    .where(speaker_counts.c.domain_id == bindparam("of_domain"))
    .values(present=speaker_counts.c.present + bindparam("more"))
)


def find_statuses(
    connection: Connection, domain_id: str, customer_id_hashes: Collection[bytes]
) -> dict[bytes, SpeakerStatus]:
    """Return the statuses of those speakers with one of these keyed hashes who have an entry.

    Raises IntegrityFault when one row was changed, whichever.
    """
    return {
        row["customer_id_hash"]: SpeakerStatus(str(row["status"]), row["model_id"])
        for row in _rows(connection, _STATUSES, domain_id, customer_id_hashes)
    }


def find_speakers(
    connection: Connection, domain_id: str, customer_id_hashes: Collection[bytes]
) -> dict[bytes, Speaker]:
    """Return the speakers with one of these keyed hashes. Raises IntegrityFault as `find_statuses`.

    Whether a speaker is of the customer's id that leads to it is to be checked (`Speaker.require`).
    """
    rows = _rows(connection, _SPEAKERS, domain_id, customer_id_hashes)
    return {row["customer_id_hash"]: _speaker(row) for row in rows}


def find_by_ids(connection: Connection, domain_id: str, speaker_ids: Collection[str]) -> dict[str, Speaker]:
    """Return the speakers with one of these generated ids. Raises IntegrityFault as `find_statuses`."""
    rows = _rows(connection, _SPEAKERS_BY_ID, domain_id, speaker_ids)
    return {row["speaker_id"]: _speaker(row) for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSpeaker:
    """A speaker who is enrolled for the first time."""

    speaker_id: str
    customer_id: str
    customer_id_hash: bytes
    """`Vault.lookup` of the customer's id."""
    sample: VoiceSample
    audio: bytes | None
    """As in `speakers.enroll`."""


def enroll_new(
    connection: Connection, vault: Vault, domain_id: str, new: Sequence[NewSpeaker], now: datetime
) -> list[SpeakerSeal]:
    """Add speakers with a voiceprint, and return their data keys. The domain must be locked.

    The rows are those that `speakers.add` and `speakers.enroll` would leave.
    """
    if not new:
        return []
    spaces = templates.open_spaces(connection, vault.templates)
    samples = spaces.protect_all([one.sample for one in new])
    now_us, hour_us = to_us(now), to_us(floor_hour(now))
    seals: list[SpeakerSeal] = []
    people: list[dict[str, Any]] = []
    keys: list[dict[str, Any]] = []
    prints: list[dict[str, Any]] = []
    for one, sample in zip(new, samples, strict=True):
        seal, wrapped = vault.new_speaker(one.speaker_id)
        seals.append(seal)
        people.append(
            {
                "speaker_id": one.speaker_id,
                "domain_id": domain_id,
                "customer_id_hash": one.customer_id_hash,
                "customer_id_sealed": seal.seal("customer id", one.customer_id.encode()),
                "status": "ENROLLED",
                "created_at": now_us,
                "updated_at": now_us,
                "last_accessed_at": hour_us,
            }
        )
        keys.append({"speaker_id": one.speaker_id, "wrapped": wrapped})
        prints.append(
            {
                "speaker_id": one.speaker_id,
                "audio_sealed": None if one.audio is None else seal.seal("audio", one.audio),
                "created_at": now_us,
                **sample_values(seal, spaces, sample, voiceprints),
            }
        )
    insert_rows(connection, speakers, people)
    insert_rows(connection, speaker_keys, keys)
    insert_rows(connection, voiceprints, prints)
    if not connection.execute(_MORE, {"of_domain": domain_id, "more": len(new)}).rowcount:
        connection.execute(insert(speaker_counts).values(domain_id=domain_id, present=len(new)))
    return seals


def _rows(
    connection: Connection, query: Select[Any], domain_id: str, wanted: Iterable[bytes | str]
) -> Iterator[Mapping[Any, Any]]:
    """Yield the rows of a query over many values."""
    values = list(dict.fromkeys(wanted))
    for start in range(0, len(values), _CHUNK):
        given = {"of_domain": domain_id, "wanted": values[start : start + _CHUNK]}
        yield from connection.execute(query, given).mappings()


def _speaker(row: Mapping[Any, Any]) -> Speaker:
    return speaker_of_row({name: row[name] for name in Speaker.__slots__})
