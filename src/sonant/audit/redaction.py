"""Redacts requests and responses for the audit trail, by the flags of the service model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"

#: Longer texts are cut.
_MAX_CHARACTERS = 2048
#: Further items of a list are left out.
_MAX_ITEMS = 100

Redact = Callable[[Any], Any]


def compile_redaction(shape: Any) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Compile a botocore structure shape into a function that redacts its values.

    Members become lowerCamelCase. Sensitive values, lists of them and all blobs become `HIDDEN`; times become
    text. Members that are not in the model are left out.
    """
    redact: Callable[[Mapping[str, Any]], dict[str, Any]] = _structure(shape)
    return redact


def time_text(time: datetime) -> str:
    """Return a time as in CloudTrail's responses: `Aug 17, 2021, 1:55:40 AM`."""
    return f"{time:%b} {time.day}, {time.year}, {time.hour % 12 or 12}:{time:%M:%S} {time:%p}"


def _redaction(shape: Any) -> Redact | None:
    """Return the function for a shape; None for values that are not changed."""
    if shape.metadata.get("sensitive") or shape.type_name == "blob":
        return _hidden
    match shape.type_name:
        case "structure":
            return _structure(shape)
        case "list":
            return _list(shape)
        case "map":
            return _map(shape)
        case "timestamp":
            return time_text
        case "string":
            return _cut
        case _:
            return None


def _hidden(_value: Any) -> str:
    return HIDDEN


def _cut(value: str) -> str:
    return value if len(value) <= _MAX_CHARACTERS else value[:_MAX_CHARACTERS] + "…"


def _structure(shape: Any) -> Redact:
    members = tuple(
        (name, name[:1].lower() + name[1:], _redaction(member)) for name, member in shape.members.items()
    )

    def redact_structure(value: Mapping[str, Any]) -> dict[str, Any]:
        shown = {}
        for name, shown_name, redact in members:
            member = value.get(name)
            if member is not None:
                shown[shown_name] = member if redact is None else redact(member)
        return shown

    return redact_structure


def _list(shape: Any) -> Redact:
    redact_item = _redaction(shape.member)
    if redact_item is _hidden:
        return _hidden
    if redact_item is None:
        return lambda value: list(value[:_MAX_ITEMS])
    return lambda value: [redact_item(item) for item in value[:_MAX_ITEMS]]


def _map(shape: Any) -> Redact:
    redact_value = _redaction(shape.value)
    if _redaction(shape.key) is _hidden or redact_value is _hidden:
        return _hidden
    if redact_value is None:
        return lambda value: dict(list(value.items())[:_MAX_ITEMS])
    return lambda value: {key: redact_value(item) for key, item in list(value.items())[:_MAX_ITEMS]}
