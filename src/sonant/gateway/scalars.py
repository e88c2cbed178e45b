"""Parsers of single JSON values: strings, blobs, numbers, booleans and times, with their constraints.

Every parser has the form `parse(value, faults) -> parsed`. A broken constraint is appended to `faults`; a
value that is no value of its type at all raises `WrongTypeError`. Neither holds a sensitive value.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import regex  # type: ignore[import-untyped,unused-ignore]

from sonant.gateway.models import Shape

_SHOWN_CHARACTERS = 100
"""Characters of a value that are echoed."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_JSON_NAMES: dict[type, str] = {
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


class Fault(NamedTuple):
    """One broken constraint."""

    path: str
    """Where, seen from the parser that answers it; containers put their part in front."""
    value: str
    """`null`, a quoted value, or nothing where the value must not be echoed."""
    constraint: str
    """What must be, as AWS words it."""


class WrongTypeError(Exception):
    """A value that its type cannot hold. On its way up each container puts its part in front of `path`."""

    def __init__(self, expected: str, value: object = None) -> None:
        super().__init__(expected)
        found = _JSON_NAMES.get(type(value), "something else")
        self.problem = f"must be {expected}" if value is None else f"must be {expected}, found {found}"
        self.path = ""

    def under(self, path: str) -> WrongTypeError:
        """The same, seen from the container of the value."""
        self.path = f"{path}.{self.path}" if self.path else path
        return self


Parse = Callable[[Any, list[Fault]], Any]


def is_sensitive(shape: Shape) -> bool:
    """Whether values of the shape must never be echoed."""
    return bool(shape.metadata.get("sensitive"))


def length_check(shape: Shape) -> Callable[[Any, list[Fault]], bool] | None:
    """A check of a length against the shape's min and max, or None if it has neither.

    It tells no value: what is measured by this may hold sensitive ones.
    """
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is None and high is None:
        return None
    least = 0 if low is None else low
    most = math.inf if high is None else high

    def check(value: Any, faults: list[Fault]) -> bool:
        if least <= len(value) <= most:
            return True
        bound = f"greater than or equal to {least}" if len(value) < least else f"less than or equal to {most}"
        faults.append(Fault("", "", f"Member must have length {bound}"))
        return False

    return check


def string(shape: Shape) -> Parse:
    """Length in code points, pattern (the whole string must match) and enum."""
    least = shape.metadata.get("min", 0)
    most = shape.metadata.get("max", math.inf)
    values = frozenset(shape.enum)
    pattern = shape.metadata.get("pattern")
    matches = _matcher(pattern) if pattern else None
    sensitive = is_sensitive(shape)

    def broken(value: str) -> list[str]:
        constraints = []
        if len(value) < least:
            constraints.append(f"Member must have length greater than or equal to {least}")
        if len(value) > most:
            # Not matched as well: against a megabyte, some of the patterns take seconds.
            return [f"Member must have length less than or equal to {most}"]
        if matches is not None and not matches(value):
            constraints.append(f"Member must satisfy regular expression pattern: {pattern}")
        if values and value not in values:
            constraints.append(f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
        return constraints

    def parse(value: Any, faults: list[Fault]) -> str:
        if type(value) is not str:
            raise WrongTypeError("a string", value)
        if (
            not least <= len(value) <= most
            or (matches is not None and not matches(value))
            or (values and value not in values)
        ):
            shown = "" if sensitive else _shown(value)
            faults.extend(Fault("", shown, constraint) for constraint in broken(value))
        return value

    return parse


def _matcher(pattern: str) -> Callable[[str], object]:
    """A function that is true for strings that match `pattern` as a whole.

    The models write patterns for Java. There `.` stands for anything but a line end, of which Java knows
    more than Python: WORD makes `regex` know them. `\\p{ASCII}` is Java's name of the Basic Latin block.
    A whole match leaves no room for the newline that Python's `$` would let pass.
    """
    compiled = regex.compile(pattern.replace(r"\p{ASCII}", r"\p{InBasicLatin}"), regex.WORD)
    matches: Callable[[str], object] = compiled.fullmatch
    return matches


def _shown(value: str) -> str:
    cut = value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}..."
    if not cut.isprintable():  # no line ends and control codes in messages, which also go to logs
        cut = "".join(c if c.isprintable() else "\ufffd" for c in cut)
    return f"'{cut}'"


def blob(shape: Shape) -> Parse:
    """Base64 text to bytes; min and max count bytes."""
    check_length = length_check(shape)

    def parse(value: Any, faults: list[Fault]) -> bytes:
        if type(value) is not str:
            raise WrongTypeError("a base64 string", value)
        try:
            decoded = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise WrongTypeError("a base64 string") from None
        if check_length is not None:
            check_length(decoded, faults)
        return decoded

    return parse


def integer(bits: int) -> Callable[[Shape], Parse]:
    """Whole numbers of so many bits. `1.0` is one in JSON, `1.5` and `true` are none."""
    lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def make(shape: Shape) -> Parse:
        check = _range_check(shape)

        def parse(value: Any, faults: list[Fault]) -> int:
            if type(value) is float:
                if not value.is_integer():
                    raise WrongTypeError("a whole number")
            elif type(value) is not int:  # not isinstance: a bool is no number
                raise WrongTypeError("a whole number", value)
            number = int(value)
            if not lowest <= number <= highest:
                raise WrongTypeError(f"a whole number of {bits} bits")
            check(number, faults)
            return number

        return parse

    return make


def real(shape: Shape) -> Parse:
    """Finite numbers, as float."""
    check = _range_check(shape)

    def parse(value: Any, faults: list[Fault]) -> float:
        if type(value) is not float and type(value) is not int:
            raise WrongTypeError("a number", value)
        try:
            number = float(value)
        except OverflowError:  # an int beyond 1.8e308
            number = math.inf
        if not math.isfinite(number):
            raise WrongTypeError("a finite number")
        check(number, faults)
        return number

    return parse


def _range_check(shape: Shape) -> Callable[[float, list[Fault]], None]:
    least = shape.metadata.get("min", -math.inf)
    most = shape.metadata.get("max", math.inf)
    sensitive = is_sensitive(shape)

    def check(value: float, faults: list[Fault]) -> None:
        if not least <= value <= most:
            bound = f"greater than or equal to {least}" if value < least else f"less than or equal to {most}"
            faults.append(Fault("", "" if sensitive else f"'{value}'", f"Member must have value {bound}"))

    return check


def boolean(_shape: Shape) -> Parse:
    """JSON's true and false, nothing else."""

    def parse(value: Any, _faults: list[Fault]) -> bool:
        if type(value) is not bool:
            raise WrongTypeError("a boolean", value)
        return value

    return parse


def timestamp(_shape: Shape) -> Parse:
    """Seconds since 1970, to an aware UTC datetime."""

    def parse(value: Any, _faults: list[Fault]) -> datetime:
        if type(value) is not int and type(value) is not float:
            raise WrongTypeError("a number of seconds since 1970", value)
        try:
            return _EPOCH + timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise WrongTypeError("a number of seconds since 1970, up to the year 9999") from None

    return parse
