"""What the audit trail may show of a request or an answer, derived from the service model's own flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"

#: Longest text shown; what is longer is cut.
_MOST_CHARACTERS = 2048
#: Items of a list that are shown.
_MOST_ITEMS = 100

View = Callable[[Any], Any]


def compile_view(shape: Any) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Compile a botocore structure shape into a function from its value to what may be shown of it.

    Members are in lowerCamelCase; sensitive shapes and all blobs are replaced by one fixed word; lists of
    sensitive values become that word once; times become text. Members that the model does not know are left
    out.
    """
    view: Callable[[Mapping[str, Any]], dict[str, Any]] = _structure(shape)
    return view


def moment(time: datetime) -> str:
    """A time as CloudTrail shows it in answers: `Aug 17, 2021, 1:55:40 AM`."""
    return f"{time:%b} {time.day}, {time.year}, {time.hour % 12 or 12}:{time:%M:%S} {time:%p}"


def _view(shape: Any) -> View | None:
    """None where the value may be shown as it is."""
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
            return moment
        case "string":
            return _cut
        case _:
            return None


def _hidden(_value: Any) -> str:
    return HIDDEN


def _cut(value: str) -> str:
    return value if len(value) <= _MOST_CHARACTERS else value[:_MOST_CHARACTERS] + "…"


def _structure(shape: Any) -> View:
    members = tuple(
        (name, name[:1].lower() + name[1:], _view(member)) for name, member in shape.members.items()
    )

    def view(value: Mapping[str, Any]) -> dict[str, Any]:
        shown = {}
        for name, told, view_member in members:
            member = value.get(name)
            if member is not None:
                shown[told] = member if view_member is None else view_member(member)
        return shown

    return view


def _list(shape: Any) -> View:
    view_item = _view(shape.member)
    if view_item is _hidden:
        return _hidden
    if view_item is None:
        return lambda value: list(value[:_MOST_ITEMS])
    return lambda value: [view_item(item) for item in value[:_MOST_ITEMS]]


def _map(shape: Any) -> View:
    view_value = _view(shape.value)
    if _view(shape.key) is _hidden or view_value is _hidden:
        return _hidden
    if view_value is None:
        return lambda value: dict(list(value.items())[:_MOST_ITEMS])
    return lambda value: {key: view_value(item) for key, item in list(value.items())[:_MOST_ITEMS]}
