"""The page of a domain's jobs: lists by type and status, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.web.job_kinds import KINDS, kind_of
from sonant.web.page import Navigation, Page, PageRequest

PAGE_SIZE = 50
STATUSES = ("SUBMITTED", "IN_PROGRESS", "COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED")


def _read(request: PageRequest) -> Mapping[str, Any]:
    kind = kind_of(request, request.query.get("kind", "enrollment"))
    found = request.ask(
        kind.list,
        JobStatus=request.query.get("status"),
        MaxResults=PAGE_SIZE,
        NextToken=request.query.get("after"),
    )
    jobs = found["JobSummaries"]
    return {
        "kinds": KINDS.values(),
        "kind": kind,
        "statuses": STATUSES,
        "status": request.query.get("status", ""),
        "jobs": jobs,
        "next": found.get("NextToken"),
        "after": request.query.get("after"),
        "running": any(job["JobStatus"] in ("SUBMITTED", "IN_PROGRESS") for job in jobs),
    }


PAGE = Page(
    path="/console/{region}/{domain}/jobs",
    template="jobs.html",
    read=_read,
    navigation=Navigation("Jobs", 20),
)
