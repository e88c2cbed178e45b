"""Domains, their watchlists, and client tokens: rows in and out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select

from sonant.store.database.engine import first_row
from sonant.store.database.schema import client_tokens, domains, watchlists
from sonant.store.times import from_us, to_us
from sonant.store.vault import Vault

#: A client token and a page token last this long.
TOKEN_LIFE = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A domain as stored: the texts are still sealed; `open_texts` opens them."""

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

    @property
    def arn(self) -> str:
        return domain_arn(self.region, self.account_id, self.domain_id)

    @property
    def active(self) -> bool:
        return self.status == "ACTIVE"

    def texts(self, vault: Vault) -> tuple[str, str | None]:
        """(name, description). Raises SealBroken."""
        return (
            vault.open("domain name", self.domain_id, self.name_sealed),
            None
            if self.description_sealed is None
            else vault.open("domain description", self.domain_id, self.description_sealed),
        )


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
) -> None:
    """A domain and its default watchlist."""
    moment = to_us(now)
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
            created_at=moment,
            updated_at=moment,
        )
    )
    connection.execute(
        insert(watchlists).values(
            watchlist_id=watchlist_id,
            domain_id=domain_id,
            is_default=True,
            name_sealed=vault.seal("watchlist name", watchlist_id, "DefaultWatchlist"),
            description_sealed=None,
            created_at=moment,
            updated_at=moment,
        )
    )


_DOMAIN = select(domains)
_FIND = _DOMAIN.where(
    domains.c.domain_id == bindparam("of_domain"),
    domains.c.account_id == bindparam("of_account"),
    domains.c.region == bindparam("of_region"),
)
_FIND_LOCKED = _FIND.with_for_update()
_BY_ID = _DOMAIN.where(domains.c.domain_id == bindparam("of_domain"))


def find(
    connection: Connection, account_id: str, region: str, domain_id: str, *, lock: bool = False
) -> Domain | None:
    """The domain, if it is this account's in this Region. `lock` serialises writers of one domain."""
    wanted = {"of_domain": domain_id, "of_account": account_id, "of_region": region}
    row = first_row(connection, _FIND_LOCKED if lock else _FIND, wanted)
    return None if row is None else _domain(row)


def find_by_id(connection: Connection, domain_id: str) -> Domain | None:
    row = first_row(connection, _BY_ID, {"of_domain": domain_id})
    return None if row is None else _domain(row)


def count_active(connection: Connection, account_id: str) -> int:
    query = select(func.count()).where(domains.c.account_id == account_id, domains.c.status == "ACTIVE")
    return connection.execute(query).scalar_one()


def page(
    connection: Connection, account_id: str, region: str, after: tuple[int, str] | None, limit: int
) -> list[Domain]:
    """Oldest first, ties by id; at most `limit` after the position `after`."""
    query = _DOMAIN.where(domains.c.account_id == account_id, domains.c.region == region)
    if after is not None:
        query = query.where(
            or_(
                domains.c.created_at > after[0],
                and_(domains.c.created_at == after[0], domains.c.domain_id > after[1]),
            )
        )
    query = query.order_by(domains.c.created_at, domains.c.domain_id).limit(limit)
    return [_domain(dict(row)) for row in connection.execute(query).mappings()]


def has_watchlist(connection: Connection, domain_id: str, watchlist_id: str) -> bool:
    query = select(watchlists.c.watchlist_id).where(
        watchlists.c.domain_id == domain_id, watchlists.c.watchlist_id == watchlist_id
    )
    return connection.execute(query).first() is not None


def find_client_token(connection: Connection, scope: str, now: datetime) -> tuple[str, str] | None:
    """(request hash, resource id) of a token used in the last 24 hours."""
    query = select(client_tokens.c.request_hash, client_tokens.c.resource_id).where(
        client_tokens.c.scope == scope, client_tokens.c.created_at > to_us(now - TOKEN_LIFE)
    )
    row = connection.execute(query).first()
    return None if row is None else (row.request_hash, row.resource_id)


def keep_client_token(
    connection: Connection, scope: str, request_hash: str, resource_id: str, now: datetime
) -> None:
    """Remember a token, and forget those that have run out."""
    connection.execute(delete(client_tokens).where(client_tokens.c.created_at <= to_us(now - TOKEN_LIFE)))
    connection.execute(
        insert(client_tokens).values(
            scope=scope, request_hash=request_hash, resource_id=resource_id, created_at=to_us(now)
        )
    )


def _domain(values: dict[str, Any]) -> Domain:
    values["created_at"] = from_us(values["created_at"])
    values["updated_at"] = from_us(values["updated_at"])
    return Domain(**values)
