"""Parsers of single JSON values: strings, blobs, numbers, booleans and times, with their constraints.

Every parser has the form `parse(value, faults) -> parsed`. A broken constraint is appended to `faults`; a
value of another JSON type raises `WrongTypeError`. Neither contains a sensitive value.
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

_MAX_SHOWN_CHARS = 100
"""Most characters of a value that an error message repeats."""

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
    """Path relative to the value that was parsed; each container prepends its part."""
    value: str
    """`null`, a quoted value, or empty where the value must not be repeated."""
    constraint: str
    """The constraint, in AWS's wording."""


class WrongTypeError(Exception):
    """A value of the wrong type. Each container on its way up prepends its part to `path`."""

    def __init__(self, expected: str, value: object = None) -> None:
        super().__init__(expected)
        found = _JSON_NAMES.get(type(value), "something else")
        self.problem = f"must be {expected}" if value is None else f"must be {expected}, found {found}"
        self.path = ""

    def under(self, path: str) -> WrongTypeError:
        """Prepend a container's part of the path."""
        self.path = f"{path}.{self.path}" if self.path else path
        return self


Parse = Callable[[Any, list[Fault]], Any]


def is_sensitive(shape: Shape) -> bool:
    """Return whether error messages must never repeat values of the shape."""
    return bool(shape.metadata.get("sensitive"))


def length_check(shape: Shape) -> Callable[[Any, list[Fault]], bool] | None:
    """Make a check of a length against the shape's min and max; None if it has neither.

    Its faults contain no values, since containers may hold sensitive ones.
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
    """Make a parser of strings: length in code points, pattern (of the whole string) and enum."""
    least = shape.metadata.get("min", 0)
    most = shape.metadata.get("max", math.inf)
    values = frozenset(shape.enum)
    pattern = shape.metadata.get("pattern")
    matches = compile_pattern(pattern) if pattern else None
    sensitive = is_sensitive(shape)

    def broken(value: str) -> list[str]:
        constraints = []
        if len(value) < least:
            constraints.append(f"Member must have length greater than or equal to {least}")
        if len(value) > most:
            # The pattern is not tried: some patterns take seconds for a megabyte.
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
            shown = "" if sensitive else _quoted(value)
            faults.extend(Fault("", shown, constraint) for constraint in broken(value))
        return value

    return parse


def compile_pattern(pattern: str) -> Callable[[str], object]:
    """Compile a pattern into a function that is true for strings that match it as a whole.

    The models have Java patterns. In Java, `.` excludes more line ends than in Python: WORD gives `regex` the
    same ones. `\\p{ASCII}` is Java's name of the Basic Latin block. A full match excludes the final newline
    that Python's `$` accepts.
    """
    compiled = regex.compile(pattern.replace(r"\p{ASCII}", r"\p{InBasicLatin}"), regex.WORD)
    matches: Callable[[str], object] = compiled.fullmatch
    return matches


def _quoted(value: str) -> str:
    cut = value if len(value) <= _MAX_SHOWN_CHARS else f"{value[:_MAX_SHOWN_CHARS]}..."
    if not cut.isprintable():  # no line ends and control codes in messages, which also go to logs
        cut = "".join(c if c.isprintable() else "\ufffd" for c in cut)
    return f"'{cut}'"


def blob(shape: Shape) -> Parse:
    """Make a parser of base64 text to bytes; min and max count bytes."""
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
    """Make parsers of whole numbers of `bits` bits. In JSON `1.0` is one, `1.5` and `true` are not."""
    lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def make(shape: Shape) -> Parse:
        check = _range_check(shape)

        def parse(value: Any, faults: list[Fault]) -> int:
            if type(value) is float:
                if not value.is_integer():
                    raise WrongTypeError("a whole number")
            elif type(value) is not int:  # not isinstance: bool is a subclass of int
                raise WrongTypeError("a whole number", value)
            number = int(value)
            if not lowest <= number <= highest:
                raise WrongTypeError(f"a whole number of {bits} bits")
            check(number, faults)
            return number

        return parse

    return make


def real(shape: Shape) -> Parse:
    """Make a parser of finite numbers to float."""
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
    """Make a parser of JSON's true and false."""

    def parse(value: Any, _faults: list[Fault]) -> bool:
        if type(value) is not bool:
            raise WrongTypeError("a boolean", value)
        return value

    return parse


def timestamp(_shape: Shape) -> Parse:
    """Make a parser of seconds since 1970 to aware UTC datetimes."""

    def parse(value: Any, _faults: list[Fault]) -> datetime:
        if type(value) is not int and type(value) is not float:
            raise WrongTypeError("a number of seconds since 1970", value)
        try:
            return _EPOCH + timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise WrongTypeError("a number of seconds since 1970, up to the year 9999") from None

    return parse
