"""Input shapes of a service model, compiled once into functions that parse and check one JSON document.

A value of the wrong JSON type stops the parse (`SerializationFault`). Broken constraints are collected and
reported together (`Validation`), in AWS's wording. Error messages never repeat sensitive values, nor
containers that may hold some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sonant.errors import SerializationFault, SetupError, Validation
from sonant.gateway import scalars
from sonant.gateway.models import Shape
from sonant.gateway.scalars import Fault, Parse, WrongTypeError

_MAX_LISTED_FAULTS = 50
"""Most violations that a message lists; all are counted."""

_NOT_NULL = "Member must not be null"


def compile_input(shape: Shape | None) -> Callable[[object], dict[str, Any]]:
    """Compile an input shape into a function from a JSON document to a checked plain dict.

    The dict holds the members that the model knows and the document gave, under their PascalCase names;
    null is absent, and a document of None is empty. Timestamps come out as UTC datetimes, blobs as bytes,
    whole numbers as int.

    The function raises `SerializationFault` for a value of the wrong JSON type and `Validation` for broken
    constraints. `compile_input` itself raises `SetupError` for a shape that it cannot check.
    """
    parse: Parse = (lambda _value, _faults: {}) if shape is None else _compile(shape)

    def validate(document: object) -> dict[str, Any]:
        faults: list[Fault] = []
        try:
            parsed: dict[str, Any] = parse({} if document is None else document, faults)
        except WrongTypeError as wrong:
            where = f"Value at '{wrong.path}'" if wrong.path else "The request body"
            raise SerializationFault(f"{where} {wrong.problem}") from None
        if faults:
            raise Validation(_text(faults))
        return parsed

    return validate


def _text(faults: list[Fault]) -> str:
    listed = [
        f"Value {fault.value}{' ' if fault.value else ''}at '{fault.path}' failed to satisfy constraint: "
        f"{fault.constraint}"
        for fault in faults[:_MAX_LISTED_FAULTS]
    ]
    if len(faults) > _MAX_LISTED_FAULTS:
        listed.append("...")
    noun = "error" if len(faults) == 1 else "errors"
    return f"{len(faults)} validation {noun} detected: {'; '.join(listed)}"


def _compile(shape: Shape) -> Parse:
    make = _PARSERS.get(shape.type_name)
    if make is None or getattr(shape, "is_document_type", False) or getattr(shape, "is_tagged_union", False):
        raise SetupError(f"the service model uses a type that is not supported: {shape.name}")
    return make(shape)


def _put_under(path: str, faults: list[Fault], start: int) -> int:
    """Prepend `path` to the faults from `start` on; returns the number of faults.

    Paths are thus built for faults only: a valid document costs no string work.
    """
    for index in range(start, len(faults)):
        fault = faults[index]
        faults[index] = fault._replace(path=f"{path}.{fault.path}" if fault.path else path)
    return len(faults)


def _absent(path: str, shape: Shape) -> Fault:
    return Fault(path, "" if scalars.is_sensitive(shape) else "null", _NOT_NULL)


def _structure(shape: Shape) -> Parse:
    required = frozenset(shape.required_members)
    # (name, path, parser, fault if absent)
    members = tuple(
        (
            name,
            path := name[:1].lower() + name[1:],
            _compile(member),
            _absent(path, member) if name in required else None,
        )
        for name, member in shape.members.items()
    )

    def parse(value: Any, faults: list[Fault]) -> dict[str, Any]:
        if type(value) is not dict:
            raise WrongTypeError("an object", value)
        parsed = {}
        known = len(faults)
        path = ""
        try:
            for name, path, parse_member, absent in members:
                given = value.get(name)
                if given is not None:
                    parsed[name] = parse_member(given, faults)
                    if len(faults) > known:
                        known = _put_under(path, faults, known)
                elif absent is not None:
                    faults.append(absent)
                    known += 1
        except WrongTypeError as wrong:
            raise wrong.under(path) from None
        return parsed

    return parse


def _list(shape: Shape) -> Parse:
    check_length = scalars.length_check(shape)
    parse_item = _compile(shape.member)
    absent = _absent("", shape.member)

    def parse(value: Any, faults: list[Fault]) -> list[Any]:
        if type(value) is not list:
            raise WrongTypeError("a list", value)
        if check_length is not None and not check_length(value, faults):
            return []  # bounds the work: items of a list of the wrong length are not looked at
        parsed = []
        known = len(faults)
        number = 0
        try:
            for number, item in enumerate(value, 1):
                if item is None:
                    faults.append(absent)
                else:
                    parsed.append(parse_item(item, faults))
                if len(faults) > known:
                    known = _put_under(f"{number}.member", faults, known)
        except WrongTypeError as wrong:
            raise wrong.under(f"{number}.member") from None
        return parsed

    return parse


def _map(shape: Shape) -> Parse:
    check_length = scalars.length_check(shape)
    parse_key, parse_value = _compile(shape.key), _compile(shape.value)

    def parse(value: Any, faults: list[Fault]) -> dict[str, Any]:
        if type(value) is not dict:
            raise WrongTypeError("an object", value)
        if check_length is not None and not check_length(value, faults):
            return {}
        parsed = {}
        number = 0
        try:
            for number, (key, item) in enumerate(value.items(), 1):  # by number: a key may be sensitive
                known = len(faults)
                parse_key(key, faults)
                known = _put_under(f"{number}.key", faults, known)
                if item is not None:
                    parsed[key] = parse_value(item, faults)
                    _put_under(f"{number}.value", faults, known)
        except WrongTypeError as wrong:
            raise wrong.under(f"{number}.value") from None
        return parsed

    return parse


_PARSERS: dict[str, Callable[[Shape], Parse]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": scalars.string,
    "blob": scalars.blob,
    "boolean": scalars.boolean,
    "integer": scalars.integer(bits=32),
    "long": scalars.integer(bits=64),
    "float": scalars.real,
    "double": scalars.real,
    "timestamp": scalars.timestamp,
}
