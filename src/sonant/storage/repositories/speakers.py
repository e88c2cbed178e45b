"""Speakers and their voiceprints: rows in and out, everything personal sealed under the speaker's own key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.database.engine import first_row
from sonant.storage.database.paging import Position, page_of
from sonant.storage.database.schema import (
    fingerprints,
    sessions,
    shadow_voiceprints,
    speaker_counts,
    speaker_keys,
    speakers,
    voiceprints,
)
from sonant.storage.times import floor_hour, from_us, to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """A speaker as stored, with the wrapped data key; `customer_id` opens the customer's own id."""

    speaker_id: str
    domain_id: str
    status: str
    customer_id_sealed: bytes
    wrapped: bytes
    created_at: datetime
    updated_at: datetime
    last_accessed_at: datetime | None
    """To the hour, and not before `created_at`."""

    def seal(self, vault: Vault) -> SpeakerSeal:
        return vault.speaker(self.speaker_id, self.wrapped)

    def customer_id(self, vault: Vault) -> str:
        return self.seal(vault).open("customer id", self.customer_id_sealed).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Voiceprint:
    """What an enrollment stores. `vector` is little-endian float32, `audio` FLAC of the speech used."""

    model_id: str
    vector: bytes
    audio: bytes | None
    net_speech_s: float
    snr_db: float | None = None
    """None for one that was stored before it was noted down."""
    highpass_300hz: bool | None = None
    """Whether the line cut off below 300 Hz; None as above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptVoiceprint(Voiceprint):
    """A stored voiceprint, opened."""

    created_at: datetime


_SPEAKER = select(
    speakers.c.speaker_id,
    speakers.c.domain_id,
    speakers.c.status,
    speakers.c.customer_id_sealed,
    speaker_keys.c.wrapped,
    speakers.c.created_at,
    speakers.c.updated_at,
    speakers.c.last_accessed_at,
).join(speaker_keys, speaker_keys.c.speaker_id == speakers.c.speaker_id)
_OF_DOMAIN = _SPEAKER.where(speakers.c.domain_id == bindparam("of_domain"))
_BY_ID = _OF_DOMAIN.where(speakers.c.speaker_id == bindparam("wanted"))
_BY_HASH = _OF_DOMAIN.where(speakers.c.customer_id_hash == bindparam("wanted"))
_COUNT = select(speaker_counts.c.present).where(speaker_counts.c.domain_id == bindparam("of_domain"))
_STATUS = (
    select(speakers.c.status, voiceprints.c.model_id)
    .outerjoin(voiceprints, voiceprints.c.speaker_id == speakers.c.speaker_id)
    .where(speakers.c.domain_id == bindparam("of_domain"), speakers.c.customer_id_hash == bindparam("wanted"))
)


_ONE_MORE = (
    update(speaker_counts)
    .where(speaker_counts.c.domain_id == bindparam("of_domain"))
    .values(present=speaker_counts.c.present + 1)
)
_ONE_LESS = (
    update(speaker_counts)
    .where(
        speaker_counts.c.domain_id
        == select(speakers.c.domain_id)
        .where(speakers.c.speaker_id == bindparam("of_speaker"))
        .scalar_subquery()
    )
    .values(present=speaker_counts.c.present - 1)
)


def find(connection: Connection, vault: Vault, domain_id: str, speaker_id: str) -> Speaker | None:
    """By generated id (`id#…`) or by the customer's id; no customer id can begin with `id#`."""
    if speaker_id.startswith("id#"):
        row = first_row(connection, _BY_ID, {"of_domain": domain_id, "wanted": speaker_id})
    else:
        wanted = {"of_domain": domain_id, "wanted": vault.lookup(speaker_id)}
        row = first_row(connection, _BY_HASH, wanted)
    return None if row is None else _speaker(row)


class Standing(NamedTuple):
    """Where a speaker stands in a domain."""

    status: str
    model_id: str | None
    """Of the voiceprint, if there is one."""


def standing(connection: Connection, domain_id: str, customer_id_hash: bytes) -> Standing | None:
    """Of the speaker with this keyed hash (`Vault.lookup`), None if there is none."""
    wanted = {"of_domain": domain_id, "wanted": customer_id_hash}
    row = first_row(connection, _STATUS, wanted)
    return None if row is None else Standing(str(row["status"]), row["model_id"])


def count(connection: Connection, domain_id: str) -> int:
    """All speakers, whatever their status: each holds a place in the quota."""
    row = first_row(connection, _COUNT, {"of_domain": domain_id})
    return 0 if row is None else int(row["present"])


def page(connection: Connection, domain_id: str, after: Position | None, limit: int) -> list[Speaker]:
    """Oldest first, ties by id; at most `limit` after the position `after`."""
    query = _SPEAKER.where(speakers.c.domain_id == domain_id)
    query = page_of(query, speakers.c.created_at, speakers.c.speaker_id, after, limit)
    return [_speaker(dict(row)) for row in connection.execute(query).mappings()]


def add(
    connection: Connection,
    vault: Vault,
    *,
    domain_id: str,
    speaker_id: str,
    customer_id: str,
    status: str,
    now: datetime,
) -> SpeakerSeal:
    """A new speaker with a data key of its own. The domain is locked (`domains.lock`)."""
    seal, wrapped = vault.new_speaker(speaker_id)
    connection.execute(
        insert(speakers).values(
            speaker_id=speaker_id,
            domain_id=domain_id,
            customer_id_hash=vault.lookup(customer_id),
            customer_id_sealed=seal.seal("customer id", customer_id.encode()),
            status=status,
            created_at=to_us(now),
            updated_at=to_us(now),
        )
    )
    connection.execute(insert(speaker_keys).values(speaker_id=speaker_id, wrapped=wrapped))
    if not connection.execute(_ONE_MORE, {"of_domain": domain_id}).rowcount:
        connection.execute(insert(speaker_counts).values(domain_id=domain_id, present=1))
    return seal


def enroll(
    connection: Connection, seal: SpeakerSeal, speaker_id: str, voiceprint: Voiceprint, now: datetime
) -> None:
    """Store a voiceprint in place of any older one; the speaker becomes ENROLLED."""
    for table in (shadow_voiceprints, voiceprints):
        connection.execute(delete(table).where(table.c.speaker_id == speaker_id))
    connection.execute(
        insert(voiceprints).values(
            speaker_id=speaker_id,
            model_id=voiceprint.model_id,
            vector_sealed=seal.seal(f"voiceprint {voiceprint.model_id}", voiceprint.vector),
            audio_sealed=None if voiceprint.audio is None else seal.seal("audio", voiceprint.audio),
            net_speech_s=voiceprint.net_speech_s,
            created_at=to_us(now),
            snr_db=voiceprint.snr_db,
            low_cut=voiceprint.highpass_300hz,
        )
    )
    connection.execute(
        update(speakers)
        .where(speakers.c.speaker_id == speaker_id)
        .values(status="ENROLLED", updated_at=to_us(now), last_accessed_at=to_us(floor_hour(now)))
    )


def load_vector(connection: Connection, vault: Vault, speaker: Speaker) -> tuple[str, bytes] | None:
    """(model id, vector bytes) of an enrolled speaker. Raises SealBroken."""
    query = select(voiceprints.c.model_id, voiceprints.c.vector_sealed).where(
        voiceprints.c.speaker_id == speaker.speaker_id
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    return row.model_id, speaker.seal(vault).open(f"voiceprint {row.model_id}", row.vector_sealed)


def load_reference(connection: Connection, vault: Vault, speaker: Speaker) -> Voiceprint | None:
    """An enrolled speaker's voiceprint without its audio. Raises SealBroken."""
    query = select(
        voiceprints.c.model_id,
        voiceprints.c.vector_sealed,
        voiceprints.c.net_speech_s,
        voiceprints.c.snr_db,
        voiceprints.c.low_cut,
    )
    row = connection.execute(query.where(voiceprints.c.speaker_id == speaker.speaker_id)).first()
    if row is None:
        return None
    return Voiceprint(
        model_id=row.model_id,
        vector=speaker.seal(vault).open(f"voiceprint {row.model_id}", row.vector_sealed),
        audio=None,
        net_speech_s=row.net_speech_s,
        snr_db=row.snr_db,
        highpass_300hz=row.low_cut,
    )


def load_voiceprint(connection: Connection, vault: Vault, speaker: Speaker) -> KeptVoiceprint | None:
    """All that is kept of a speaker's voice. Raises SealBroken."""
    row = connection.execute(
        select(voiceprints).where(voiceprints.c.speaker_id == speaker.speaker_id)
    ).first()
    if row is None:
        return None
    seal = speaker.seal(vault)
    return KeptVoiceprint(
        model_id=row.model_id,
        vector=seal.open(f"voiceprint {row.model_id}", row.vector_sealed),
        audio=None if row.audio_sealed is None else seal.open("audio", row.audio_sealed),
        net_speech_s=row.net_speech_s,
        snr_db=row.snr_db,
        highpass_300hz=row.low_cut,
        created_at=from_us(row.created_at),
    )


def accessed(connection: Connection, speaker_id: str, now: datetime) -> None:
    """The speaker was authenticated."""
    connection.execute(
        update(speakers)
        .where(speakers.c.speaker_id == speaker_id)
        .values(last_accessed_at=to_us(floor_hour(now)))
    )


def forget_voice(connection: Connection, vault: Vault, speaker: Speaker, status: str, now: datetime) -> None:
    """Destroy the speaker's key and all that hung on it; keep the entry, under a new key, with `status`.

    Raises SealBroken, before anything is changed, when what is stored of the speaker is damaged.
    """
    customer_id = speaker.customer_id(vault)
    for table in (fingerprints, shadow_voiceprints, voiceprints):
        connection.execute(delete(table).where(table.c.speaker_id == speaker.speaker_id))
    seal, wrapped = vault.new_speaker(speaker.speaker_id)
    connection.execute(
        update(speaker_keys).where(speaker_keys.c.speaker_id == speaker.speaker_id).values(wrapped=wrapped)
    )
    connection.execute(
        update(speakers)
        .where(speakers.c.speaker_id == speaker.speaker_id)
        .values(
            status=status,
            customer_id_sealed=seal.seal("customer id", customer_id.encode()),
            updated_at=to_us(now),
        )
    )


def unused_since(
    connection: Connection, domain_id: str, before: datetime, after: str, limit: int
) -> list[Speaker]:
    """Enrolled speakers last enrolled or authenticated before a moment: by id, the first behind `after`."""
    query = _SPEAKER.where(
        speakers.c.domain_id == domain_id,
        speakers.c.status == "ENROLLED",
        speakers.c.last_accessed_at < to_us(before),
        speakers.c.speaker_id > after,
    )
    query = query.order_by(speakers.c.speaker_id).limit(limit)
    return [_speaker(dict(row)) for row in connection.execute(query).mappings()]


def remove_pending(connection: Connection, before: datetime, limit: int) -> int:
    """Forget speakers that only ever were on a session, when no session has them any more and they have
    not changed since before a moment; how many."""
    named = select(sessions.c.speaker_id).where(sessions.c.speaker_id.is_not(None))
    old = select(speakers.c.speaker_id).where(
        speakers.c.status == "PENDING",
        speakers.c.updated_at < to_us(before),
        speakers.c.speaker_id.not_in(named),
    )
    ids = list(connection.execute(old.limit(limit)).scalars())
    for speaker_id in ids:
        remove(connection, speaker_id)
    return len(ids)


def remove(connection: Connection, speaker_id: str) -> None:
    """Forget a speaker: the data key, the voiceprint, the audio and the entry go together."""
    connection.execute(_ONE_LESS, {"of_speaker": speaker_id})
    for table in (fingerprints, shadow_voiceprints, voiceprints, speaker_keys, speakers):
        connection.execute(delete(table).where(table.c.speaker_id == speaker_id))


def _speaker(values: dict[str, Any]) -> Speaker:
    accessed = values["last_accessed_at"]
    if accessed is not None:  # kept as the beginning of its hour, when the speaker may not have been there
        values["last_accessed_at"] = from_us(max(accessed, values["created_at"]))
    for name in ("created_at", "updated_at"):
        values[name] = from_us(values[name])
    return Speaker(**values)
