"""The page of a deletion's receipt, to show and to keep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sonant.web.page import Download, Page, PageRequest


def _read(request: PageRequest) -> Mapping[str, Any]:
    text = _receipt(request)
    return {"speaker_id": _id(request), "receipt": json.loads(text), "text": text}


def _file(request: PageRequest) -> Download:
    name = f"receipt-{request.parameters['id']}.json"
    return Download(name=name, media_type="application/json", content=_receipt(request).encode())


def _receipt(request: PageRequest) -> str:
    return str(request.ask("DescribeDeletionReceipt", SpeakerId=_id(request))["Receipt"])


def _id(request: PageRequest) -> str:
    return f"id#{request.parameters['id']}"


PAGE = Page(
    path="/console/{region}/{domain}/receipts/{id}",
    template="receipt.html",
    read=_read,
    files={"/receipt.json": _file},
    section="Speakers",
)
