"""What is known about a request when policies are evaluated: condition keys and their values.

A context is a plain mapping. Its keys are those of AWS (`aws:SourceIp`, `aws:TagKeys`, ...), in any case. A
value may be a function without arguments, which is called at most once per decision and only if a statement
needs it. Tags are given one by one (`aws:ResourceTag/team`), or all together under the prefix that ends with
the slash, so that the caller need not know which tags a policy names:

    {"aws:SourceIp": "192.0.2.7", "aws:ResourceTag/": lambda: {"team": "blue"}}

The parsers below read numbers, dates, addresses and booleans as policies and requests write them. They return
None for anything else: in a policy that is an error, in a request it is a value that matches nothing.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import MappingProxyType

Scalar = str | bool | int | float | datetime
#: None is the same as an absent key. A mapping is for the tag prefixes only.
Value = Scalar | Collection[str] | Mapping[str, str] | None
Context = Mapping[str, Value | Callable[[], Value]]

#: A request about which nothing is known.
NOTHING: Context = MappingProxyType({})


class Facts:
    """The context of one decision, in the form that conditions read."""

    __slots__ = ("_computed", "_context", "_spellings", "_values")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._spellings: dict[str, list[str]] = {}
        self._computed: dict[str, Value] = {}
        self._values: dict[str, tuple[Scalar, ...]] = {}

    def values(self, key: str) -> tuple[Scalar, ...]:
        """Return the values of a key, given in lower case; empty if the request lacks it.

        Keys and tags that differ in case only are one key with several values.
        """
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = tuple(self._find(key))
        return found

    def text(self, key: str) -> str | None:
        """Return the single value of a key as text; None if it has no value, several, or an empty one."""
        values = self.values(key)
        return (as_text(values[0]) or None) if len(values) == 1 else None

    def _find(self, key: str) -> list[Scalar]:
        if not self._spellings:
            for spelling in self._context:
                self._spellings.setdefault(spelling.lower(), []).append(spelling)
        found: list[Scalar] = []
        for spelling in self._spellings.get(key, ()):
            found.extend(_scalars(self._value(spelling)))
        family, slash, tag = key.partition("/")
        for spelling in self._spellings.get(family + slash, ()) if tag else ():
            tags = self._value(spelling)
            if isinstance(tags, Mapping):
                found.extend(value for name, value in tags.items() if name.lower() == tag)
        return found

    def _value(self, spelling: str) -> Value:
        value = self._context[spelling]
        if not callable(value):
            return value
        if spelling not in self._computed:
            self._computed[spelling] = value()
        return self._computed[spelling]


def _scalars(value: Value) -> list[Scalar]:
    match value:
        case None | Mapping():
            return []
        case str() | bool() | int() | float() | datetime():
            return [value]
        case _:
            # AWS docs: a set of nothing but empty strings is a null data set.
            return list(value) if any(value) else []


def as_text(value: Scalar) -> str:
    """Convert a value to text for string operators and variables: `true`, `7`, `2026-01-31T09:00:00Z`."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case datetime():
            utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
            return utc.replace(tzinfo=None).isoformat() + "Z"
        case _:
            return str(value)


Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_EPOCH = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,9})?")
#: The forms of the W3C note on ISO 8601 that AWS docs refer to, from a year to fractions of a second.
_W3C = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    r"(?:([Zz])|([+-])([0-9]{2}):?([0-9]{2}))?)?)?)?"
)
_CIDR = re.compile(r"([0-9A-Fa-f:.]{2,45})(?:/([0-9]{1,3}))?")
_MAPPED_BITS = 96


def parse_number(value: Scalar) -> Decimal | None:
    """Read a finite number, exactly."""
    match value:
        case str():
            return Decimal(value) if _NUMBER.fullmatch(value) else None
        case bool() | datetime():
            return None
        case _:
            exact = Decimal(value) if isinstance(value, int) else Decimal(repr(value))
            return exact if exact.is_finite() else None


def parse_time(value: Scalar) -> datetime | None:
    """Read a date (UTC unless it names an offset), or seconds since 1970. Four digits are a year."""
    match value:
        case datetime():
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value
        case bool():
            return None
        case str():
            w3c = _W3C.fullmatch(value)
            if w3c is not None:
                return _from_calendar(w3c)
            return _from_epoch(Decimal(value)) if _EPOCH.fullmatch(value) else None
        case _:
            return _from_epoch(Decimal(repr(value)))


def parse_bool(value: Scalar) -> bool | None:
    """Read a boolean, or `true` or `false` in any case."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None


def parse_address(value: Scalar) -> Address | None:
    """Read an IP address; an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) becomes the IPv4 address."""
    if not isinstance(value, str):
        return None
    try:
        found = ip_address(value)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def parse_network(value: Scalar) -> Network | None:
    """Read a CIDR range; a single address is a range of one. Host bits are ignored."""
    cidr = _CIDR.fullmatch(value) if isinstance(value, str) else None
    if cidr is None:
        return None
    try:
        found = ip_network(cidr[0], strict=False)
    except ValueError:
        return None
    if isinstance(found, IPv6Network) and found.prefixlen >= _MAPPED_BITS:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((int(mapped), found.prefixlen - _MAPPED_BITS))
    return found


def _from_epoch(seconds: Decimal) -> datetime | None:
    try:
        whole = int(seconds)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            seconds=whole, microseconds=int((seconds - whole) * 1_000_000)
        )
    except (OverflowError, ValueError, ArithmeticError):
        return None


def _from_calendar(w3c: re.Match[str]) -> datetime | None:
    year, month, day, hour, minute, second = (
        int(text or default) for text, default in zip(w3c.groups()[:6], "011000", strict=True)
    )
    fraction = int((w3c[7] or "").ljust(6, "0")[:6])
    offset = timedelta(hours=int(w3c[10] or 0), minutes=int(w3c[11] or 0))
    if not 1 <= month <= 12 or not 1 <= day <= (monthrange(year, month)[1] if year else 0):
        return None
    try:
        zone = timezone(-offset if w3c[9] == "-" else offset)
        return datetime(year, month, day, hour, minute, second, fraction, tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
