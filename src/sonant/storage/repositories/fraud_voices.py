"""Reads and writes voices of fraudsters, sealed under each fraudster's own key.

Copies in memory are checked by `Domain.fraudsters_version`: every change of a domain's fraudsters and of the
members of watchlists increments it, in the transaction of the change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection, bindparam, insert, select

from sonant.storage.crypto.vault import Vault
from sonant.storage.database.schema import domains, fraudster_voiceprints, fraudsters, watchlist_members
from sonant.storage.repositories import watchlists
from sonant.storage.repositories.speakers import Voiceprint
from sonant.storage.times import to_us

#: Rows of one query by ids.
BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """An opened voice of a fraudster. `vector` is little-endian float32."""

    fraudster_id: str
    model_id: str
    vector: bytes


def register(
    connection: Connection,
    vault: Vault,
    *,
    domain_id: str,
    fraudster_id: str,
    watchlist_id: str,
    voiceprint: Voiceprint,
    now: datetime,
) -> None:
    """Add a fraudster with its own data key to a watchlist."""
    seal, wrapped = vault.new_fraudster(fraudster_id)
    watchlists.add_fraudster(
        connection,
        fraudster_id=fraudster_id,
        domain_id=domain_id,
        wrapped=wrapped,
        watchlist_id=watchlist_id,
        now=now,
    )
    connection.execute(
        insert(fraudster_voiceprints).values(
            fraudster_id=fraudster_id,
            model_id=voiceprint.model_id,
            vector_sealed=seal.seal(f"voiceprint {voiceprint.model_id}", voiceprint.vector),
            audio_sealed=None if voiceprint.audio is None else seal.seal("audio", voiceprint.audio),
            net_speech_s=voiceprint.net_speech_s,
            created_at=to_us(now),
        )
    )


_VERSION = select(domains.c.fraudsters_version).where(domains.c.domain_id == bindparam("of_domain"))
_VERSION_LOCKED = _VERSION.with_for_update(key_share=True)


def version(connection: Connection, domain_id: str, *, lock: bool = False) -> int:
    """Return the version of a domain's fraudsters. `lock` prevents changes until the transaction ends."""
    query = _VERSION_LOCKED if lock else _VERSION
    return int(connection.execute(query, {"of_domain": domain_id}).scalar_one())


def ids(connection: Connection, domain_id: str, watchlist_id: str | None) -> list[str]:
    """Return ids of fraudsters of the domain, or of one watchlist, that have a voiceprint; oldest first."""
    query = (
        select(fraudsters.c.fraudster_id)
        .join(fraudster_voiceprints, fraudster_voiceprints.c.fraudster_id == fraudsters.c.fraudster_id)
        .where(fraudsters.c.domain_id == domain_id)
        .order_by(fraudsters.c.created_at, fraudsters.c.fraudster_id)
    )
    if watchlist_id is not None:
        query = query.join(
            watchlist_members, watchlist_members.c.fraudster_id == fraudsters.c.fraudster_id
        ).where(watchlist_members.c.watchlist_id == watchlist_id)
    return list(connection.execute(query).scalars())


def load(connection: Connection, vault: Vault, fraudster_ids: Iterable[str]) -> Iterator[Voice]:
    """Open the voices of these fraudsters. Raises SealBroken."""
    wanted = iter(fraudster_ids)
    while batch := list(islice(wanted, BATCH)):
        query = (
            select(
                fraudsters.c.fraudster_id,
                fraudsters.c.wrapped,
                fraudster_voiceprints.c.model_id,
                fraudster_voiceprints.c.vector_sealed,
            )
            .join(fraudster_voiceprints, fraudster_voiceprints.c.fraudster_id == fraudsters.c.fraudster_id)
            .where(fraudsters.c.fraudster_id.in_(batch))
        )
        for row in connection.execute(query):
            seal = vault.fraudster(row.fraudster_id, row.wrapped)
            yield Voice(
                fraudster_id=row.fraudster_id,
                model_id=row.model_id,
                vector=seal.open(f"voiceprint {row.model_id}", row.vector_sealed),
            )
