"""The page of a domain's speakers: search by id, and the list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.web.page import (
    Form,
    Navigation,
    OperationRefused,
    Page,
    PageError,
    PageRequest,
    SeeOther,
    path_id,
)

PAGE_SIZE = 50


def _read(request: PageRequest) -> Mapping[str, Any]:
    listed = request.ask("ListSpeakers", MaxResults=PAGE_SIZE, NextToken=request.query.get("after"))
    return {
        "speakers": listed["SpeakerSummaries"],
        "next": listed.get("NextToken"),
        "after": request.query.get("after"),
    }


def _find(request: PageRequest) -> SeeOther:
    """Go to a speaker. A form and no link, so that customers' ids stand in no address and no log."""
    wanted = request.form.get("id", "")
    if not wanted:
        raise PageError(400, "Give the id of a speaker.")
    try:
        speaker = request.ask("DescribeSpeaker", SpeakerId=wanted)["Speaker"]
    except OperationRefused as refused:
        if refused.code != "ResourceNotFoundException":
            raise
        raise PageError(
            404,
            f"There is no speaker {wanted}. Ids are compared exactly, upper and lower case included.",
        ) from None
    return SeeOther(f"{request.base}/speakers/{path_id(speaker['GeneratedSpeakerId'])}")


PAGE = Page(
    path="/console/{region}/{domain}/speakers",
    template="speakers.html",
    read=_read,
    forms={"/find": Form(submit=_find)},
    navigation=Navigation("Speakers", 30),
)
