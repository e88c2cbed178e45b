"""Reads and writes watchlists and the fraudsters on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from sonant.storage.crypto.vault import Vault
from sonant.storage.database.paging import Position, page_of
from sonant.storage.database.rows import first_row
from sonant.storage.database.schema import (
    domains,
    fraudster_voiceprints,
    fraudsters,
    watchlist_members,
    watchlists,
)
from sonant.storage.times import from_us, to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchlist:
    """A watchlist as stored. `texts` opens its name and description."""

    watchlist_id: str
    domain_id: str
    is_default: bool
    name_sealed: bytes
    description_sealed: bytes | None
    created_at: datetime
    updated_at: datetime

    def texts(self, vault: Vault) -> tuple[str, str | None]:
        """Open (name, description). Raises SealBroken."""
        return (
            vault.open("watchlist name", self.watchlist_id, self.name_sealed),
            None
            if self.description_sealed is None
            else vault.open("watchlist description", self.watchlist_id, self.description_sealed),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraudster:
    """A fraudster as stored, with its watchlists in the order in which it was added to them."""

    fraudster_id: str
    domain_id: str
    wrapped: bytes
    created_at: datetime
    watchlist_ids: tuple[str, ...]


_WATCHLIST = select(watchlists)
_FIND = _WATCHLIST.where(
    watchlists.c.domain_id == bindparam("of_domain"), watchlists.c.watchlist_id == bindparam("wanted")
)
_FRAUDSTER = select(fraudsters)
_FIND_FRAUDSTER = _FRAUDSTER.where(
    fraudsters.c.domain_id == bindparam("of_domain"), fraudsters.c.fraudster_id == bindparam("wanted")
)
_LISTS_OF = (
    select(watchlist_members.c.fraudster_id, watchlist_members.c.watchlist_id)
    .where(watchlist_members.c.fraudster_id.in_(bindparam("wanted", expanding=True)))
    .order_by(watchlist_members.c.added_at, watchlist_members.c.watchlist_id)
)


def create(
    connection: Connection,
    vault: Vault,
    *,
    watchlist_id: str,
    domain_id: str,
    name: str,
    description: str | None,
    is_default: bool,
    now: datetime,
) -> None:
    """Create a watchlist."""
    connection.execute(
        insert(watchlists).values(
            watchlist_id=watchlist_id,
            domain_id=domain_id,
            is_default=is_default,
            **_sealed(vault, watchlist_id, name=name, description=description),
            created_at=to_us(now),
            updated_at=to_us(now),
        )
    )


def find(connection: Connection, domain_id: str, watchlist_id: str) -> Watchlist | None:
    """Return a watchlist of a domain, or None."""
    row = first_row(connection, _FIND, {"of_domain": domain_id, "wanted": watchlist_id})
    return None if row is None else _watchlist(row)


def count(connection: Connection, domain_id: str) -> int:
    """Return the number of watchlists of a domain."""
    query = select(func.count()).select_from(watchlists).where(watchlists.c.domain_id == domain_id)
    return connection.execute(query).scalar_one()


def page(connection: Connection, domain_id: str, after: Position | None, limit: int) -> list[Watchlist]:
    """Return a page: oldest first, ties by id; at most `limit` after the position `after`."""
    query = _WATCHLIST.where(watchlists.c.domain_id == domain_id)
    query = page_of(query, watchlists.c.created_at, watchlists.c.watchlist_id, after, limit)
    return [_watchlist(dict(row)) for row in connection.execute(query).mappings()]


def change(
    connection: Connection,
    vault: Vault,
    watchlist_id: str,
    *,
    name: str | None,
    description: str | None,
    now: datetime,
) -> None:
    """Set name and description; None leaves them as they are."""
    sealed = _sealed(vault, watchlist_id, name=name, description=description)
    values = {column: value for column, value in sealed.items() if value is not None}
    connection.execute(
        update(watchlists)
        .where(watchlists.c.watchlist_id == watchlist_id)
        .values(**values, updated_at=to_us(now))
    )


def remove(connection: Connection, watchlist_id: str) -> None:
    """Delete a watchlist that has no fraudsters."""
    connection.execute(delete(watchlists).where(watchlists.c.watchlist_id == watchlist_id))


def size(connection: Connection, watchlist_id: str) -> int:
    """Return the number of fraudsters on a watchlist."""
    query = (
        select(func.count())
        .select_from(watchlist_members)
        .where(watchlist_members.c.watchlist_id == watchlist_id)
    )
    return connection.execute(query).scalar_one()


def add_fraudster(
    connection: Connection,
    *,
    fraudster_id: str,
    domain_id: str,
    wrapped: bytes,
    watchlist_id: str,
    now: datetime,
) -> None:
    """Add a fraudster to a watchlist. `wrapped` is its own data key."""
    connection.execute(
        insert(fraudsters).values(
            fraudster_id=fraudster_id, domain_id=domain_id, wrapped=wrapped, created_at=to_us(now)
        )
    )
    associate(connection, fraudster_id, watchlist_id, now)


def find_fraudster(connection: Connection, domain_id: str, fraudster_id: str) -> Fraudster | None:
    """Return a fraudster of a domain, or None."""
    row = connection.execute(_FIND_FRAUDSTER, {"of_domain": domain_id, "wanted": fraudster_id}).first()
    return None if row is None else _fraudsters(connection, [row])[0]


def page_fraudsters(
    connection: Connection,
    domain_id: str,
    watchlist_id: str | None,
    after: Position | None,
    limit: int,
) -> list[Fraudster]:
    """Return a page: oldest first, ties by id; of one watchlist when it is named."""
    query = _FRAUDSTER.where(fraudsters.c.domain_id == domain_id)
    if watchlist_id is not None:
        query = query.join(
            watchlist_members, watchlist_members.c.fraudster_id == fraudsters.c.fraudster_id
        ).where(watchlist_members.c.watchlist_id == watchlist_id)
    query = page_of(query, fraudsters.c.created_at, fraudsters.c.fraudster_id, after, limit)
    return _fraudsters(connection, connection.execute(query).all())


def associate(connection: Connection, fraudster_id: str, watchlist_id: str, now: datetime) -> None:
    """Add a known fraudster to a watchlist."""
    connection.execute(
        insert(watchlist_members).values(
            watchlist_id=watchlist_id, fraudster_id=fraudster_id, added_at=to_us(now)
        )
    )
    _increment_version(connection, fraudster_id)


def disassociate(connection: Connection, fraudster_id: str, watchlist_id: str) -> None:
    """Remove a fraudster from a watchlist."""
    connection.execute(
        delete(watchlist_members).where(
            watchlist_members.c.watchlist_id == watchlist_id,
            watchlist_members.c.fraudster_id == fraudster_id,
        )
    )
    _increment_version(connection, fraudster_id)


def remove_fraudster(connection: Connection, fraudster_id: str) -> None:
    """Delete a fraudster with its data key and voiceprint, and remove it from all watchlists."""
    _increment_version(connection, fraudster_id)
    for table in (watchlist_members, fraudster_voiceprints, fraudsters):
        connection.execute(delete(table).where(table.c.fraudster_id == fraudster_id))


def _increment_version(connection: Connection, fraudster_id: str) -> None:
    """Mark copies of the domain's fraudsters in memory as outdated; see `fraud_voices`."""
    domain_id = select(fraudsters.c.domain_id).where(fraudsters.c.fraudster_id == fraudster_id)
    connection.execute(
        update(domains)
        .where(domains.c.domain_id == domain_id.scalar_subquery())
        .values(fraudsters_version=domains.c.fraudsters_version + 1)
    )


def _sealed(
    vault: Vault, watchlist_id: str, *, name: str | None, description: str | None
) -> dict[str, bytes | None]:
    return {
        "name_sealed": None if name is None else vault.seal("watchlist name", watchlist_id, name),
        "description_sealed": None
        if description is None
        else vault.seal("watchlist description", watchlist_id, description),
    }


def _watchlist(values: dict[str, Any]) -> Watchlist:
    values["created_at"] = from_us(values["created_at"])
    values["updated_at"] = from_us(values["updated_at"])
    return Watchlist(**values)


def _fraudsters(connection: Connection, rows: Sequence[Any]) -> list[Fraudster]:
    """Build fraudsters from the rows of `_FRAUDSTER`, with the watchlists that each is on."""
    lists: dict[str, list[str]] = {row.fraudster_id: [] for row in rows}
    if rows:
        for member in connection.execute(_LISTS_OF, {"wanted": list(lists)}):
            lists[member.fraudster_id].append(member.watchlist_id)
    return [_fraudster(row, lists[row.fraudster_id]) for row in rows]


def _fraudster(row: Any, watchlist_ids: Sequence[str]) -> Fraudster:
    values = dict(row._mapping)
    values["created_at"] = from_us(values["created_at"])
    return Fraudster(**values, watchlist_ids=tuple(watchlist_ids))
