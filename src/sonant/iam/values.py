"""Numbers, dates, addresses and truth values as policies and requests write them. Pure.

Every reader answers None for what is not of its kind: in a policy that is an error, in a request it is a
value that matches nothing.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from sonant.iam.context import Scalar

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


def number(value: Scalar) -> Decimal | None:
    match value:
        case str():
            return Decimal(value) if _NUMBER.fullmatch(value) else None
        case bool() | datetime():
            return None
        case _:
            exact = Decimal(value) if isinstance(value, int) else Decimal(repr(value))
            return exact if exact.is_finite() else None


def instant(value: Scalar) -> datetime | None:
    """A date (UTC unless it names an offset), or seconds since 1970. Four digits are a year."""
    match value:
        case datetime():
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value
        case bool():
            return None
        case str():
            w3c = _W3C.fullmatch(value)
            if w3c is not None:
                return _calendar(w3c)
            return _epoch(Decimal(value)) if _EPOCH.fullmatch(value) else None
        case _:
            return _epoch(Decimal(repr(value)))


def truth(value: Scalar) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None


def address(value: Scalar) -> Address | None:
    """An address; an IPv4 address in IPv6 clothes (`::ffff:192.0.2.1`) is the IPv4 address."""
    if not isinstance(value, str):
        return None
    try:
        found = ip_address(value)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def network(value: Scalar) -> Network | None:
    """A CIDR range; an address alone is a range of one. Host bits are ignored."""
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


def _epoch(seconds: Decimal) -> datetime | None:
    try:
        whole = int(seconds)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            seconds=whole, microseconds=int((seconds - whole) * 1_000_000)
        )
    except (OverflowError, ValueError, ArithmeticError):
        return None


def _calendar(w3c: re.Match[str]) -> datetime | None:
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
