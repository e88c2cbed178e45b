"""The form of events, read from `schema.json` (JSON Schema 2020-12), which every writer of them goes by.

The schema gives each member's place, and whether one without a value is told as null or left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCHEMA: Mapping[str, Any] = json.loads(files(__package__).joinpath("schema.json").read_text())

_DEFINITIONS = "#/$defs/"
#: What holds for the events of each detail type.
_TYPES: Mapping[str, Mapping[str, Any]] = {
    one["if"]["properties"]["detail-type"]["const"]: one["then"]["properties"] for one in SCHEMA["allOf"]
}


def source_of(detail_type: str) -> str:
    """The source that events of a detail type name."""
    return str(_TYPES[detail_type]["source"]["const"])


def in_form(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document with its members in the schema's order, and null for every required one that has no value.

    Raises ValueError for a member that the schema does not know. Types and values are not looked at.
    """
    placed = _placed(document, SCHEMA)
    detail = _placed(document["detail"], _TYPES[document["detail-type"]]["detail"])
    return {**placed, "detail": detail}


def _placed(value: Any, schema: Mapping[str, Any]) -> Any:
    schema = _resolved(schema)
    if isinstance(value, list) and "items" in schema:
        return [_placed(one, schema["items"]) for one in value]
    if not isinstance(value, Mapping) or "properties" not in schema:
        return value
    properties = schema["properties"]
    if unknown := value.keys() - properties.keys():
        raise ValueError(f"the schema of events has no member {', '.join(sorted(unknown))} here")
    return {
        name: None if value.get(name) is None else _placed(value[name], known)
        for name, known in properties.items()
        if value.get(name) is not None or name in schema["required"]
    }


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself, of one that is a reference or is one of a schema and null."""
    if "anyOf" in schema:
        return _resolved(schema["anyOf"][0])
    if "$ref" in schema:
        return _resolved(SCHEMA["$defs"][schema["$ref"].removeprefix(_DEFINITIONS)])
    return schema
