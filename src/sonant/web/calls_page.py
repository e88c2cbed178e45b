"""The page of a domain's calls: search by the decisions that were made, the state and the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.web.form_times import read_time
from sonant.web.page import Form, Navigation, Page, PageError, PageRequest, SeeOther, path_id

PAGE_SIZE = 50
#: The filters, by field: the member of ListSessions, and its values.
FILTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "status": ("StreamingStatus", ("PENDING_CONFIGURATION", "ONGOING", "ENDED")),
    "voice": (
        "AuthenticationDecision",
        (
            "ACCEPT",
            "REJECT",
            "NOT_ENOUGH_SPEECH",
            "SPEAKER_NOT_ENROLLED",
            "SPEAKER_OPTED_OUT",
            "SPEAKER_EXPIRED",
            "SPEAKER_ID_NOT_PROVIDED",
        ),
    ),
    "fraud": ("FraudDetectionDecision", ("HIGH_RISK", "LOW_RISK", "NOT_ENOUGH_SPEECH")),
    "reason": ("FraudDetectionReason", ("KNOWN_FRAUDSTER", "VOICE_SPOOFING")),
}
TIMES: Mapping[str, str] = {"from": "CreatedAfter", "to": "CreatedBefore"}


def _read(request: PageRequest) -> Mapping[str, Any]:
    chosen = {name: request.query[name] for name in (*FILTERS, *TIMES) if name in request.query}
    members: dict[str, Any] = {FILTERS[name][0]: value for name, value in chosen.items() if name in FILTERS}
    members |= {TIMES[name]: read_time(value) for name, value in chosen.items() if name in TIMES}
    found = request.ask(
        "ListSessions",
        SortOrder="DESCENDING",
        MaxResults=PAGE_SIZE,
        NextToken=request.query.get("after"),
        **members,
    )
    return {
        "filters": {name: values for name, (_, values) in FILTERS.items()},
        "chosen": chosen,
        "calls": found["SessionSummaries"],
        "next": found.get("NextToken"),
        "after": request.query.get("after"),
    }


def _find(request: PageRequest) -> SeeOther:
    """Go to a call by its name or id."""
    wanted = request.form.get("name", "")
    if not wanted:
        raise PageError(400, "Give the name or the id of a call.")
    session = request.ask("DescribeSession", SessionNameOrId=wanted)["Session"]
    return SeeOther(f"{request.base}/calls/{path_id(session['SessionId'])}")


PAGE = Page(
    path="/console/{region}/{domain}/calls",
    template="calls.html",
    read=_read,
    forms={"/find": Form(submit=_find)},
    navigation=Navigation("Calls", 15),
)
