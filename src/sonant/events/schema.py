"""The schema of events, read from `schema.json` (JSON Schema 2020-12).

It gives the order of members, and whether a member without a value is null or omitted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCHEMA: Mapping[str, Any] = json.loads(files(__package__).joinpath("schema.json").read_text())

_DEFINITIONS = "#/$defs/"
#: The part of the schema for each detail type.
_TYPES: Mapping[str, Mapping[str, Any]] = {
    one["if"]["properties"]["detail-type"]["const"]: one["then"]["properties"] for one in SCHEMA["allOf"]
}


def source_of(detail_type: str) -> str:
    """Return the source of events of a detail type."""
    return str(_TYPES[detail_type]["source"]["const"])


def normalize(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with its members in the schema's order, and null for required ones without a value.

    Raises ValueError for a member that is not in the schema. Types and values are not checked.
    """
    ordered = _ordered(document, SCHEMA)
    detail = _ordered(document["detail"], _TYPES[document["detail-type"]]["detail"])
    return {**ordered, "detail": detail}


def _ordered(value: Any, schema: Mapping[str, Any]) -> Any:
    schema = _resolved(schema)
    if isinstance(value, list) and "items" in schema:
        return [_ordered(one, schema["items"]) for one in value]
    if not isinstance(value, Mapping) or "properties" not in schema:
        return value
    properties = schema["properties"]
    if unknown := value.keys() - properties.keys():
        raise ValueError(f"the schema of events has no member {', '.join(sorted(unknown))} here")
    return {
        name: None if value.get(name) is None else _ordered(value[name], known)
        for name, known in properties.items()
        if value.get(name) is not None or name in schema["required"]
    }


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference, or take the schema out of `anyOf` a schema and null."""
    if "anyOf" in schema:
        return _resolved(schema["anyOf"][0])
    if "$ref" in schema:
        return _resolved(SCHEMA["$defs"][schema["$ref"].removeprefix(_DEFINITIONS)])
    return schema
