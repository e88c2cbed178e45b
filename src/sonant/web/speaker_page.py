"""The page of one speaker: status, consents, calls; opting out, deletion with a receipt, unlock, export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sonant.web.form_times import read_time
from sonant.web.page import Download, Form, OperationRefused, Page, PageRequest, SeeOther

CALLS_SHOWN, CONSENTS_SHOWN = 50, 20


def _read(request: PageRequest) -> Mapping[str, Any]:
    speaker = request.ask("DescribeSpeaker", SpeakerId=_id(request))["Speaker"]
    calls = request.try_ask(
        "ListSessions",
        SpeakerId=speaker["GeneratedSpeakerId"],
        SortOrder="DESCENDING",
        MaxResults=CALLS_SHOWN,
        NextToken=request.query.get("after"),
    )
    consents = request.try_ask("ListConsents", SpeakerId=_id(request), MaxResults=CONSENTS_SHOWN)
    after = request.query.get("after")
    return {"speaker": speaker, "calls": calls, "consents": consents, "after": after}


def _record_consent(request: PageRequest) -> SeeOther:
    terms = ("TextHash", "TextVersion", "Purpose", "Channel", "Evidence")
    request.ask(
        "PutConsent",
        SpeakerId=_id(request),
        ExpiresAt=read_time(request.form["until"]) if request.form.get("until") else None,
        **{name: request.form.get(name) or None for name in terms},
    )
    return SeeOther(_path(request), "consent-recorded")


def _withdraw_consent(request: PageRequest) -> SeeOther:
    request.ask("WithdrawConsent", SpeakerId=_id(request))
    return SeeOther(_path(request), "consent-withdrawn")


def _opt_out(request: PageRequest) -> SeeOther:
    request.ask("OptOutSpeaker", SpeakerId=_id(request))
    return SeeOther(_path(request), "opted-out")


def _delete(request: PageRequest) -> SeeOther:
    """Delete the speaker, and go on to the receipt where there is one."""
    request.ask("DeleteSpeaker", SpeakerId=_id(request))
    receipt = request.try_ask("DescribeDeletionReceipt", SpeakerId=_id(request))
    if isinstance(receipt, OperationRefused):
        return SeeOther(f"{request.base}/speakers", "deleted-without-receipt")
    return SeeOther(f"{request.base}/receipts/{request.parameters['id']}", "deleted")


def _unlock(request: PageRequest) -> SeeOther:
    request.ask("UnlockSpeaker", SpeakerId=_id(request))
    return SeeOther(_path(request), "unlocked")


def _export(request: PageRequest) -> Download:
    document = request.ask("ExportSpeaker", SpeakerId=_id(request))
    return Download(
        name=f"speaker-{request.parameters['id']}.json",
        media_type="application/json",
        content=json.dumps(document, indent=2, ensure_ascii=False).encode(),
    )


def _id(request: PageRequest) -> str:
    return f"id#{request.parameters['id']}"


def _path(request: PageRequest) -> str:
    return f"{request.base}/speakers/{request.parameters['id']}"


PAGE = Page(
    path="/console/{region}/{domain}/speakers/{id}",
    template="speaker.html",
    read=_read,
    forms={
        "/opt-out": Form(submit=_opt_out, destroys=True),
        "/delete": Form(submit=_delete, destroys=True),
        "/unlock": Form(submit=_unlock),
        "/record-consent": Form(submit=_record_consent),
        "/withdraw-consent": Form(submit=_withdraw_consent, destroys=True),
    },
    files={"/export.json": _export},
    section="Speakers",
)
