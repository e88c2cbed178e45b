"""Reads and writes speakers and their voiceprints. Personal data is sealed under the speaker's own key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from sonant.errors import IntegrityFault, SealBroken
from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.database.bound_connection import unverified, without_changed_rows
from sonant.storage.database.paging import Position, page_of
from sonant.storage.database.rows import first_row
from sonant.storage.database.schema import (
    fingerprints,
    score_misses,
    sessions,
    shadow_voiceprints,
    speaker_counts,
    speaker_keys,
    speakers,
    voiceprints,
)
from sonant.storage.repositories import consents, erasure, templates
from sonant.storage.repositories.erasure import ForgottenSession
from sonant.storage.repositories.voice_samples import open_sample, sample_columns, sample_values
from sonant.storage.times import floor_hour, from_us, to_us
from sonant.voice.sample import VoiceSample

#: What sealed fingerprints are bound to beside the speaker.
FINGERPRINT = "fingerprint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """A speaker as stored, with the wrapped data key. `customer_id` opens the customer's own id."""

    speaker_id: str
    domain_id: str
    status: str
    customer_id_sealed: bytes
    wrapped: bytes
    created_at: datetime
    updated_at: datetime
    last_accessed_at: datetime | None
    """Precise to the hour, and not before `created_at`."""

    def seal(self, vault: Vault) -> SpeakerSeal:
        """Open the speaker's data key. Raises SealBroken."""
        return vault.speaker(self.speaker_id, self.wrapped)

    def present_seal(self, vault: Vault) -> SpeakerSeal:
        """Open the data key, and check that it is the one that seals this row: no earlier one put back.

        Each enrollment renews the key. Raises IntegrityFault.
        """
        try:
            seal = self.seal(vault)
            seal.open("customer id", self.customer_id_sealed)
        except SealBroken:
            finding = "is not of the same time as the speaker's row"
            raise IntegrityFault("speaker_keys", self.speaker_id, finding) from None
        return seal

    def customer_id(self, vault: Vault) -> str:
        """Open the customer's own id of the speaker. Raises SealBroken."""
        return self.seal(vault).open("customer id", self.customer_id_sealed).decode()

    def require(self, vault: Vault, customer_id: str) -> None:
        """Require that this is the speaker of a customer's id. Raises IntegrityFault; SealBroken."""
        if self.customer_id(vault) != customer_id:
            raise IntegrityFault("speakers", self.speaker_id, "is not of the customer's id that leads to it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Voiceprint:
    """An enrolled speaker's voice as it is stored, opened."""

    sample: VoiceSample
    audio: bytes | None
    """FLAC of the speech used; None where none was stored."""
    created_at: datetime


SPEAKER = select(
    speakers.c.speaker_id,
    speakers.c.domain_id,
    speakers.c.status,
    speakers.c.customer_id_sealed,
    speaker_keys.c.wrapped,
    speakers.c.created_at,
    speakers.c.updated_at,
    speakers.c.last_accessed_at,
).join(speaker_keys, speaker_keys.c.speaker_id == speakers.c.speaker_id)
_OF_DOMAIN = SPEAKER.where(speakers.c.domain_id == bindparam("of_domain"))
_BY_ID = _OF_DOMAIN.where(speakers.c.speaker_id == bindparam("wanted"))
_BY_HASH = _OF_DOMAIN.where(speakers.c.customer_id_hash == bindparam("wanted"))
_SAMPLE = select(*sample_columns(voiceprints)).where(voiceprints.c.speaker_id == bindparam("of_speaker"))
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
    """Find a speaker by generated id (`id#…`) or by the customer's id, which cannot begin with `id#`.

    Raises IntegrityFault when the row that the customer's id leads to holds another one; SealBroken.
    """
    if speaker_id.startswith("id#"):
        row = first_row(connection, _BY_ID, {"of_domain": domain_id, "wanted": speaker_id})
        return None if row is None else speaker_of_row(row)
    wanted = {"of_domain": domain_id, "wanted": vault.lookup(speaker_id)}
    row = first_row(connection, _BY_HASH, wanted)
    if row is None:
        return None
    found = speaker_of_row(row)
    found.require(vault, speaker_id)
    return found


class SpeakerStatus(NamedTuple):
    """The status of a speaker, and the voice model of the voiceprint."""

    status: str
    model_id: str | None
    """None without a voiceprint."""


def find_status(connection: Connection, domain_id: str, customer_id_hash: bytes) -> SpeakerStatus | None:
    """Return the status of the speaker with this keyed hash (`Vault.lookup`), or None.

    OPTED_OUT also for one without an entry whose opt-out a restore has repeated.
    """
    wanted = {"of_domain": domain_id, "wanted": customer_id_hash}
    row = first_row(connection, _STATUS, wanted)
    if row is not None:
        return SpeakerStatus(str(row["status"]), row["model_id"])
    erased = erasure.find_erased(connection, domain_id, customer_id_hash)
    return SpeakerStatus("OPTED_OUT", None) if erased is not None and erased.status == "OPTED_OUT" else None


_STATUS_BY_ID = select(speakers.c.status).where(
    speakers.c.domain_id == bindparam("of_domain"), speakers.c.speaker_id == bindparam("wanted")
)


def status_of(connection: Connection, domain_id: str, speaker_id: str) -> str | None:
    """Return the status of the speaker of a generated id; None when there is none (any more)."""
    row = first_row(connection, _STATUS_BY_ID, {"of_domain": domain_id, "wanted": speaker_id})
    return None if row is None else str(row["status"])


def count(connection: Connection, domain_id: str) -> int:
    """Return the number of speakers, whatever their status: all count towards the quota."""
    row = first_row(connection, _COUNT, {"of_domain": domain_id})
    return 0 if row is None else int(row["present"])


def page(connection: Connection, domain_id: str, after: Position | None, limit: int) -> list[Speaker]:
    """Return a page: oldest first, ties by id; at most `limit` after the position `after`."""
    query = SPEAKER.where(speakers.c.domain_id == domain_id)
    query = page_of(query, speakers.c.created_at, speakers.c.speaker_id, after, limit)
    return [speaker_of_row(dict(row)) for row in connection.execute(query).mappings()]


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
    """Add a speaker with its own data key. The domain must be locked (`domains.lock`)."""
    if status == "OPTED_OUT":
        erasure.forget_erased(connection, domain_id, vault.lookup(customer_id))
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
    connection: Connection,
    seal: SpeakerSeal,
    speaker_id: str,
    sample: VoiceSample,
    now: datetime,
    *,
    audio: bytes | None = None,
) -> None:
    """Store a voiceprint in place of an older one, and set the speaker's status to ENROLLED.

    `sample` is in the voice model's space, or in one of the domain's.

    `audio` is FLAC of the speech that the sample was made from, or None where none is to be stored.
    """
    spaces = templates.open_spaces(connection, seal.templates)
    for table in (shadow_voiceprints, voiceprints):
        connection.execute(delete(table).where(table.c.speaker_id == speaker_id))
    connection.execute(
        insert(voiceprints).values(
            speaker_id=speaker_id,
            audio_sealed=None if audio is None else seal.seal("audio", audio),
            created_at=to_us(now),
            **sample_values(seal, spaces, sample, voiceprints),
        )
    )
    connection.execute(
        update(speakers)
        .where(speakers.c.speaker_id == speaker_id)
        .values(status="ENROLLED", updated_at=to_us(now), last_accessed_at=to_us(floor_hour(now)))
    )


def renew_key(connection: Connection, vault: Vault, speaker: Speaker) -> SpeakerSeal:
    """Give a speaker who is enrolled again a new data key, so that nothing of the old voiceprint opens.

    Fingerprints of earlier recordings stay, sealed anew. `enroll` must follow: the voiceprint and its audio
    are not sealed anew. Raises IntegrityFault or SealBroken, and changes nothing, for damaged data.
    """
    old = speaker.present_seal(vault)
    customer_id = old.open("customer id", speaker.customer_id_sealed)
    query = select(fingerprints.c.number, fingerprints.c.sealed)
    stored = connection.execute(query.where(fingerprints.c.speaker_id == speaker.speaker_id)).all()
    opened = [(row.number, old.open(FINGERPRINT, row.sealed)) for row in stored]
    seal = _new_key(connection, vault, speaker.speaker_id)
    connection.execute(
        update(speakers)
        .where(speakers.c.speaker_id == speaker.speaker_id)
        .values(customer_id_sealed=seal.seal("customer id", customer_id))
    )
    for number, data in opened:
        connection.execute(
            update(fingerprints)
            .where(fingerprints.c.number == number)
            .values(sealed=seal.seal(FINGERPRINT, data))
        )
    return seal


def _new_key(connection: Connection, vault: Vault, speaker_id: str) -> SpeakerSeal:
    """Destroy a speaker's data key and store a new one."""
    seal, wrapped = vault.new_speaker(speaker_id)
    connection.execute(
        update(speaker_keys).where(speaker_keys.c.speaker_id == speaker_id).values(wrapped=wrapped)
    )
    return seal


def load_sample(connection: Connection, vault: Vault, speaker: Speaker) -> VoiceSample | None:
    """Open an enrolled speaker's voice sample, in the domain's template space. Raises IntegrityFault."""
    row = first_row(connection, _SAMPLE, {"of_speaker": speaker.speaker_id})
    return None if row is None else _open_sample(connection, vault, speaker, row)


def load_voiceprint(connection: Connection, vault: Vault, speaker: Speaker) -> Voiceprint | None:
    """Open a speaker's voiceprint with its audio. Raises IntegrityFault; SealBroken for damaged audio."""
    query = select(voiceprints).where(voiceprints.c.speaker_id == speaker.speaker_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    seal, audio = speaker.present_seal(vault), row["audio_sealed"]
    return Voiceprint(
        sample=_open_sample(connection, vault, speaker, row),
        audio=None if audio is None else seal.open("audio", audio),
        created_at=from_us(row["created_at"]),
    )


def _open_sample(
    connection: Connection, vault: Vault, speaker: Speaker, row: Mapping[Any, Any]
) -> VoiceSample:
    spaces = templates.open_spaces(connection, vault.templates)
    try:
        return open_sample(speaker.present_seal(vault), spaces, row)
    except SealBroken:  # its MAC fits: it was put back from before the latest enrollment or renewal
        finding = "is not of the same time as the keys of the speaker and of the domain's templates"
        raise IntegrityFault("voiceprints", speaker.speaker_id, finding) from None


def set_last_accessed(connection: Connection, speaker_id: str, now: datetime) -> None:
    """Record that the speaker was authenticated."""
    connection.execute(
        update(speakers)
        .where(speakers.c.speaker_id == speaker_id)
        .values(last_accessed_at=to_us(floor_hour(now)))
    )


def delete_voice(
    connection: Connection, vault: Vault, speaker: Speaker, status: str, now: datetime
) -> list[ForgottenSession]:
    """Destroy the speaker's key and voice data, and keep the entry under a new key with `status`.

    Voice data of the speaker's sessions goes with it; returns these sessions. Raises SealBroken, and changes
    nothing, when the stored data of the speaker is damaged.
    """
    customer_id = speaker.customer_id(vault)
    delete_voice_rows(connection, speaker.domain_id, speaker.speaker_id)
    forgotten = erasure.forget_sessions(connection, vault, speaker.domain_id, [speaker.speaker_id])
    seal = _new_key(connection, vault, speaker.speaker_id)
    connection.execute(
        update(speakers)
        .where(speakers.c.speaker_id == speaker.speaker_id)
        .values(
            status=status,
            customer_id_sealed=seal.seal("customer id", customer_id.encode()),
            updated_at=to_us(now),
        )
    )
    if status == "OPTED_OUT":
        _withdraw_consents(connection, speaker.domain_id, speaker.speaker_id, now)
    return forgotten


def opt_out(
    connection: Connection, vault: Vault | None, domain_id: str, speaker_id: str, now: datetime
) -> bool:
    """Opt a speaker out as `delete_voice` does; without a vault, or with damaged data, under the old key.

    Returns whether the key was renewed.
    """
    row = first_row(connection, _BY_ID, {"of_domain": domain_id, "wanted": speaker_id})
    if vault is not None and row is not None:
        try:
            delete_voice(connection, vault, speaker_of_row(row), "OPTED_OUT", now)
        except SealBroken:
            pass
        else:
            return True
    delete_voice_rows(connection, domain_id, speaker_id)
    erasure.forget_sessions(connection, vault, domain_id, [speaker_id])
    changed = update(speakers).where(speakers.c.speaker_id == speaker_id)
    connection.execute(changed.values(status="OPTED_OUT", updated_at=to_us(now)))
    _withdraw_consents(connection, domain_id, speaker_id, now)
    return False


def _withdraw_consents(connection: Connection, domain_id: str, speaker_id: str, now: datetime) -> None:
    customer_id_hash = hash_of(connection, speaker_id)
    if customer_id_hash is not None:
        consents.withdraw(connection, domain_id, customer_id_hash, now)


def delete_voice_rows(connection: Connection, domain_id: str, speaker_id: str) -> None:
    """Delete what is stored of a voice under the speaker's own key. The key and the entry stay."""
    for table in (score_misses, shadow_voiceprints, voiceprints):
        connection.execute(delete(table).where(table.c.speaker_id == speaker_id))
    if connection.execute(delete(fingerprints).where(fingerprints.c.speaker_id == speaker_id)).rowcount:
        erasure.increment_version(connection, domain_id)


def list_unused_since(
    connection: Connection, domain_id: str, before: datetime, after: str, limit: int
) -> tuple[list[str], list[Speaker]]:
    """Return enrolled speakers last enrolled or authenticated before a time, by id, from behind `after`.

    The ids of all, as their rows say; and the speakers, without those whose rows were changed.
    """
    due = (
        speakers.c.domain_id == domain_id,
        speakers.c.status == "ENROLLED",
        speakers.c.last_accessed_at < to_us(before),
        speakers.c.speaker_id > after,
    )
    found = select(speakers.c.speaker_id).where(*due).order_by(speakers.c.speaker_id).limit(limit)
    ids = list(connection.execute(unverified(found, "counts those that were changed")).scalars())
    if not ids:
        return [], []
    query = without_changed_rows(SPEAKER.where(*due, speakers.c.speaker_id <= ids[-1]))
    rows = connection.execute(query.order_by(speakers.c.speaker_id)).mappings()
    return ids, [speaker_of_row(dict(row)) for row in rows]


def delete_pending(connection: Connection, before: datetime, limit: int) -> int:
    """Delete speakers that were only ever added by a session, and return how many.

    Those that are in no session any more and have not changed since `before`.
    """
    named = select(sessions.c.speaker_id).where(sessions.c.speaker_id.is_not(None))
    old = select(speakers.c.speaker_id).where(
        speakers.c.status == "PENDING",
        speakers.c.updated_at < to_us(before),
        speakers.c.speaker_id.not_in(named),
    )
    ids = list(connection.execute(without_changed_rows(old.limit(limit))).scalars())
    for speaker_id in ids:
        _remove(connection, speaker_id)
    return len(ids)


def delete_speaker(
    connection: Connection, vault: Vault | None, domain_id: str, speaker_id: str, now: datetime
) -> list[ForgottenSession]:
    """Delete a speaker: data key, voiceprint, audio and entry together, and voice data of its sessions.

    Returns these sessions. Remembers the deletion, so that work that began before does not undo it. Without a
    vault the sessions keep their keys (see `erasure.forget_sessions`).
    """
    customer_id_hash = hash_of(connection, speaker_id)
    if customer_id_hash is not None:
        erasure.remember(connection, domain_id, customer_id_hash, "DELETED", now)
    delete_voice_rows(connection, domain_id, speaker_id)
    _remove(connection, speaker_id)
    return erasure.forget_sessions(connection, vault, domain_id, [speaker_id])


def end_repeated_opt_out(connection: Connection, vault: Vault, domain_id: str, customer_id: str) -> bool:
    """Forget an opt-out without an entry, which a restore has repeated. Returns whether there was one."""
    customer_id_hash = vault.lookup(customer_id)
    erased = erasure.find_erased(connection, domain_id, customer_id_hash)
    if erased is None or erased.status != "OPTED_OUT":
        return False
    erasure.forget_erased(connection, domain_id, customer_id_hash)
    return True


def hash_of(connection: Connection, speaker_id: str) -> bytes | None:
    """Return the stored keyed hash of a speaker's customer id (`Vault.lookup`); None without an entry."""
    query = select(speakers.c.customer_id_hash).where(speakers.c.speaker_id == speaker_id)
    return connection.execute(query).scalar_one_or_none()


def _remove(connection: Connection, speaker_id: str) -> None:
    """Delete every row of a speaker."""
    connection.execute(_ONE_LESS, {"of_speaker": speaker_id})
    for table in (fingerprints, score_misses, shadow_voiceprints, voiceprints, speaker_keys, speakers):
        connection.execute(delete(table).where(table.c.speaker_id == speaker_id))


def speaker_of_row(values: dict[str, Any]) -> Speaker:
    """Build a speaker from the columns of `SPEAKER`."""
    last_accessed_us = values["last_accessed_at"]
    if last_accessed_us is not None:  # the start of the hour, which may be before the speaker was created
        values["last_accessed_at"] = from_us(max(last_accessed_us, values["created_at"]))
    for name in ("created_at", "updated_at"):
        values[name] = from_us(values[name])
    return Speaker(**values)
