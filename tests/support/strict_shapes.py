"""Checks JSON values against the shapes of a service model, as strictly as the strictest typed client.

It checks responses, not requests: no member outside the model, no null for an absent member, no number for a
boolean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import strict_json
from botocore.model import Shape
from strict_json import under

Check = Callable[[Any, Any, str], list[str]]


def faults(shape: Shape, value: Any, path: str = "") -> list[str]:
    """List the faults of a value of this shape, each with path and reason.

    Raises KeyError for a shape of an unknown type.
    """
    if value is None and not getattr(shape, "is_document_type", False):
        return _at(path, ["null is sent; what is absent is left out"])
    return _CHECKS[shape.type_name](shape, value, path)


def assert_obeys(shape: Shape, value: Any) -> None:
    """Fail with all faults unless the value obeys the shape."""
    found = faults(shape, value)
    assert not found, "\n".join(found)


def _at(path: str, reasons: list[str]) -> list[str]:
    return [f"{path or 'the value'}: {reason}" for reason in reasons]


def _structure(shape: Any, value: Any, path: str) -> list[str]:
    if getattr(shape, "is_document_type", False):
        return []
    if type(value) is not dict:
        return _at(path, [f"{value!r} is no object"])
    members = {member.serialization.get("name", name): member for name, member in shape.members.items()}
    written = {name: shape.members[name].serialization.get("name", name) for name in shape.required_members}
    found = [
        fault
        for name in written.values()
        if name not in value
        for fault in _at(under(path, name), ["required and absent"])
    ]
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        found += _at(path, [f"a union holds one member, not {len(value)}"])
    for name, inner in value.items():
        if name not in members:
            found += _at(under(path, name), [f"{shape.name} has no such member"])
        else:
            found += faults(members[name], inner, under(path, name))
    return found


def _list(shape: Any, value: Any, path: str) -> list[str]:
    if type(value) is not list:
        return _at(path, [f"{value!r} is no list"])
    found = _at(path, _size(shape, value))
    for number, item in enumerate(value):
        found += faults(shape.member, item, f"{path}[{number}]")
    return found


def _map(shape: Any, value: Any, path: str) -> list[str]:
    if type(value) is not dict:
        return _at(path, [f"{value!r} is no object"])
    found = _at(path, _size(shape, value))
    for key, item in value.items():
        found += faults(shape.key, key, f"{path}, the key {key!r}")
        found += faults(shape.value, item, under(path, key))
    return found


def _size(shape: Any, value: Any) -> list[str]:
    least, most = _limits(shape, 0, math.inf)
    return [] if least <= len(value) <= most else [f"{len(value)} items, not {least} to {most}"]


def _string(shape: Any, value: Any, path: str) -> list[str]:
    if "jsonvalue" in shape.serialization:
        try:
            strict_json.read_json(value.encode())
        except (AttributeError, strict_json.NotStrict) as fault:
            return _at(path, [f"no JSON in a string: {fault}"])
        return []
    least, most = _limits(shape, 0, math.inf)
    pattern = shape.metadata.get("pattern")
    return _at(path, strict_json.text(value, int(least), most, pattern, shape.enum))


def _whole(bits: int, shape: Any, value: Any, path: str) -> list[str]:
    lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    least, most = _limits(shape, lowest, highest)
    return _at(path, strict_json.whole_number(value, max(least, lowest), min(most, highest)))


def _real(shape: Any, value: Any, path: str) -> list[str]:
    return _at(path, strict_json.number(value, *_limits(shape, -math.inf, math.inf)))


def _boolean(_shape: Any, value: Any, path: str) -> list[str]:
    return _at(path, strict_json.boolean(value))


def _blob(shape: Any, value: Any, path: str) -> list[str]:
    return _at(path, strict_json.blob(value, *_limits(shape, 0, math.inf)))


def _timestamp(shape: Any, value: Any, path: str) -> list[str]:
    """A number of seconds, unless the model names another form."""
    form = shape.serialization.get("timestampFormat", "unixTimestamp")
    if form == "unixTimestamp":
        return _at(path, strict_json.epoch_seconds(value))
    if form == "iso8601":
        return _at(path, strict_json.text(value, pattern=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"))
    try:
        parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return _at(path, [f"{value!r} is no date of RFC 822"])
    return []


def _limits(shape: Any, least: Any, most: Any) -> tuple[Any, Any]:
    return shape.metadata.get("min", least), shape.metadata.get("max", most)


_CHECKS: Mapping[str, Check] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "character": _string,
    "blob": _blob,
    "boolean": _boolean,
    "byte": partial(_whole, 8),
    "short": partial(_whole, 16),
    "integer": partial(_whole, 32),
    "long": partial(_whole, 64),
    "float": _real,
    "double": _real,
    "timestamp": _timestamp,
}
