"""Delete what is stored of a speaker's voice beside the speaker's own rows, and remember that it was.

Copies in memory are checked by counters that every deletion increments in its own transaction:
`Domain.erasures` by indexes of fingerprints and by dry runs, `Session.erasures` by streams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, bindparam, delete, select, update

from sonant.storage.crypto.vault import Vault
from sonant.storage.database.rows import first_row, put
from sonant.storage.database.schema import (
    domains,
    erased_speakers,
    session_hearings,
    session_results,
    sessions,
)
from sonant.storage.repositories import consents
from sonant.storage.times import from_us, to_us

ErasedStatus = Literal["DELETED", "OPTED_OUT"]

_AUTHENTICATION = "AUTHENTICATION"


# --- copies in memory

_ERASURES = select(domains.c.erasures).where(domains.c.domain_id == bindparam("of_domain"))
_ONE_MORE = (
    update(domains)
    .where(domains.c.domain_id == bindparam("of_domain"))
    .values(erasures=domains.c.erasures + 1)
)


def version(connection: Connection, domain_id: str) -> int:
    """Return how often voice data of a domain's speakers was deleted."""
    row = first_row(connection, _ERASURES, {"of_domain": domain_id})
    return 0 if row is None else int(row["erasures"])


def increment_version(connection: Connection, domain_id: str) -> None:
    """Mark copies of the domain's voice data in memory as outdated."""
    connection.execute(_ONE_MORE, {"of_domain": domain_id})


# --- sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenSession:
    """A session whose voice data was deleted, with the wrapped data key that was destroyed."""

    session_id: str
    wrapped: bytes


def forget_sessions(
    connection: Connection, vault: Vault | None, domain_id: str, speaker_ids: Iterable[str]
) -> list[ForgottenSession]:
    """Delete the voice samples of all sessions of these speakers, and the authentications made from them.

    Each session gets a new data key; without a vault it keeps its own, which then seals nothing.
    """
    found: list[ForgottenSession] = []
    for speaker_id in dict.fromkeys(speaker_ids):
        query = select(sessions.c.session_id, sessions.c.wrapped).where(
            sessions.c.domain_id == domain_id, sessions.c.speaker_id == speaker_id
        )
        found += [
            ForgottenSession(session_id=row.session_id, wrapped=row.wrapped)
            for row in connection.execute(query)
        ]
    for session in found:
        forget_session(connection, vault, session.session_id)
    return found


def forget_session(connection: Connection, vault: Vault | None, session_id: str) -> None:
    """Delete one session's voice samples, authentication and exact scores, and renew its data key."""
    connection.execute(delete(session_hearings).where(session_hearings.c.session_id == session_id))
    connection.execute(
        delete(session_results).where(
            session_results.c.session_id == session_id, session_results.c.purpose == _AUTHENTICATION
        )
    )
    connection.execute(
        update(session_results).where(session_results.c.session_id == session_id).values(exact_sealed=None)
    )
    renewed = {} if vault is None else {"wrapped": vault.new_session(session_id)[1]}
    connection.execute(
        update(sessions)
        .where(sessions.c.session_id == session_id)
        .values(erasures=sessions.c.erasures + 1, **renewed)
    )


# --- erased speakers

_ERASED = select(erased_speakers.c.status, erased_speakers.c.erased_at).where(
    erased_speakers.c.domain_id == bindparam("of_domain"), erased_speakers.c.mark == bindparam("of_mark")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedSpeaker:
    """That a speaker of a customer's id was deleted or opted out, and when."""

    status: ErasedStatus
    erased_at: datetime


def mark_of(customer_id_hash: bytes) -> bytes:
    """Return what is remembered of an erased speaker: a hash of the keyed hash of the customer's id.

    The keyed hash itself (`Vault.lookup`) is gone with the speaker's row, so that it shows what is left.
    """
    return hashlib.sha256(b"sonant erased speaker" + customer_id_hash).digest()


def remember(
    connection: Connection, domain_id: str, customer_id_hash: bytes, status: ErasedStatus, now: datetime
) -> None:
    """Remember that a speaker was erased, in place of what was remembered before.

    Consents from before a deletion are deleted, those from before an opt-out count as withdrawn.
    """
    values = {
        "domain_id": domain_id,
        "mark": mark_of(customer_id_hash),
        "status": status,
        "erased_at": to_us(now),
    }
    put(connection, erased_speakers, values, replace=True)
    if status == "DELETED":
        consents.delete_of(connection, domain_id, customer_id_hash, now)
    else:
        consents.withdraw(connection, domain_id, customer_id_hash, now)


def find_erased(connection: Connection, domain_id: str, customer_id_hash: bytes) -> ErasedSpeaker | None:
    """Return what is remembered of an erased speaker, or None."""
    wanted = {"of_domain": domain_id, "of_mark": mark_of(customer_id_hash)}
    row = first_row(connection, _ERASED, wanted)
    if row is None:
        return None
    return ErasedSpeaker(status=row["status"], erased_at=from_us(row["erased_at"]))


_ALL_ERASED = select(erased_speakers.c.mark, erased_speakers.c.status, erased_speakers.c.erased_at).where(
    erased_speakers.c.domain_id == bindparam("of_domain"),
    erased_speakers.c.mark.in_(bindparam("of_marks", expanding=True)),
)


def find_all_erased(
    connection: Connection, domain_id: str, customer_id_hashes: Iterable[bytes]
) -> dict[bytes, ErasedSpeaker]:
    """Return what is remembered of erased speakers, by the keyed hashes under which they are looked for."""
    marks = {mark_of(one): one for one in customer_id_hashes}
    if not marks:
        return {}
    rows = connection.execute(_ALL_ERASED, {"of_domain": domain_id, "of_marks": [*marks]})
    return {
        marks[row.mark]: ErasedSpeaker(status=row.status, erased_at=from_us(row.erased_at)) for row in rows
    }


def forget_erased(connection: Connection, domain_id: str, customer_id_hash: bytes) -> None:
    """Forget an erased speaker: there is an entry again that says more."""
    connection.execute(
        delete(erased_speakers).where(
            erased_speakers.c.domain_id == domain_id, erased_speakers.c.mark == mark_of(customer_id_hash)
        )
    )


def delete_old_erased(connection: Connection, before: datetime) -> int:
    """Delete what is remembered of speakers who were deleted before a moment; return how many."""
    statement = delete(erased_speakers).where(
        erased_speakers.c.status == "DELETED", erased_speakers.c.erased_at < to_us(before)
    )
    return connection.execute(statement).rowcount


def list_sessions(connection: Connection, domain_id: str, speaker_id: str) -> Sequence[str]:
    """Return the ids of the sessions that name a speaker, or named the speaker when it was deleted."""
    query = select(sessions.c.session_id).where(
        sessions.c.domain_id == domain_id, sessions.c.speaker_id == speaker_id
    )
    return connection.execute(query).scalars().all()
