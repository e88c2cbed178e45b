"""JSON parsed and compared without Python's leniency, for what other programs read.

In Python `0 == False`, `NaN` is JSON, and of two members of one name the last counts. Typed clients differ.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import regex

#: Seconds since 1970 at the end of the year 9999, the last of clients' calendars.
_LATEST_S = 253_402_300_800


class NotStrict(ValueError):
    """Bytes that some JSON parser would refuse or read differently."""


def read_json(raw: bytes) -> Any:
    """Parse a JSON document.

    Raises NotStrict for a document that is not JSON in UTF-8, begins with a byte order mark, names a member
    twice, or holds NaN, an infinity, a number too large for a double or half of a surrogate pair.
    """
    if raw.startswith(b"\xef\xbb\xbf"):
        raise NotStrict("it begins with a byte order mark")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_members, parse_constant=_no_constant)
    except (UnicodeDecodeError, json.JSONDecodeError) as fault:
        raise NotStrict(str(fault)) from None
    for path, inner in _walk(value):
        if isinstance(inner, str) and any("\ud800" <= letter <= "\udfff" for letter in inner):
            raise NotStrict(f"{path or 'the value'} holds half of a surrogate pair")
        if isinstance(inner, float) and not math.isfinite(inner):
            raise NotStrict(f"{path or 'the value'} is larger than a double can be")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise NotStrict(
            f"given twice: {', '.join(sorted({name for name in names if names.count(name) > 1}))}"
        )
    return found


def _no_constant(name: str) -> Any:
    raise NotStrict(f"{name} is no JSON")


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All inner values and member names with their paths."""
    yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield under(path, name), name
            yield from _walk(inner, under(path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{path}[{number}]")


def under(path: str, name: str) -> str:
    """The path of a member."""
    return f"{path}.{name}" if path else name


def differences(found: Any, expected: Any, path: str = "") -> list[str]:
    """List the differences of two values, types included: 0, 0.0 and False are three values."""
    where = path or "the value"
    if type(found) is not type(expected):
        return [f"{where}: {found!r} is of type {type(found).__name__}, not {type(expected).__name__}"]
    if isinstance(expected, dict):
        # A name of another type is another member, although Python finds it by any equal one.
        present, wanted = ({(type(name), name) for name in value} for value in (found, expected))
        faults = [f"{under(path, str(name))}: missing" for _, name in sorted(wanted - present, key=repr)]
        faults += [
            f"{under(path, str(name))}: not expected" for _, name in sorted(present - wanted, key=repr)
        ]
        for _, name in sorted(wanted & present, key=repr):
            faults += differences(found[name], expected[name], under(path, str(name)))
        return faults
    if isinstance(expected, list | tuple):
        if len(found) != len(expected):
            return [f"{where}: {len(found)} items, not {len(expected)}"]
        return [
            fault
            for number, (one, other) in enumerate(zip(found, expected, strict=True))
            for fault in differences(one, other, f"{path}[{number}]")
        ]
    return [] if found == expected else [f"{where}: {found!r}, not {expected!r}"]


def assert_same(found: Any, expected: Any) -> None:
    """Fail unless both are the same, types included."""
    faults = differences(found, expected)
    assert not faults, "\n".join(faults)


# The functions below return the faults of one value as texts.


def boolean(value: Any) -> list[str]:
    """true or false; 0 and 1 are numbers."""
    return [] if type(value) is bool else [f"{value!r} is no boolean"]


def whole_number(value: Any, least: int, most: int) -> list[str]:
    """A number written without point and exponent: typed readers take `1.0` for a double."""
    if type(value) is not int:
        return [f"{value!r} is no whole number"]
    return [] if least <= value <= most else [f"{value} is not within {least} and {most}"]


def number(value: Any, least: float = -math.inf, most: float = math.inf) -> list[str]:
    if type(value) not in (int, float) or not math.isfinite(value):
        return [f"{value!r} is no finite number"]
    return [] if least <= value <= most else [f"{value} is not within {least} and {most}"]


def epoch_seconds(value: Any) -> list[str]:
    """Seconds since 1970, of this era, no finer than milliseconds."""
    faults = number(value, 0, _LATEST_S)
    if not faults and round(value, 3) != value:
        faults = [f"{value!r} is finer than a millisecond"]
    return faults


def text(
    value: Any,
    least: int = 0,
    most: float = math.inf,
    pattern: str | None = None,
    values: Iterable[str] = (),
) -> list[str]:
    """A string of so many code points, all of which a pattern of Java's matches, one of `values` if any."""
    if type(value) is not str:
        return [f"{value!r} is no string"]
    faults = []
    if not least <= len(value) <= most:
        faults.append(f"{value!r} is {len(value)} long, not from {least} to {most}")
    elif pattern is not None and not matches(pattern, value):
        faults.append(f"{value!r} does not match {pattern}")
    if (allowed := frozenset(values)) and value not in allowed:
        faults.append(f"{value!r} is none of {', '.join(sorted(allowed))}")
    return faults


def matches(pattern: str, value: str) -> bool:
    """Whether the whole string matches a pattern of Java's, the language of the service models."""
    return regex.fullmatch(pattern.replace(r"\p{ASCII}", r"[\x00-\x7f]"), value, regex.WORD) is not None


def blob(value: Any, least: int = 0, most: float = math.inf) -> list[str]:
    """Bytes as base64 with its padding, in the one way in which an encoder writes them."""
    try:
        data = base64.b64decode(value, validate=True) if type(value) is str else None
    except (binascii.Error, ValueError):
        data = None
    if data is None or base64.b64encode(data).decode() != value:
        return ["it is no base64 string"]
    return [] if least <= len(data) <= most else [f"it holds {len(data)} bytes, not {least} to {most}"]
