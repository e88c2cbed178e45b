"""The page of users and roles: their policies, and the ages of their access keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sonant.web.page import Navigation, Page, PageRequest

PAGE_SIZE = 50
#: An access key that is older is shown as due.
KEY_DUE_DAYS = 90


def _read(request: PageRequest) -> Mapping[str, Any]:
    found = request.ask_in(
        request.region, "ListPrincipals", MaxResults=PAGE_SIZE, NextToken=request.query.get("after")
    )
    return {
        "principals": [_shown(one) for one in found["Principals"]],
        "due_before": request.now.timestamp() - KEY_DUE_DAYS * 86_400,
        "due_days": KEY_DUE_DAYS,
        "next": found.get("NextToken"),
        "after": request.query.get("after"),
    }


def _shown(principal: Mapping[str, Any]) -> Mapping[str, Any]:
    kind, _, name = principal["Arn"].rpartition(":")[2].partition("/")
    policies = [json.dumps(json.loads(text), indent=2) for text in principal.get("Policies", ())]
    return {**principal, "kind": kind, "name": name, "policies": policies}


PAGE = Page(
    path="/console/{region}/{domain}/access",
    template="access.html",
    read=_read,
    navigation=Navigation("Access", 70),
)
