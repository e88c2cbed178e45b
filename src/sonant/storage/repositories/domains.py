"""Reads and writes domains.

A change names the version of the domain that it is based on; a domain that has changed since is not changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from sonant.storage.crypto.vault import Vault
from sonant.storage.database.bound_connection import unverified, without_changed_rows
from sonant.storage.database.paging import Position, page_of
from sonant.storage.database.postgres import lift_timeouts
from sonant.storage.database.rows import first_row
from sonant.storage.database.schema import domains, speakers
from sonant.storage.repositories import templates, watchlists
from sonant.storage.times import from_us, latest_lease_us, to_us

DEFAULT_WATCHLIST_NAME = "DefaultWatchlist"

#: The longest pause before a key change is tried again.
_MAX_PAUSE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A domain as stored: the texts are sealed; `texts` and `tags` open them."""

    domain_id: str
    account_id: str
    region: str
    status: str
    kms_key_arn: str
    data_key_wrapped: bytes
    default_watchlist_id: str
    name_sealed: bytes
    description_sealed: bytes | None
    tags_sealed: bytes
    created_at: datetime
    updated_at: datetime
    version: int
    suspended_at: datetime | None
    update_status: str | None
    update_old_key_arn: str | None
    update_message: str | None
    update_attempts: int
    update_due_at: datetime | None
    fraudsters_version: int = 0
    """Incremented by every change of fraudsters and of the members of watchlists."""
    model_id: str | None = None
    """The voice model of its voiceprints; None is GE2E, the only one that earlier releases shipped."""
    erasures: int = 0
    """Incremented when voice data of a speaker is deleted; see `erasure`."""
    consent_required: bool = False
    """Whether only speakers with a valid consent are enrolled."""

    @property
    def arn(self) -> str:
        return domain_arn(self.region, self.account_id, self.domain_id)

    @property
    def active(self) -> bool:
        return self.status == "ACTIVE"

    def suspended_by(self, moment: datetime) -> bool:
        """Return whether it was suspended at this moment or before, and not restored since."""
        return self.suspended_at is not None and self.suspended_at <= moment

    def texts(self, vault: Vault) -> tuple[str, str | None]:
        """Open (name, description). Raises SealBroken."""
        return (
            vault.open("domain name", self.domain_id, self.name_sealed),
            None
            if self.description_sealed is None
            else vault.open("domain description", self.domain_id, self.description_sealed),
        )

    def tags(self, vault: Vault) -> dict[str, str]:
        """Open the tags. Raises SealBroken."""
        tags: dict[str, str] = vault.open_json("domain tags", self.domain_id, self.tags_sealed)
        return tags


def domain_arn(region: str, account_id: str, domain_id: str) -> str:
    return f"arn:aws:voiceid:{region}:{account_id}:domain/{domain_id}"


def create(
    connection: Connection,
    vault: Vault,
    *,
    domain_id: str,
    account_id: str,
    region: str,
    name: str,
    description: str | None,
    tags: dict[str, str],
    kms_key_arn: str,
    data_key_wrapped: bytes,
    watchlist_id: str,
    now: datetime,
    model_id: str | None = None,
) -> None:
    """Create a domain with its first template space and its default watchlist.

    `model_id` is its voice model, None for GE2E.
    """
    now_us = to_us(now)
    connection.execute(
        insert(domains).values(
            domain_id=domain_id,
            account_id=account_id,
            region=region,
            status="ACTIVE",
            name_sealed=vault.seal("domain name", domain_id, name),
            description_sealed=None
            if description is None
            else vault.seal("domain description", domain_id, description),
            tags_sealed=vault.seal_json("domain tags", domain_id, tags),
            kms_key_arn=kms_key_arn,
            data_key_wrapped=data_key_wrapped,
            default_watchlist_id=watchlist_id,
            created_at=now_us,
            updated_at=now_us,
            model_id=model_id,
        )
    )
    templates.create_first(connection, vault.templates, now)
    watchlists.create(
        connection,
        vault,
        watchlist_id=watchlist_id,
        domain_id=domain_id,
        name=DEFAULT_WATCHLIST_NAME,
        description=None,
        is_default=True,
        now=now,
    )


_DOMAIN = select(*[domains.c[name] for name in Domain.__slots__ if name in domains.c])
_FIND = _DOMAIN.where(
    domains.c.domain_id == bindparam("of_domain"),
    domains.c.account_id == bindparam("of_account"),
    domains.c.region == bindparam("of_region"),
)
# Other transactions may add rows that refer to the domain; those that change its contents lock it.
_FIND_LOCKED = _FIND.with_for_update(key_share=True)
_BY_ID = _DOMAIN.where(domains.c.domain_id == bindparam("of_domain"))
_LOCK = (
    select(domains.c.domain_id)
    .where(domains.c.domain_id == bindparam("of_domain"))
    .with_for_update(key_share=True)
)


def find(
    connection: Connection, account_id: str, region: str, domain_id: str, *, lock: bool = False
) -> Domain | None:
    """Return an account's domain in a Region, or None. `lock` makes other writers of the domain wait."""
    wanted = {"of_domain": domain_id, "of_account": account_id, "of_region": region}
    row = first_row(connection, _FIND_LOCKED if lock else _FIND, wanted)
    return None if row is None else _domain(row)


def require_consent(connection: Connection, domain_id: str, required: bool, now: datetime) -> None:
    """Set whether only speakers with a valid consent are enrolled in a domain."""
    connection.execute(
        update(domains)
        .where(domains.c.domain_id == domain_id)
        .values(consent_required=required, updated_at=to_us(now), version=domains.c.version + 1)
    )


def region_of(connection: Connection, domain_id: str) -> str | None:
    """Return the Region of a domain of any account, or None."""
    query = select(domains.c.region).where(domains.c.domain_id == domain_id)
    return connection.execute(query).scalar_one_or_none()


def find_by_id(connection: Connection, domain_id: str) -> Domain | None:
    """Return a domain of any account, or None."""
    row = first_row(connection, _BY_ID, {"of_domain": domain_id})
    return None if row is None else _domain(row)


def lock(connection: Connection, domain_id: str) -> None:
    """Keep other transactions from changing the contents of a domain until this one ends.

    To be called before the reads that decide. Does nothing on SQLite, where a writer excludes all others.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"of_domain": domain_id})


def count_active(connection: Connection, account_id: str, region: str) -> int:
    """Return the number of active domains of an account in a Region."""
    query = select(func.count()).where(
        domains.c.account_id == account_id, domains.c.region == region, domains.c.status == "ACTIVE"
    )
    return connection.execute(query).scalar_one()


def page(
    connection: Connection, account_id: str, region: str, after: Position | None, limit: int
) -> list[Domain]:
    """Return a page: oldest first, ties by id; at most `limit` after the position `after`."""
    query = _DOMAIN.where(domains.c.account_id == account_id, domains.c.region == region)
    query = page_of(query, domains.c.created_at, domains.c.domain_id, after, limit)
    return [_domain(dict(row)) for row in connection.execute(query).mappings()]


def change(
    connection: Connection,
    vault: Vault,
    domain: Domain,
    *,
    name: str,
    description: str | None,
    new_key_arn: str | None,
    old_key_arn: str,
    now: datetime,
) -> bool:
    """Set name and description, and start a key change if a key is given.

    Returns False, and changes nothing, when the domain has changed since it was read.
    """
    values: dict[str, Any] = {
        "name_sealed": vault.seal("domain name", domain.domain_id, name),
        "description_sealed": None
        if description is None
        else vault.seal("domain description", domain.domain_id, description),
        "updated_at": to_us(now),
    }
    if new_key_arn is not None:
        values |= {
            "kms_key_arn": new_key_arn,
            "update_status": "IN_PROGRESS",
            "update_old_key_arn": old_key_arn,
            "update_message": None,
            "update_attempts": 0,
            "update_due_at": to_us(now),
        }
    return _set(connection, domain, values)


def set_tags(connection: Connection, vault: Vault, domain: Domain, tags: dict[str, str]) -> bool:
    """Replace the tags. Returns False when the domain has changed since it was read."""
    return _set(connection, domain, {"tags_sealed": vault.seal_json("domain tags", domain.domain_id, tags)})


def set_model(connection: Connection, domain: Domain, model_id: str | None) -> bool:
    """Change the voice model. Fraudsters' voices in memory are loaded again. Returns as `set_tags`."""
    values = {"model_id": model_id, "fraudsters_version": domains.c.fraudsters_version + 1}
    return _set(connection, domain, values)


def count_with_model(connection: Connection, model_id: str) -> int:
    """Return how many domains have this voice model."""
    query = select(func.count()).where(domains.c.model_id == model_id)
    return connection.execute(query).scalar_one()


def suspend(connection: Connection, domain: Domain, now: datetime) -> bool:
    """Suspend a domain. Returns as `set_tags`."""
    now_us = to_us(now)
    return _set(connection, domain, {"status": "SUSPENDED", "suspended_at": now_us, "updated_at": now_us})


def restore(connection: Connection, domain: Domain, now: datetime) -> bool:
    """End the suspension of a domain. Returns as `set_tags`."""
    return _set(connection, domain, {"status": "ACTIVE", "suspended_at": None, "updated_at": to_us(now)})


def erase_suspended(connection: Connection, by: datetime) -> int:
    """Erase domains that were suspended by a moment, with all their contents; return how many."""
    lift_timeouts(connection)
    statement = delete(domains).where(domains.c.status == "SUSPENDED", domains.c.suspended_at <= to_us(by))
    return connection.execute(statement).rowcount


def list_suspended(connection: Connection, by: datetime) -> list[Domain]:
    """Return the domains that `erase_suspended` would erase."""
    query = _DOMAIN.where(domains.c.status == "SUSPENDED", domains.c.suspended_at <= to_us(by))
    return [_domain(dict(row)) for row in connection.execute(without_changed_rows(query)).mappings()]


def any_exist(connection: Connection) -> bool:
    """Return whether there is a domain, active or suspended."""
    query = select(domains.c.domain_id).limit(1)
    return connection.execute(unverified(query, "only whether there is one")).first() is not None


def list_all(connection: Connection) -> list[Domain]:
    """Return all domains, active and suspended."""
    return [_domain(dict(row)) for row in connection.execute(_DOMAIN).mappings()]


def list_unchecked(connection: Connection) -> list[Domain]:
    """Return all domains as their rows say, for a start that may come before the key of the rows' MACs."""
    query = unverified(_DOMAIN, "which keys are lost is asked before anything is opened")
    return [_domain(dict(row)) for row in connection.execute(query).mappings()]


def set_wrapped_key(connection: Connection, domain: Domain, wrapped: bytes) -> bool:
    """Store the same data key, wrapped again. Returns as `set_tags`."""
    return _set(connection, domain, {"data_key_wrapped": wrapped})


def key_changes_due(connection: Connection, now: datetime) -> list[Domain]:
    """Return the domains whose key change is to be tried now."""
    far = latest_lease_us(now, _MAX_PAUSE)
    due = or_(domains.c.update_due_at <= to_us(now), domains.c.update_due_at > far)
    query = without_changed_rows(_DOMAIN.where(domains.c.update_status == "IN_PROGRESS", due))
    return [_domain(dict(row)) for row in connection.execute(query).mappings()]


def finish_key_change(connection: Connection, domain: Domain, wrapped: bytes, now: datetime) -> bool:
    """Store the data key under the new key. Returns as `set_tags`."""
    values = {
        "data_key_wrapped": wrapped,
        "update_status": "COMPLETED",
        "update_message": None,
        "update_due_at": None,
        "updated_at": to_us(now),
    }
    return _set(connection, domain, values)


def postpone_key_change(connection: Connection, domain: Domain, message: str, due: datetime) -> bool:
    """Record a failed attempt, and when the next is due. Returns as `set_tags`."""
    values = {
        "update_attempts": domain.update_attempts + 1,
        "update_message": message,
        "update_due_at": to_us(due),
    }
    return _set(connection, domain, values)


def fail_key_change(connection: Connection, domain: Domain, message: str, now: datetime) -> bool:
    """End a key change that failed for good. Returns as `set_tags`."""
    values = {
        "update_status": "FAILED",
        "update_message": message,
        "update_due_at": None,
        "updated_at": to_us(now),
    }
    return _set(connection, domain, values)


def with_speakers_unused_since(connection: Connection, before: datetime) -> list[Domain]:
    """Return active domains that have enrolled speakers last used before a time."""
    due = select(speakers.c.domain_id).where(
        speakers.c.status == "ENROLLED", speakers.c.last_accessed_at < to_us(before)
    )
    query = without_changed_rows(_DOMAIN.where(domains.c.status == "ACTIVE", domains.c.domain_id.in_(due)))
    return [_domain(dict(row)) for row in connection.execute(query).mappings()]


def _set(connection: Connection, domain: Domain, values: dict[str, Any]) -> bool:
    """Change a domain's row, and return whether it had not changed since it was read."""
    statement = (
        update(domains)
        .where(domains.c.domain_id == domain.domain_id, domains.c.version == domain.version)
        .values(**values, version=domain.version + 1)
    )
    return connection.execute(statement).rowcount == 1


def _domain(values: dict[str, Any]) -> Domain:
    for name in ("created_at", "updated_at", "suspended_at", "update_due_at"):
        values[name] = None if values[name] is None else from_us(values[name])
    return Domain(**values)
