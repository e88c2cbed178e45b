"""The page of one call: what happened in it, what was decided, and on which speech."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sonant.web.page import Form, Page, PageRequest, SeeOther


def _read(request: PageRequest) -> Mapping[str, Any]:
    call = request.ask("DescribeSession", SessionNameOrId=_id(request))["Session"]
    voice, fraud = call.get("LatestAuthentication"), call.get("LatestFraudDetection")
    events = sorted(_events(call, voice or {}, fraud or {}), key=lambda event: float(event["at"]))
    return {"call": call, "voice": voice, "fraud": fraud, "events": events}


def _events(
    call: Mapping[str, Any], voice: Mapping[str, Any], fraud: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield what happened in a call, with its time in seconds since 1970."""
    for at, text, code in (
        (call["CreatedAt"], "The session was started", None),
        (call.get("StreamStartedAt"), "The first audio came", None),
        (voice.get("AudioStartedAt"), "The speech for authentication begins", None),
        (voice.get("AudioEndedAt"), "The speech for authentication ends", None),
        (voice.get("DecidedAt"), "Decision on the speaker", voice.get("Decision")),
        (fraud.get("AudioStartedAt"), "The speech for fraud detection begins", None),
        (fraud.get("AudioEndedAt"), "The speech for fraud detection ends", None),
        (fraud.get("DecidedAt"), "Decision on fraud", fraud.get("Decision")),
        (call.get("StreamEndedAt"), "The stream ended", call.get("StreamEndReason")),
    ):
        if at is not None:
            yield {"at": at, "text": text, "code": code}


def _end(request: PageRequest) -> SeeOther:
    request.ask("EndStream", SessionNameOrId=_id(request))
    return SeeOther(f"{request.base}/calls/{request.parameters['id']}", "stream-ended")


def _id(request: PageRequest) -> str:
    return f"id#{request.parameters['id']}"


PAGE = Page(
    path="/console/{region}/{domain}/calls/{id}",
    template="call.html",
    read=_read,
    forms={"/end": Form(submit=_end)},
    section="Calls",
)
