"""The first page: the domains of the user's account, in all Regions that the service serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sonant.web.page import OperationRefused, Page, PageRequest

#: AWS's most domains in one answer, and how many answers are read.
_PER_ANSWER, _MOST_ANSWERS = 10, 5


def _read(request: PageRequest) -> Mapping[str, Any]:
    regions = []
    for region in request.regions:
        try:
            domains, refused = list(_domains(request, region)), None
        except OperationRefused as error:
            domains, refused = [], error
        regions.append({"name": region, "domains": domains, "refused": refused})
    return {"regions": regions}


def _domains(request: PageRequest, region: str) -> Iterator[Mapping[str, Any]]:
    token = None
    for _ in range(_MOST_ANSWERS):
        found = request.ask_in(region, "ListDomains", MaxResults=_PER_ANSWER, NextToken=token)
        yield from found["DomainSummaries"]
        token = found.get("NextToken")
        if token is None:
            return


PAGE = Page(path="/console/", template="domains.html", read=_read)
