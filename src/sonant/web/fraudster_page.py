"""The page of one fraudster: the watchlists, and deletion with a receipt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.web.page import Form, OperationRefused, Page, PageRequest, SeeOther


def _read(request: PageRequest) -> Mapping[str, Any]:
    fraudster = request.ask("DescribeFraudster", FraudsterId=_id(request))["Fraudster"]
    lists = request.try_ask("ListWatchlists", MaxResults=100)
    known = [] if isinstance(lists, OperationRefused) else lists["WatchlistSummaries"]
    on = set(fraudster["WatchlistIds"])
    return {
        "fraudster": fraudster,
        "names": {one["WatchlistId"]: one["Name"] for one in known},
        "others": [one for one in known if one["WatchlistId"] not in on],
    }


def _add(request: PageRequest) -> SeeOther:
    request.ask("AssociateFraudster", FraudsterId=_id(request), WatchlistId=request.form.get("watchlist"))
    return SeeOther(_path(request), "fraudster-added")


def _remove(request: PageRequest) -> SeeOther:
    request.ask("DisassociateFraudster", FraudsterId=_id(request), WatchlistId=request.form.get("watchlist"))
    return SeeOther(_path(request), "fraudster-removed")


def _delete(request: PageRequest) -> SeeOther:
    request.ask("DeleteFraudster", FraudsterId=_id(request))
    receipt = request.try_ask("DescribeDeletionReceipt", SpeakerId=_id(request))
    if isinstance(receipt, OperationRefused):
        return SeeOther(f"{request.base}/fraud", "fraudster-deleted")
    return SeeOther(f"{request.base}/receipts/{request.parameters['id']}", "fraudster-deleted")


def _id(request: PageRequest) -> str:
    return f"id#{request.parameters['id']}"


def _path(request: PageRequest) -> str:
    return f"{request.base}/fraudsters/{request.parameters['id']}"


PAGE = Page(
    path="/console/{region}/{domain}/fraudsters/{id}",
    template="fraudster.html",
    read=_read,
    forms={
        "/add": Form(submit=_add),
        "/remove": Form(submit=_remove),
        "/delete": Form(submit=_delete, destroys=True),
    },
    section="Fraud",
)
