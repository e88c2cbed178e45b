"""Sample values of a service model's shapes, which satisfy all constraints of the model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sonant.errors import SetupError
from sonant.gateway.models import Shape
from sonant.gateway.scalars import Fault, string

_ID = "AbCdEfGhIjKlMnOpQrStUv"

#: Candidates for strings, after the member's own name; the first that the shape accepts is used.
_TEXTS = (
    _ID,
    f"id#{_ID}",
    f"arn:aws:voiceid:us-east-1:000000000000:domain/{_ID}",
    "arn:aws:iam::000000000000:role/sonant",
    "s3://bucket/folder/file.json",
    "arn:aws:connect:us-east-1:000000000000:instance/sample/contact/sample",
    "0" * 64,
    "",
)


def sample(shape: Shape, name: str = "") -> Any:
    """Make a value of the shape, as an operation would return it: every member present, lists of one item.

    Raises SetupError for a string shape that accepts none of the candidates.
    """
    match shape.type_name:
        case "structure":
            return {member: sample(inner, member) for member, inner in shape.members.items()}
        case "list":
            return [sample(shape.member, name)]
        case "map":
            return {sample(shape.key, "Key"): sample(shape.value, "Value")}
        case "string":
            return _text(shape, name)
        case "integer" | "long":
            return int(shape.metadata.get("min", 0))
        case "float" | "double":
            return float(shape.metadata.get("min", 0.0))
        case "boolean":
            return True
        case "blob":
            return b"sample"
        case "timestamp":
            return datetime(1970, 1, 1, tzinfo=UTC)
        case other:
            raise SetupError(f"there is no sample value for the type {other} of {shape.name}")


def _text(shape: Shape, name: str) -> str:
    if shape.enum:
        return str(shape.enum[0])
    check = string(shape)
    for text in (name, *_TEXTS):
        faults: list[Fault] = []
        check(text, faults)
        if not faults:
            return text
    raise SetupError(f"there is no sample value for {shape.name}")
