"""Reads and writes the template spaces of domains: their keys, and the versions in which rows are.

    domains.template_version          the present space, in which new rows are written
    domains.oldest_template_version   the oldest one in which rows may be; lower only during a renewal
    template_keys                     the key of each space from the oldest to the present one

Version 0 is the voice models' own space and has no key. A renewal adds a space and makes it the present one,
moves all rows to it (`template_rows`), and deletes the keys of the earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from sonant.errors import IntegrityFault, SealBroken
from sonant.storage.crypto.template_spaces import UNPROTECTED, TemplateSpaces
from sonant.storage.crypto.vault import TemplateKeys
from sonant.storage.database.bound_connection import without_changed_rows
from sonant.storage.database.rows import first_row
from sonant.storage.database.schema import domains, template_keys
from sonant.storage.times import to_us

#: How often the versions are read again that a renewal has changed meanwhile.
_TRIES = 3

_PRESENT = (
    select(domains.c.template_version, domains.c.oldest_template_version, template_keys.c.sealed)
    .outerjoin(
        template_keys,
        and_(
            template_keys.c.domain_id == domains.c.domain_id,
            template_keys.c.version == domains.c.template_version,
        ),
    )
    .where(domains.c.domain_id == bindparam("of_domain"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceVersions:
    """In which template spaces a domain's rows are."""

    present: int
    oldest: int

    @property
    def renewing(self) -> bool:
        """Whether rows may be in an earlier space."""
        return self.oldest < self.present


def create_first(connection: Connection, keys: TemplateKeys, now: datetime) -> None:
    """Make the first space of a domain that was just created, and has no voices."""
    _add(connection, keys, UNPROTECTED + 1, now)
    connection.execute(
        update(domains)
        .where(domains.c.domain_id == keys.domain_id)
        .values(template_version=UNPROTECTED + 1, oldest_template_version=UNPROTECTED + 1)
    )


def find_versions(connection: Connection, domain_id: str) -> SpaceVersions | None:
    """Return the versions of a domain's spaces; None without such a domain."""
    row = first_row(connection, _PRESENT, {"of_domain": domain_id})
    if row is None:
        return None
    return SpaceVersions(present=row["template_version"], oldest=row["oldest_template_version"])


def open_spaces(connection: Connection, keys: TemplateKeys) -> TemplateSpaces:
    """Open a domain's template spaces as of this transaction.

    A transaction that writes keeps them from being deleted until it ends, so that what it stores can be read.
    Raises IntegrityFault for a key that is missing or damaged.
    """
    domain_id = keys.domain_id
    for _ in range(_TRIES):
        row = first_row(connection, _PRESENT, {"of_domain": domain_id})
        if row is None:  # erased meanwhile: its rows are gone, too
            return TemplateSpaces(domain_id, UNPROTECTED, {})
        present, oldest = row["template_version"], row["oldest_template_version"]
        sealed = {} if row["sealed"] is None else {present: row["sealed"]}
        if oldest < present or _writes_on_postgresql(connection):
            sealed = _locked(connection, domain_id)
        if present == UNPROTECTED or present in sealed:
            opened = {version: _open(keys, version, one) for version, one in sealed.items()}
            return TemplateSpaces(domain_id, present, opened)
    raise IntegrityFault("template_keys", f"{domain_id}/{present}", "is missing")


def begin_renewal(connection: Connection, keys: TemplateKeys, now: datetime) -> SpaceVersions:
    """Make a new space the present one. The domain must be locked (`domains.lock`), and not be renewing.

    Copies of fraudsters' voices in memory are loaded again.
    """
    present = find_versions(connection, keys.domain_id)
    if present is None or present.renewing:
        raise ValueError("a renewal begins in a domain whose last one is finished")
    new = present.present + 1
    _add(connection, keys, new, now)
    connection.execute(
        update(domains)
        .where(domains.c.domain_id == keys.domain_id)
        .values(
            template_version=new,
            version=domains.c.version + 1,
            fraudsters_version=domains.c.fraudsters_version + 1,
        )
    )
    return SpaceVersions(present=new, oldest=present.oldest)


def lock_earlier(connection: Connection, domain_id: str, present: int) -> None:
    """Wait until no other transaction can store a row in a space before `present`."""
    earlier = (template_keys.c.domain_id == domain_id) & (template_keys.c.version < present)
    connection.execute(select(template_keys.c.version).where(earlier).with_for_update()).all()


def finish_renewal(connection: Connection, domain_id: str, present: int) -> None:
    """Delete the keys of the spaces before `present`: no row may be in them any more."""
    connection.execute(
        delete(template_keys).where(template_keys.c.domain_id == domain_id, template_keys.c.version < present)
    )
    connection.execute(
        update(domains)
        .where(domains.c.domain_id == domain_id, domains.c.template_version == present)
        .values(oldest_template_version=present, version=domains.c.version + 1)
    )


def list_due(connection: Connection) -> list[str]:
    """Return the active domains that are unprotected, or whose renewal is not finished."""
    query = select(domains.c.domain_id).where(
        domains.c.status == "ACTIVE",
        (domains.c.template_version == UNPROTECTED)
        | (domains.c.oldest_template_version < domains.c.template_version),
    )
    return list(connection.execute(without_changed_rows(query.order_by(domains.c.domain_id))).scalars())


def _add(connection: Connection, keys: TemplateKeys, version: int, now: datetime) -> None:
    _, sealed = keys.new(version)
    connection.execute(
        insert(template_keys).values(
            domain_id=keys.domain_id, version=version, sealed=sealed, created_at=to_us(now)
        )
    )


def _locked(connection: Connection, domain_id: str) -> dict[int, bytes]:
    """Read all keys of a domain; a transaction that writes keeps them from being deleted."""
    query = select(template_keys.c.version, template_keys.c.sealed)
    query = query.where(template_keys.c.domain_id == domain_id)
    if _writes_on_postgresql(connection):
        query = query.with_for_update(read=True)
    return {row.version: row.sealed for row in connection.execute(query)}


def _writes_on_postgresql(connection: Connection) -> bool:
    """Whether other transactions may write at the same time: on SQLite a writer is alone."""
    writes = connection.get_execution_options().get("sonant_write", False)
    return bool(writes) and connection.dialect.name == "postgresql"


def _open(keys: TemplateKeys, version: int, sealed: bytes) -> bytes:
    try:
        return keys.open(version, sealed)
    except SealBroken:
        raise IntegrityFault("template_keys", f"{keys.domain_id}/{version}", "does not open") from None
