"""AWS JSON 1.0: request bytes to a document, operation outputs and errors to response bytes.

Requests and responses are one JSON object with PascalCase members. Null is read as absent and never sent.
Times are seconds since 1970, to the millisecond.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from sonant.errors import (
    GatewayError,
    InternalServer,
    Misdirected,
    SerializationFault,
    UnknownRoute,
    WireError,
)
from sonant.gateway.models import Shape

CONTENT_TYPE = "application/x-amz-json-1.0"

_MODELLED = "com.amazonaws.voiceid"
_GATEWAY = "com.amazon.coral.service"
"""Namespaces of `__type`; clients drop everything up to the `#`."""

_INTERNAL_TEXT = "The request failed due to an unknown error on the server side."

_GZIP = b"\x1f\x8b"
"""First bytes of gzip data."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_Write = Callable[[Any], Any]


def parse_body(raw: bytes) -> dict[str, Any]:
    """Parse the JSON object of a request body; an empty body and null are the empty object.

    Of a repeated member the last value counts. Raises `SerializationFault`.
    """
    if not raw:
        return {}
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as fault:
        if raw.startswith(_GZIP):
            raise SerializationFault("The request body is compressed: send it as plain JSON") from None
        # The parser's message gives what it expected and where, and shows nothing of the text.
        raise SerializationFault(f"The request body is not valid JSON: {fault}") from None
    if document is None:
        return {}
    if type(document) is not dict:
        raise SerializationFault("The request body must be an object")
    return document


def compile_output(
    shape: Shape | None, *, strict: bool = False
) -> Callable[[Mapping[str, Any] | None], bytes]:
    """Compile an output shape into a function from an operation's result to the bytes of a response body.

    Members come in the model's order, None is left out, datetimes become seconds. An operation without an
    output shape has an empty body. Members that are not in the model are dropped; with `strict` they
    raise `ValueError`, as do, in any case, a datetime without a time zone and a number that is not finite.
    """
    if shape is None:
        return lambda _result: b""
    write = _structure(shape, strict)

    def serialize(result: Mapping[str, Any] | None) -> bytes:
        return orjson.dumps(write(result or {}))

    return serialize


def error_body(error: WireError) -> bytes:
    """Serialize an error to the body of its response."""
    if isinstance(error, Misdirected):
        return error.body
    if isinstance(error, UnknownRoute) and not error.message:
        return b"<UnknownOperationException/>\n"
    if isinstance(error, GatewayError):
        namespace, text_member = _GATEWAY, "message"
    else:
        namespace, text_member = _MODELLED, "Message"
    body: dict[str, str] = {"__type": f"{namespace}#{error.code}"}
    # The cause of an internal error is for the log only.
    message = _INTERNAL_TEXT if isinstance(error, InternalServer) else error.message
    if message:
        body[text_member] = message
    if not isinstance(error, InternalServer):
        body |= error.members
    return orjson.dumps(body)


def error_content_type(error: WireError) -> str:
    """Return the content type of `error_body`."""
    if isinstance(error, Misdirected):
        return error.content_type
    return "text/plain" if isinstance(error, UnknownRoute) and not error.message else CONTENT_TYPE


def _writer(shape: Shape, strict: bool) -> _Write | None:
    """Compile a shape into a function from a value to its JSON form; None where they are the same."""
    match shape.type_name:
        case "structure":
            return _structure(shape, strict)
        case "list":
            return _list(shape, strict)
        case "map":
            return _map(shape, strict)
        case "timestamp":
            return _seconds
        case "blob":
            return lambda value: base64.b64encode(value).decode("ascii")
        case "float" | "double":
            return _finite
        case _:
            return None


def _structure(shape: Shape, strict: bool) -> _Write:
    names = tuple(shape.members)
    known_names = frozenset(names)
    writers = tuple(
        (name, write_member)
        for name, member in shape.members.items()
        if (write_member := _writer(member, strict)) is not None
    )

    def write(value: Mapping[str, Any]) -> dict[str, Any]:
        if strict and not known_names.issuperset(value):
            raise ValueError(f"{shape.name} has no member {', '.join(sorted(set(value) - known_names))}")
        get = value.get
        written = {name: member for name in names if (member := get(name)) is not None}
        for name, write_member in writers:
            if name in written:
                written[name] = write_member(written[name])
        return written

    return write


def _list(shape: Shape, strict: bool) -> _Write:
    write_item = _writer(shape.member, strict)
    if write_item is None:
        return list
    return lambda value: [write_item(item) for item in value]


def _map(shape: Shape, strict: bool) -> _Write:
    write_item = _writer(shape.value, strict)
    if write_item is None:
        return dict
    return lambda value: {key: write_item(item) for key, item in value.items()}


def _seconds(value: datetime) -> int | float:
    if value.tzinfo is None:
        raise ValueError("a time on the wire must have a time zone")
    milliseconds = (value - _EPOCH) // _MILLISECOND
    return milliseconds / 1000 if milliseconds % 1000 else milliseconds // 1000


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a number in JSON must be finite")
    return value
