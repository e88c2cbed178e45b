"""JSON messages of carriers, taken apart with care: nothing that was sent is repeated in a fault."""

from __future__ import annotations

from typing import Any

import orjson

from sonant.sessions.calls import StreamFault

#: Longest text message that is read.
MAX_TEXT_BYTES = 64 * 1024


def parse(message: str) -> dict[str, Any]:
    """A JSON object. Raises StreamFault."""
    if len(message) > MAX_TEXT_BYTES:
        raise StreamFault(f"a text message is longer than {MAX_TEXT_BYTES} characters")
    try:
        found = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise StreamFault("a text message is not JSON") from None
    if not isinstance(found, dict):
        raise StreamFault("a text message is not a JSON object")
    return found


def member(message: dict[str, Any], name: str, kind: type[Any]) -> Any:
    """A member that must be there. Raises StreamFault."""
    value = message.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise StreamFault(f"a message has no {name}, or one of the wrong type")
    return value


def text(message: dict[str, Any], name: str) -> str | None:
    """A member that may be left out, or be empty. Raises StreamFault if it is not a text."""
    value = message.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise StreamFault(f"{name} is not a text")
    return value
