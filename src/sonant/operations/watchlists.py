"""CreateWatchlist, DescribeWatchlist, ListWatchlists, UpdateWatchlist, DeleteWatchlist."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from sonant.errors import Conflict, ResourceNotFound, Validation, require_room
from sonant.ids import new_id
from sonant.operations.erasure import Erasing
from sonant.operations.idempotency import client_token
from sonant.operations.paging import paged
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import watchlists


@operation
def create_watchlist(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        token = client_token(service, connection, caller, "CreateWatchlist", request)
        if token.found is not None:
            return {"Watchlist": _member(require_watchlist(connection, domain.domain_id, token.found), vault)}
        present = watchlists.count(connection, domain.domain_id)
        require_room("watchlists_per_domain", present, service.settings.quotas.watchlists_per_domain)
        watchlist_id = new_id()
        watchlists.create(
            connection,
            vault,
            watchlist_id=watchlist_id,
            domain_id=domain.domain_id,
            name=request["Name"],
            description=request.get("Description"),
            is_default=False,
            now=service.clock(),
        )
        token.keep(service, connection, watchlist_id)
        return {"Watchlist": _member(require_watchlist(connection, domain.domain_id, watchlist_id), vault)}


@operation
def describe_watchlist(service: Service, caller: Caller, request: Request) -> Answer:
    opened = service.open_domain(caller, request["DomainId"], write=False, snapshot=False)
    with opened as (connection, domain, vault):
        watchlist = require_watchlist(connection, domain.domain_id, request["WatchlistId"])
        return {"Watchlist": _member(watchlist, vault)}


@operation
def list_watchlists(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        items, next_token = paged(
            service,
            request,
            ("ListWatchlists", domain.domain_id),
            lambda after, limit: watchlists.page(connection, domain.domain_id, after, limit),
            lambda watchlist: (watchlist.created_at, watchlist.watchlist_id),
        )
        return {"WatchlistSummaries": [_member(item, vault) for item in items], "NextToken": next_token}


@operation
def update_watchlist(service: Service, caller: Caller, request: Request) -> Answer:
    """Change a watchlist; absent members stay as they are. The default list cannot be changed."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        watchlist = require_watchlist(connection, domain.domain_id, request["WatchlistId"])
        if watchlist.is_default:
            raise Validation("The default watchlist cannot be updated")
        watchlists.change(
            connection,
            vault,
            watchlist.watchlist_id,
            name=request.get("Name"),
            description=request.get("Description"),
            now=service.clock(),
        )
        changed = require_watchlist(connection, domain.domain_id, watchlist.watchlist_id)
        return {"Watchlist": _member(changed, vault)}


@operation
def delete_watchlist(service: Service, caller: Caller, request: Request) -> None:
    """Delete an empty watchlist other than the default one."""
    with (
        service.ledger_transaction() as ledger,
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
        ledger.before_commit(),
    ):
        watchlist = require_watchlist(connection, domain.domain_id, request["WatchlistId"])
        if watchlist.is_default:
            raise Validation("The default watchlist cannot be deleted")
        if watchlists.size(connection, watchlist.watchlist_id):
            raise Conflict("CANNOT_DELETE_NON_EMPTY_WATCHLIST")
        watchlists.remove(connection, watchlist.watchlist_id)
        erasing = Erasing(service=service, connection=connection, domain=domain, vault=vault, ledger=ledger)
        erasing.record_watchlist(watchlist.watchlist_id)
    service.fraud_indexes.forget_galleries(request["DomainId"])
    service.database.truncate_wal()


def require_watchlist(connection: Connection, domain_id: str, watchlist_id: str) -> watchlists.Watchlist:
    watchlist = watchlists.find(connection, domain_id, watchlist_id)
    if watchlist is None:
        raise ResourceNotFound("WATCHLIST")
    return watchlist


def _member(watchlist: watchlists.Watchlist, vault: Vault) -> dict[str, Any]:
    name, description = watchlist.texts(vault)
    return {
        "CreatedAt": watchlist.created_at,
        "DefaultWatchlist": watchlist.is_default,
        "Description": description,
        "DomainId": watchlist.domain_id,
        "Name": name,
        "UpdatedAt": watchlist.updated_at,
        "WatchlistId": watchlist.watchlist_id,
    }
