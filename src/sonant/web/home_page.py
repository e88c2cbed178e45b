"""The overview of a domain: calls now, decisions and risks of the last day, and the latest jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sonant.web.job_kinds import KINDS
from sonant.web.page import Navigation, OperationRefused, Page, PageRequest

CALLS_SHOWN = 8
JOBS_SHOWN = 5
#: Decisions that have a colour of their own; all others are the rest.
_VOICE = (("ACCEPT", "good"), ("REJECT", "bad"), ("NOT_ENOUGH_SPEECH", "wait"))
_FRAUD = (("LOW_RISK", "good"), ("HIGH_RISK", "bad"), ("NOT_ENOUGH_SPEECH", "wait"))


@dataclass(frozen=True, slots=True)
class Series:
    """One decision of a chart: calls by hour."""

    name: str
    tone: str
    values: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.values)


def _read(request: PageRequest) -> Mapping[str, Any]:
    activity = request.try_ask("DescribeActivity")
    calls = request.try_ask(
        "ListSessions", StreamingStatus="ONGOING", SortOrder="DESCENDING", MaxResults=CALLS_SHOWN
    )
    values: dict[str, Any] = {"activity": activity, "calls": calls, "voice": (), "fraud": (), "reasons": ()}
    if not isinstance(activity, OperationRefused):
        hours = activity["Hours"]
        values["voice"] = _series(hours, "AuthenticationDecisions", _VOICE)
        values["fraud"] = _series(hours, "FraudDetectionDecisions", _FRAUD)
        values["reasons"] = _series(
            hours, "FraudDetectionReasons", (("KNOWN_FRAUDSTER", "bad"), ("VOICE_SPOOFING", "bad"))
        )[:2]
        values["active"] = activity["ActiveSessions"]
    jobs = [(kind, request.try_ask(kind.list, MaxResults=JOBS_SHOWN)) for kind in KINDS.values()]
    seen = [
        {**job, "kind": kind}
        for kind, found in jobs
        if not isinstance(found, OperationRefused)
        for job in found["JobSummaries"]
    ]
    seen.sort(key=lambda job: -job["CreatedAt"])
    refused = next((found for _, found in jobs if isinstance(found, OperationRefused)), None)
    return {**values, "jobs": seen[:JOBS_SHOWN], "jobs_refused": refused}


def _series(
    hours: Sequence[Mapping[str, Any]], member: str, known: Sequence[tuple[str, str]]
) -> tuple[Series, ...]:
    """Return the series of the decisions that have a colour, and one of the rest."""
    counts = [{one["Name"]: one["Calls"] for one in hour.get(member, ())} for hour in hours]
    series = [Series(name, tone, tuple(hour.get(name, 0) for hour in counts)) for name, tone in known]
    names = {name for name, _ in known}
    rest = tuple(sum(calls for name, calls in hour.items() if name not in names) for hour in counts)
    return (*series, Series("OTHER", "rest", rest))


PAGE = Page(
    path="/console/{region}/{domain}",
    template="home.html",
    read=_read,
    navigation=Navigation("Overview", 10),
)
