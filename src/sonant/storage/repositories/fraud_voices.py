"""Reads and writes voices of fraudsters, sealed under each fraudster's own key.

Copies in memory are checked by `Domain.fraudsters_version`: every change of a domain's fraudsters and of the
members of watchlists increments it, in the transaction of the change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection, bindparam, insert, select

from sonant.storage.crypto.template_spaces import TemplateSpaces
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.schema import domains, fraudster_voiceprints, fraudsters, watchlist_members
from sonant.storage.repositories import templates, watchlists
from sonant.storage.repositories.voice_samples import open_sample, sample_columns, sample_values
from sonant.storage.times import to_us
from sonant.voice.sample import VoiceSample

#: Rows of one query by ids.
BATCH = 500


def register(
    connection: Connection,
    vault: Vault,
    *,
    domain_id: str,
    fraudster_id: str,
    watchlist_id: str,
    sample: VoiceSample,
    audio: bytes | None = None,
    now: datetime,
) -> None:
    """Add a fraudster with its own data key to a watchlist; `audio` as in `speakers.enroll`."""
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
            audio_sealed=None if audio is None else seal.seal("audio", audio),
            created_at=to_us(now),
            **sample_values(
                seal, templates.open_spaces(connection, vault.templates), sample, fraudster_voiceprints
            ),
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


def load(
    connection: Connection, vault: Vault, spaces: TemplateSpaces, fraudster_ids: Iterable[str]
) -> Iterator[tuple[str, VoiceSample]]:
    """Open these fraudsters' voices, each with its fraudster's id, in the present one of `spaces`.

    Raises SealBroken.
    """
    wanted = iter(fraudster_ids)
    while batch := list(islice(wanted, BATCH)):
        query = (
            select(fraudsters.c.fraudster_id, fraudsters.c.wrapped, *sample_columns(fraudster_voiceprints))
            .join(fraudster_voiceprints, fraudster_voiceprints.c.fraudster_id == fraudsters.c.fraudster_id)
            .where(fraudsters.c.fraudster_id.in_(batch))
        )
        for row in connection.execute(query).mappings():
            fraudster_id = row["fraudster_id"]
            yield fraudster_id, open_sample(vault.fraudster(fraudster_id, row["wrapped"]), spaces, row)
