"""The page of one watchlist: its fraudsters, its name, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.web.page import Form, Page, PageError, PageRequest, SeeOther

PAGE_SIZE = 50


def _read(request: PageRequest) -> Mapping[str, Any]:
    watchlist_id = request.parameters["id"]
    watchlist = request.ask("DescribeWatchlist", WatchlistId=watchlist_id)["Watchlist"]
    found = request.try_ask(
        "ListFraudsters",
        WatchlistId=watchlist_id,
        MaxResults=PAGE_SIZE,
        NextToken=request.query.get("after"),
    )
    return {"watchlist": watchlist, "found": found, "after": request.query.get("after")}


def _change(request: PageRequest) -> SeeOther:
    if not request.form.get("name"):
        raise PageError(400, "Give the watchlist a name.")
    request.ask(
        "UpdateWatchlist",
        WatchlistId=request.parameters["id"],
        Name=request.form["name"],
        Description=request.form.get("description") or None,
    )
    return SeeOther(f"{request.base}/watchlists/{request.parameters['id']}", "list-changed")


def _delete(request: PageRequest) -> SeeOther:
    request.ask("DeleteWatchlist", WatchlistId=request.parameters["id"])
    return SeeOther(f"{request.base}/fraud", "list-deleted")


PAGE = Page(
    path="/console/{region}/{domain}/watchlists/{id}",
    template="watchlist.html",
    read=_read,
    forms={"/change": Form(submit=_change), "/delete": Form(submit=_delete, destroys=True)},
    section="Fraud",
)
