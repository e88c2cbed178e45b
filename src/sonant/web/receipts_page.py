"""The page that gives the receipt of an earlier deletion by the person's id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.web.page import Download, Form, Page, PageError, PageRequest


def _read(_request: PageRequest) -> Mapping[str, Any]:
    return {}


def _find(request: PageRequest) -> Download:
    """Give the receipt. A form and no link, so that customers' ids stand in no address and no log."""
    wanted = request.form.get("id", "")
    if not wanted:
        raise PageError(400, "Give the id of the person who was deleted.")
    receipt = str(request.ask("DescribeDeletionReceipt", SpeakerId=wanted)["Receipt"])
    return Download(name="deletion-receipt.json", media_type="application/json", content=receipt.encode())


PAGE = Page(
    path="/console/{region}/{domain}/receipts",
    template="receipts.html",
    read=_read,
    forms={"/find": Form(submit=_find)},
    section="Speakers",
)
