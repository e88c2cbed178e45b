"""DescribeFraudster, ListFraudsters, AssociateFraudster, DisassociateFraudster, DeleteFraudster."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from sonant.errors import Conflict, ResourceNotFound, Validation, require_room
from sonant.events.documents import Event, EventDomain, fraudster_event
from sonant.events.error_info import ErrorInfo
from sonant.operations.paging import paged
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.watchlists import require_watchlist
from sonant.storage.repositories import watchlists
from sonant.storage.repositories.watchlists import Fraudster


@operation
def describe_fraudster(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, _vault):
        return {"Fraudster": _member(_require(connection, domain.domain_id, request["FraudsterId"]))}


@operation
def list_fraudsters(service: Service, caller: Caller, request: Request) -> Answer:
    """List the fraudsters of the whole domain, or of one watchlist."""
    watchlist_id = request.get("WatchlistId")
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, _vault):
        if watchlist_id is not None:
            require_watchlist(connection, domain.domain_id, watchlist_id)
        items, next_token = paged(
            service,
            request,
            ("ListFraudsters", domain.domain_id, watchlist_id or ""),
            lambda after, limit: watchlists.page_fraudsters(
                connection, domain.domain_id, watchlist_id, after, limit
            ),
            lambda fraudster: (fraudster.created_at, fraudster.fraudster_id),
        )
        return {"FraudsterSummaries": [_member(item) for item in items], "NextToken": next_token}


@operation
def associate_fraudster(service: Service, caller: Caller, request: Request) -> Answer:
    """Put a fraudster on another watchlist; no change when it is on it already."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, _vault):
        fraudster = _require(connection, domain.domain_id, request["FraudsterId"])
        watchlist = require_watchlist(connection, domain.domain_id, request["WatchlistId"])
        if watchlist.watchlist_id not in fraudster.watchlist_ids:
            present = watchlists.size(connection, watchlist.watchlist_id)
            require_room(
                "fraudsters_per_watchlist", present, service.settings.quotas.fraudsters_per_watchlist
            )
            watchlists.associate(connection, fraudster.fraudster_id, watchlist.watchlist_id, service.clock())
        return {"Fraudster": _member(_require(connection, domain.domain_id, fraudster.fraudster_id))}


@operation
def disassociate_fraudster(service: Service, caller: Caller, request: Request) -> Answer:
    """Take a fraudster off a watchlist; it must stay on at least one."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, _vault):
        fraudster = _require(connection, domain.domain_id, request["FraudsterId"])
        watchlist = require_watchlist(connection, domain.domain_id, request["WatchlistId"])
        if watchlist.watchlist_id not in fraudster.watchlist_ids:
            raise Validation("The fraudster is not on this watchlist")
        if len(fraudster.watchlist_ids) == 1:
            if service.settings.last_watchlist_conflict:
                raise Conflict("FRAUDSTER_MUST_BELONG_TO_AT_LEAST_ONE_WATCHLIST")
            raise Validation(Conflict.TEXTS["FRAUDSTER_MUST_BELONG_TO_AT_LEAST_ONE_WATCHLIST"])
        watchlists.disassociate(connection, fraudster.fraudster_id, watchlist.watchlist_id)
        return {"Fraudster": _member(_require(connection, domain.domain_id, fraudster.fraudster_id))}


@operation
def delete_fraudster(service: Service, caller: Caller, request: Request) -> None:
    """Delete a fraudster, who leaves every watchlist."""

    def failed(_connection: Connection, domain: EventDomain, error: ErrorInfo) -> Event:
        return fraudster_event(domain, "DELETE_FRAUDSTER", fraudster_id=request["FraudsterId"], error=error)

    with (
        service.failure_events(caller, request["DomainId"], failed),
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, _vault),
    ):
        fraudster = _require(connection, domain.domain_id, request["FraudsterId"])
        watchlists.remove_fraudster(connection, fraudster.fraudster_id)
        event = fraudster_event(
            domain,
            "DELETE_FRAUDSTER",
            fraudster_id=fraudster.fraudster_id,
            watchlist_ids=fraudster.watchlist_ids,
        )
        service.outbox.put(connection, [event], service.clock())
    service.database.truncate_wal()


def _require(connection: Connection, domain_id: str, fraudster_id: str) -> Fraudster:
    fraudster = watchlists.find_fraudster(connection, domain_id, fraudster_id)
    if fraudster is None:
        raise ResourceNotFound("FRAUDSTER")
    return fraudster


def _member(fraudster: Fraudster) -> dict[str, Any]:
    return {
        "CreatedAt": fraudster.created_at,
        "DomainId": fraudster.domain_id,
        "GeneratedFraudsterId": fraudster.fraudster_id,
        "WatchlistIds": list(fraudster.watchlist_ids),
    }
