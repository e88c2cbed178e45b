"""The page of fraud: calls of a high risk, and the watchlists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.web.page import Form, Navigation, Page, PageError, PageRequest, SeeOther

ALERTS_SHOWN, PAGE_SIZE = 20, 50


def _read(request: PageRequest) -> Mapping[str, Any]:
    alerts = request.try_ask(
        "ListSessions",
        FraudDetectionDecision="HIGH_RISK",
        SortOrder="DESCENDING",
        MaxResults=ALERTS_SHOWN,
    )
    lists = request.ask("ListWatchlists", MaxResults=PAGE_SIZE, NextToken=request.query.get("after"))
    return {
        "alerts": alerts,
        "watchlists": lists["WatchlistSummaries"],
        "next": lists.get("NextToken"),
        "after": request.query.get("after"),
    }


def _create(request: PageRequest) -> SeeOther:
    if not request.form.get("name"):
        raise PageError(400, "Give the watchlist a name.")
    made = request.ask(
        "CreateWatchlist", Name=request.form["name"], Description=request.form.get("description") or None
    )
    return SeeOther(f"{request.base}/watchlists/{made['Watchlist']['WatchlistId']}", "list-created")


PAGE = Page(
    path="/console/{region}/{domain}/fraud",
    template="fraud.html",
    read=_read,
    forms={"/create": Form(submit=_create)},
    navigation=Navigation("Fraud", 40),
)
