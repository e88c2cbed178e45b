"""The page of one job: progress, why requests failed, what became of each, and the result as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from sonant.web.job_kinds import kind_of
from sonant.web.page import Download, OperationRefused, Page, PageRequest

PAGE_SIZE = 50
ACTIVE = ("SUBMITTED", "IN_PROGRESS")
#: Pages of a download: its table has at most this many hundred rows, and says so where there are more.
MOST_PAGES = 1000
_COLUMNS = (
    "RequestId",
    "SpeakerId",
    "GeneratedSpeakerId",
    "GeneratedFraudsterId",
    "Status",
    "ErrorCode",
    "ErrorMessage",
)
#: A table program takes cells that begin so for formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _read(request: PageRequest) -> Mapping[str, Any]:
    kind = kind_of(request, request.parameters["kind"])
    job = request.ask(kind.describe, JobId=request.parameters["id"])["Job"]
    shown = request.query.get("show", "FAILED")
    outcomes: dict[str, Any] | OperationRefused = request.try_ask(
        "ListJobOutcomes",
        JobId=job["JobId"],
        Outcome=shown,
        Reason=request.query.get("reason") if shown == "FAILED" else None,
        MaxResults=PAGE_SIZE,
        NextToken=request.query.get("after"),
    )
    config = job.get("EnrollmentConfig") or job.get("RegistrationConfig") or {}
    return {
        "kind": kind,
        "job": job,
        "active": job["JobStatus"] in ACTIVE,
        "config": config,
        "fraud": config.get("FraudDetectionConfig", {}),
        "outcomes": outcomes,
        "show": shown,
        "reason": request.query.get("reason", ""),
        "after": request.query.get("after"),
    }


def _table(request: PageRequest, outcome: str) -> Download:
    """Make a table of all requests of one outcome."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for one in _all_outcomes(request, outcome):
        writer.writerow([_cell(one.get(name)) for name in _COLUMNS])
    name = f"job-{request.parameters['id']}-{outcome.lower()}.csv"
    return Download(name=name, media_type="text/csv; charset=utf-8", content=text.getvalue().encode())


def _all_outcomes(request: PageRequest, outcome: str) -> Iterator[Mapping[str, Any]]:
    token = None
    for _ in range(MOST_PAGES):
        found = request.ask(
            "ListJobOutcomes", JobId=request.parameters["id"], Outcome=outcome, NextToken=token
        )
        yield from found["Outcomes"]
        token = found.get("NextToken")
        if token is None:
            return
    yield {"RequestId": "...", "ErrorMessage": "There are more; the result file has all."}


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


PAGE = Page(
    path="/console/{region}/{domain}/jobs/{kind}/{id}",
    template="job.html",
    read=_read,
    files={
        "/failed.csv": lambda request: _table(request, "FAILED"),
        "/succeeded.csv": lambda request: _table(request, "SUCCEEDED"),
    },
    section="Jobs",
)
