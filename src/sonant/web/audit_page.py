"""The page of the audit trail: who did what, newest first, and whether the trail is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sonant.web.form_times import read_time
from sonant.web.page import Download, Navigation, Page, PageRequest

PAGE_SIZE = 50
#: Answers that a download reads.
MOST_ANSWERS = 200
_TEXTS = {"operation": "Operation", "principal": "Principal"}
_TIMES = {"from": "StartedAfter", "to": "StartedBefore"}


def _read(request: PageRequest) -> Mapping[str, Any]:
    found = request.ask_in(
        request.region,
        "ListAuditRecords",
        MaxResults=PAGE_SIZE,
        NextToken=request.query.get("after"),
        **_members(request),
    )
    check = request.ask_in(request.region, "DescribeAuditTrail") if "verify" in request.query else None
    names = (*_TEXTS, *_TIMES, "failed", "all")
    return {
        "records": [{**record, "document": json.loads(record["Record"])} for record in found["Records"]],
        "chosen": {name: request.query[name] for name in names if name in request.query},
        "next": found.get("NextToken"),
        "after": request.query.get("after"),
        "check": check,
    }


def _members(request: PageRequest) -> dict[str, Any]:
    """Return the members of the search; without `all`, only calls on the page's domain."""
    query = request.query
    members: dict[str, Any] = {_TEXTS[name]: query[name] for name in _TEXTS if name in query}
    members |= {_TIMES[name]: read_time(query[name]) for name in _TIMES if name in query}
    if "failed" in query:
        members["OnlyFailed"] = True
    return members if "all" in query else {**members, "Resource": request.domain_id}


def _export(request: PageRequest) -> Download:
    """Make a file of the whole records, one a line, as the trail has them."""
    lines = "".join(f"{record['Record']}\n" for record in _all(request))
    return Download(name="audit.jsonl", media_type="application/x-ndjson", content=lines.encode())


def _all(request: PageRequest) -> Iterator[Mapping[str, Any]]:
    token = None
    for _ in range(MOST_ANSWERS):
        found = request.ask_in(request.region, "ListAuditRecords", NextToken=token, **_members(request))
        yield from found["Records"]
        token = found.get("NextToken")
        if token is None:
            return


PAGE = Page(
    path="/console/{region}/{domain}/audit",
    template="audit.html",
    read=_read,
    files={"/audit.jsonl": _export},
    navigation=Navigation("Audit", 60),
)
