"""Declare settings: default, range, unit and meaning in one place, and convert the values that are given.

Each function here is the right-hand side of one field of a frozen dataclass in this package.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

MIB = 1024 * 1024
GIB = 1024 * MIB
DAY_S = 86_400.0

Number = TypeVar("Number", int, float)
Value = TypeVar("Value")

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_METADATA_KEY = "setting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The meaning of one setting and the values that it accepts."""

    meaning: str
    least: float | None = None
    """Smallest accepted number; None for settings that are not numbers."""
    most: float | None = None
    unit: str = ""
    """Plural noun after a number, such as `seconds`; empty for plain numbers."""
    choices: Collection[str] = ()
    """All accepted texts; empty when the text is free. May be the live keys of a registry."""
    pattern: str = ""
    """Regular expression that the whole text must match; empty accepts any."""
    form: str = ""
    """The pattern in English, for messages."""
    secret: bool = False
    """Whether the value is left out of messages and of the settings' repr."""


def number(default: Number, least: Number, most: Number, unit: str, meaning: str) -> Number:
    """Declare a number between two bounds, both accepted."""
    return _declare(default, Declaration(meaning=meaning, least=least, most=most, unit=unit))


def switch(default: bool, meaning: str) -> bool:
    """Declare a setting that is true or false."""
    return _declare(default, Declaration(meaning=meaning))


def choice(default: str, choices: Collection[str], meaning: str) -> str:
    """Declare a name out of a list."""
    return _declare(default, Declaration(meaning=meaning, choices=choices))


def text(default: str, meaning: str, *, pattern: str = "", form: str = "", secret: bool = False) -> str:
    """Declare a text; `form` says in English what `pattern` accepts."""
    return _declare(default, Declaration(meaning=meaning, pattern=pattern, form=form, secret=secret))


def path(default: Path, meaning: str) -> Path:
    """Declare a path of a file or folder."""
    return _declare(default, Declaration(meaning=meaning))


def group(kind: type[Value]) -> Value:
    """Declare a group of settings: a table of the file, a common prefix of the names."""
    return field(default_factory=kind)


def declaration_of(declared: Field[Any]) -> Declaration | None:
    """Return the declaration of a dataclass field; None for a group."""
    found: Declaration | None = declared.metadata.get(_METADATA_KEY)
    return found


def convert(value: object, kind: type, declared: Declaration) -> Any:
    """Convert a value of a file, a variable or a flag. Raises ValueError when it is not accepted."""
    if kind is bool:
        return _to_bool(value)
    if kind in (int, float):
        return _to_number(value, kind, declared)
    if not isinstance(value, str | Path | int) or isinstance(value, bool):
        raise ValueError
    found = str(value)
    if declared.choices and found not in declared.choices:
        raise ValueError
    if declared.pattern and not re.fullmatch(declared.pattern, found):
        raise ValueError
    return kind(found)


def accepted(kind: type, declared: Declaration) -> str:
    """Name the accepted values in English: "a whole number from 0 to 65,535"."""
    if kind is bool:
        return "true or false"
    if declared.choices:
        return "one of: " + ", ".join(declared.choices)
    if declared.least is not None and declared.most is not None:
        noun = "a whole number" if kind is int else "a number"
        unit = f" {declared.unit}" if declared.unit else ""
        return f"{noun} from {shown_number(declared.least)} to {shown_number(declared.most)}{unit}"
    return declared.form or "text"


def shown_number(value: float) -> str:
    """Format a bound: 86,400 or 0.25."""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _declare(default: Value, declared: Declaration) -> Value:
    return field(default=default, repr=not declared.secret, metadata={_METADATA_KEY: declared})


def _to_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError
    return word in _TRUE


def _to_number(value: object, kind: type, declared: Declaration) -> Any:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError
    found = kind(value)
    if kind is int and isinstance(value, float) and value != found:
        raise ValueError
    if declared.least is None or declared.most is None or not declared.least <= found <= declared.most:
        raise ValueError  # also for NaN, which no comparison accepts
    return found
