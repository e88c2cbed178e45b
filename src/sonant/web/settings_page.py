"""The page of the settings in force, and of the keys with their ages; nothing can be changed there."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from sonant.web.page import Navigation, OperationRefused, Page, PageRequest


def _read(request: PageRequest) -> Mapping[str, Any]:
    keys: dict[str, Any] | OperationRefused
    try:
        keys = request.ask_in(request.region, "ListKeys")
    except OperationRefused as refused:
        keys = refused
    try:
        settings = request.ask_in(request.region, "ListSettings")["Settings"]
    except OperationRefused as refused:
        return {"keys": keys, "groups": [], "refused": refused, "changed": False}
    changed = "changed" in request.query
    shown = [one for one in settings if one["IsChanged"] or not changed]
    grouped = groupby(shown, key=lambda one: one["Name"].rpartition(".")[0])
    groups = [(name or "general", list(members)) for name, members in grouped]
    return {"keys": keys, "groups": groups, "refused": None, "changed": changed}


PAGE = Page(
    path="/console/{region}/{domain}/settings",
    template="settings.html",
    read=_read,
    navigation=Navigation("Settings", 80),
)
