"""Walks the whole database and finds rows that are not as Sonant wrote them, for `sonant doctor --integrity`.

Beyond the MACs it opens what is sealed of every person: the data key, the customer's id, the voiceprints. So
a row that was put back to an earlier state is found where its key has been renewed since.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select

from sonant.errors import IntegrityFault, KeyError_, KeysUnreachable, SealBroken
from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.database.bound_connection import unverified
from sonant.storage.database.engine import Database
from sonant.storage.database.row_macs import bound_tables
from sonant.storage.database.schema import (
    fingerprints,
    fraudster_voiceprints,
    fraudsters,
    speaker_counts,
    speaker_keys,
    speakers,
    voiceprints,
)
from sonant.storage.keys.store import KeysOf
from sonant.storage.opening import vault_of
from sonant.storage.repositories import domains, templates
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.speakers import FINGERPRINT
from sonant.storage.repositories.voice_samples import vector_context
from sonant.storage.row_binding import find_faults

_BATCH = 500
_LISTED = "the walk has checked the MACs before, and lists what does not open"


def walk(database: Database, keys_of: KeysOf) -> Iterator[IntegrityFault]:
    """Yield every fault, table by table, with one batch of rows in memory.

    What is sealed in a domain whose key cannot be used is not opened.
    """
    yield from find_faults(database)
    with database.read() as connection:
        yield from _wrong_counts(connection)
        known = domains.list_unchecked(connection)
    for domain in known:
        try:
            vault = vault_of(keys_of, domain)
        except SealBroken:
            yield IntegrityFault("domains", domain.domain_id, "has a data key that does not open")
            continue
        except (KeyError_, KeysUnreachable):
            continue
        try:
            with database.read() as connection:
                templates.open_spaces(connection, vault.templates)
        except IntegrityFault as fault:
            yield fault
        yield from _speakers(database, vault, domain)
        yield from _fraudsters(database, vault, domain)


def count_rows(connection: Connection) -> int:
    """Return how many rows have MACs."""
    counts = (select(func.count()).select_from(bound.table) for bound in bound_tables())
    return sum(connection.execute(query).scalar_one() for query in counts)


def _wrong_counts(connection: Connection) -> Iterator[IntegrityFault]:
    present = select(speakers.c.domain_id, func.count()).group_by(speakers.c.domain_id)
    counted = {row[0]: row[1] for row in connection.execute(present)}
    for row in connection.execute(select(speaker_counts)):
        there = counted.get(row.domain_id, 0)
        if row.present != there:
            finding = f"counts {row.present} speakers of the domain's {there}"
            yield IntegrityFault("speaker_counts", row.domain_id, finding)


def _speakers(database: Database, vault: Vault, domain: Domain) -> Iterator[IntegrityFault]:
    query = (
        select(
            speakers.c.speaker_id,
            speakers.c.customer_id_hash,
            speakers.c.customer_id_sealed,
            speaker_keys.c.wrapped,
            voiceprints.c.model_id,
            voiceprints.c.template_version,
            voiceprints.c.vector_sealed,
        )
        .outerjoin(speaker_keys, speaker_keys.c.speaker_id == speakers.c.speaker_id)
        .outerjoin(voiceprints, voiceprints.c.speaker_id == speakers.c.speaker_id)
        .where(speakers.c.domain_id == domain.domain_id)
    )
    for row in _rows(database, query, speakers):
        key = row.speaker_id
        try:
            seal = vault.speaker(key, row.wrapped or b"")
        except SealBroken:
            yield IntegrityFault("speaker_keys", key, "does not open, or is missing")
            continue
        try:
            customer_id = seal.open("customer id", row.customer_id_sealed).decode()
        except SealBroken:
            yield IntegrityFault("speakers", key, "is sealed under another data key than the speaker's")
            continue
        if vault.lookup(customer_id) != row.customer_id_hash:
            yield IntegrityFault("speakers", key, "has the hash of another customer's id")
        if row.vector_sealed is not None and not _opens(seal, row):
            yield IntegrityFault("voiceprints", key, "is sealed under another data key than the speaker's")
        yield from _fingerprints(database, seal, key)


def _fingerprints(database: Database, seal: SpeakerSeal, speaker_id: str) -> Iterator[IntegrityFault]:
    query = select(fingerprints.c.number, fingerprints.c.sealed)
    with database.read() as connection:
        rows = connection.execute(query.where(fingerprints.c.speaker_id == speaker_id)).all()
    for row in rows:
        try:
            seal.open(FINGERPRINT, row.sealed)
        except SealBroken:
            finding = "is sealed under another data key than the speaker's"
            yield IntegrityFault("fingerprints", str(row.number), finding)


def _fraudsters(database: Database, vault: Vault, domain: Domain) -> Iterator[IntegrityFault]:
    query = (
        select(
            fraudsters.c.fraudster_id,
            fraudsters.c.wrapped,
            fraudster_voiceprints.c.model_id,
            fraudster_voiceprints.c.template_version,
            fraudster_voiceprints.c.vector_sealed,
        )
        .outerjoin(fraudster_voiceprints, fraudster_voiceprints.c.fraudster_id == fraudsters.c.fraudster_id)
        .where(fraudsters.c.domain_id == domain.domain_id)
    )
    for row in _rows(database, query, fraudsters):
        key = row.fraudster_id
        try:
            seal = vault.fraudster(key, row.wrapped)
        except SealBroken:
            yield IntegrityFault("fraudsters", key, "has a data key that does not open")
            continue
        if row.vector_sealed is not None and not _opens(seal, row):
            finding = "is sealed under another data key than the fraudster's"
            yield IntegrityFault("fraudster_voiceprints", key, finding)


def _opens(seal: SpeakerSeal, row: Any) -> bool:
    try:
        seal.open(vector_context(row.model_id, row.template_version), row.vector_sealed)
    except SealBroken:
        return False
    return True


def _rows(database: Database, query: Select[Any], people: Table) -> Iterator[Any]:
    """Yield the rows of a query by the person's id, each batch in its own transaction."""
    key = next(iter(people.primary_key))
    query = unverified(query.order_by(key).limit(_BATCH), _LISTED)
    after = ""
    while True:
        with database.read() as connection:
            rows: Sequence[Any] = connection.execute(query.where(key > after)).all()
        yield from rows
        if len(rows) < _BATCH:
            return
        after = rows[-1][0]
