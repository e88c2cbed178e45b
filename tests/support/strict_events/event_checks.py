"""The check that every event of every test goes through, whichever process makes it."""

from __future__ import annotations

import json
from functools import cache
from types import ModuleType
from typing import Any

#: Members that came with watchlists: told where there is something to tell, left out otherwise.
LATER = ("watchlistId", "watchlistIds")


class BadEvent(AssertionError):
    """An event that is not in the form of the schema."""


def check(document: dict[str, Any]) -> None:
    """Raises BadEvent: members, their order, types, words and ids are those of the schema."""
    from sonant.events.schema import normalize

    faults = [
        f"{fault.json_path}: {fault.message}"
        for fault in _validator(str(document.get("detail-type"))).iter_errors(document)
    ]
    if not faults and json.dumps(normalize(document)) != json.dumps(document):
        faults = ["members are missing, or out of their order"]
    if faults:
        raise BadEvent(f"{document.get('detail-type')}: {'; '.join(faults)}\n{json.dumps(document)}")


def put_on(outbox: ModuleType) -> None:
    """Have the outbox take no event that fails the check."""
    make = outbox.document
    if getattr(make, "checked", False):
        return

    def checked(*arguments: Any) -> dict[str, Any]:
        made: dict[str, Any] = make(*arguments)
        check(made)
        return made

    checked.checked = True  # type: ignore[attr-defined]
    outbox.document = checked  # type: ignore[attr-defined]


@cache
def _validator(detail_type: str) -> Any:
    """The schema for events of a type; looking at the parts for other types would take most of the time."""
    from jsonschema import Draft202012Validator

    from sonant.events.schema import SCHEMA

    def counts(part: Any) -> bool:
        return "else" in part or part["if"]["properties"]["detail-type"]["const"] == detail_type

    return Draft202012Validator({**SCHEMA, "allOf": [part for part in SCHEMA["allOf"] if counts(part)]})
