"""The first page: the domains of the user's account, in all Regions that the service serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.web.page import OperationRefused, Page, PageRequest


def _read(request: PageRequest) -> Mapping[str, Any]:
    regions = []
    for region in request.regions:
        token, domains = None, list[dict[str, Any]]()
        refused: OperationRefused | None = None
        try:
            found = request.ask_in(region, "ListDomains", MaxResults=100, NextToken=token)
            domains = found["DomainSummaries"]
        except OperationRefused as error:
            refused = error
        regions.append({"name": region, "domains": domains, "refused": refused})
    return {"regions": regions}


PAGE = Page(path="/console/", template="domains.html", read=_read)
