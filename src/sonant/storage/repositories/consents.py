"""Reads and writes the consents of speakers, found by the keyed hash of the customer's id.

A consent may come before the speaker's entry. What was agreed to is sealed under the domain's key.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from sonant.storage.crypto.vault import Vault
from sonant.storage.database.bound_connection import without_changed_rows
from sonant.storage.database.paging import Position, page_of
from sonant.storage.database.schema import speaker_consents, speakers
from sonant.storage.repositories.domains import Domain
from sonant.storage.times import from_us, to_us

_SEALED_AS = "consent"

ConsentStatus = Literal["VALID", "EXPIRED", "WITHDRAWN", "NOT_YET_GIVEN"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A consent as stored. `terms` opens what was agreed to."""

    consent_id: str
    sealed: bytes
    given_at: datetime
    expires_at: datetime | None
    withdrawn_at: datetime | None
    created_at: datetime

    def terms(self, vault: Vault) -> dict[str, Any]:
        """Open what was agreed to, as it was given to `add`. Raises SealBroken."""
        terms: dict[str, Any] = vault.open_json(_SEALED_AS, self.consent_id, self.sealed)
        return terms

    def status(self, now: datetime) -> ConsentStatus:
        if self.withdrawn_at is not None:
            return "WITHDRAWN"
        if self.expires_at is not None and self.expires_at <= now:
            return "EXPIRED"
        return "VALID" if self.given_at <= now else "NOT_YET_GIVEN"


_COLUMNS = select(*[speaker_consents.c[name] for name in Consent.__slots__])
_VALID = without_changed_rows(
    select(speaker_consents.c.customer_id_hash)
    .where(
        speaker_consents.c.domain_id == bindparam("of_domain"),
        speaker_consents.c.customer_id_hash.in_(bindparam("of_hashes", expanding=True)),
        speaker_consents.c.withdrawn_at.is_(None),
        speaker_consents.c.given_at <= bindparam("at"),
        or_(speaker_consents.c.expires_at.is_(None), speaker_consents.c.expires_at > bindparam("at")),
    )
    .order_by(speaker_consents.c.consent_id)
)


def add(
    connection: Connection,
    vault: Vault,
    *,
    consent_id: str,
    domain_id: str,
    customer_id_hash: bytes,
    terms: dict[str, Any],
    given_at: datetime,
    expires_at: datetime | None,
    now: datetime,
) -> None:
    """Store a consent; earlier ones stay as they are. `terms` is JSON."""
    connection.execute(
        insert(speaker_consents).values(
            consent_id=consent_id,
            domain_id=domain_id,
            customer_id_hash=customer_id_hash,
            sealed=vault.seal_json(_SEALED_AS, consent_id, terms),
            given_at=to_us(given_at),
            expires_at=None if expires_at is None else to_us(expires_at),
            created_at=to_us(now),
        )
    )


def page(
    connection: Connection, domain_id: str, customer_id_hash: bytes, after: Position | None, limit: int
) -> list[Consent]:
    """Return a page of a speaker's consents, newest first; at most `limit` after the position `after`."""
    columns = speaker_consents.c
    query = _COLUMNS.where(columns.domain_id == domain_id, columns.customer_id_hash == customer_id_hash)
    query = page_of(query, columns.created_at, columns.consent_id, after, limit, newest_first=True)
    return [_consent(dict(row)) for row in connection.execute(query).mappings()]


def find_valid(
    connection: Connection, domain_id: str, customer_id_hash: bytes, now: datetime
) -> Consent | None:
    """Return the newest of a speaker's consents that are valid, or None."""
    columns = speaker_consents.c
    query = _COLUMNS.where(
        columns.domain_id == domain_id,
        columns.customer_id_hash == customer_id_hash,
        columns.withdrawn_at.is_(None),
        columns.given_at <= to_us(now),
        or_(columns.expires_at.is_(None), columns.expires_at > to_us(now)),
    )
    query = query.order_by(columns.created_at.desc(), columns.consent_id.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else _consent(dict(row))


def with_consent(
    connection: Connection, domain: Domain, customer_id_hashes: Collection[bytes], now: datetime
) -> set[bytes]:
    """Return those of the keyed hashes whose speakers may be enrolled: all, unless the domain requires a
    consent. A consent whose row was changed does not count."""
    if not domain.consent_required or not customer_id_hashes:
        return {*customer_id_hashes}
    wanted = {"of_domain": domain.domain_id, "of_hashes": [*customer_id_hashes], "at": to_us(now)}
    return set(connection.execute(_VALID, wanted).scalars())


def may_enroll(connection: Connection, domain: Domain, speaker_id: str, now: datetime) -> bool:
    """Return whether the speaker of a generated id may be enrolled, as `with_consent` does."""
    if not domain.consent_required:
        return True
    query = select(speakers.c.customer_id_hash).where(speakers.c.speaker_id == speaker_id)
    customer_id_hash = connection.execute(query).scalar_one_or_none()
    return customer_id_hash is not None and bool(with_consent(connection, domain, [customer_id_hash], now))


def withdraw(connection: Connection, domain_id: str, customer_id_hash: bytes, at: datetime) -> int:
    """Mark a speaker's consents that were stored until a time as withdrawn then; return how many."""
    columns = speaker_consents.c
    statement = update(speaker_consents).where(
        columns.domain_id == domain_id,
        columns.customer_id_hash == customer_id_hash,
        columns.withdrawn_at.is_(None),
        columns.created_at <= to_us(at),
    )
    return connection.execute(statement.values(withdrawn_at=to_us(at))).rowcount


def delete_of(connection: Connection, domain_id: str, customer_id_hash: bytes, at: datetime) -> None:
    """Delete a speaker's consents that were stored until a time."""
    columns = speaker_consents.c
    connection.execute(
        delete(speaker_consents).where(
            columns.domain_id == domain_id,
            columns.customer_id_hash == customer_id_hash,
            columns.created_at <= to_us(at),
        )
    )


def _consent(values: dict[str, Any]) -> Consent:
    for name in ("given_at", "created_at"):
        values[name] = from_us(values[name])
    for name in ("expires_at", "withdrawn_at"):
        values[name] = None if values[name] is None else from_us(values[name])
    return Consent(**values)
