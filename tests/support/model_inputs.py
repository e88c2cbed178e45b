"""Random inputs for a service model's shapes, and an independent check of which are valid."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import regex
from botocore.model import Shape

#: Strings for any string member.
JUNK = (
    "", " ", "x", "-", "_x", "x y", "x\n", "\n", "\x00", "é", "山田", "\U0001f600", "\ud800", "%", "'; --",
    "../..", "0" * 22, "a" * 25, "id#", "id#" + "b" * 22, "s3://", "s3://bucket", "s3://bucket/key", "arn:",
    "null", "x" * 256, "x" * 257, "x" * 1024, "x" * 1025, "x" * 9000,
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 10, 11, 60, 61, 100, 101, 2**31 - 1, 2**31, -(2**31) - 1, 2**63, 10**30)
#: Seconds since 1970 that are in no year from 1 to 9999, and no numbers.
_NO_TIMES: tuple[Any, ...] = (10**12, -(10**12), "2026-01-01T00:00:00Z", True, None)
_WRONG: tuple[Any, ...] = (None, True, False, 0, 1.5, "text", [], {}, [[]], {"a": 1}, [None], "\x00")

Pools = Mapping[str, Sequence[Any]]


def make(shape: Shape, rng: random.Random, pools: Pools, invalid_share: float) -> Any:
    """Make a value for a shape. `pools` holds valid values by shape name; an `invalid_share` differs."""
    invalid = rng.random() < invalid_share
    if invalid and rng.random() < 0.3:
        return rng.choice(_WRONG)
    match shape.type_name:
        case "structure":
            value = {
                name: make(member, rng, pools, invalid_share)
                for name, member in shape.members.items()
                if (name in shape.required_members and not invalid) or rng.random() < 0.5
            }
            if rng.random() < 0.1:
                value["Unknown"] = rng.choice(_WRONG)
            return value
        case "list":
            low, high = shape.metadata.get("min", 0), shape.metadata.get("max", 5)
            size = rng.choice((low, high, high + 1, 0)) if invalid else rng.randint(low, min(high, low + 3))
            return [make(shape.member, rng, pools, invalid_share) for _ in range(size)]
        case "string":
            if shape.enum and not invalid:
                return rng.choice(shape.enum)
            if invalid or shape.name not in pools:
                return rng.choice(JUNK)
            return rng.choice(pools[shape.name])
        case "integer" | "float" | "double":
            if invalid:
                return rng.choice(_NUMBERS)
            return rng.randint(int(shape.metadata.get("min", 0)), int(shape.metadata.get("max", 3)))
        case "boolean":
            return rng.random() < 0.5
        case "timestamp":
            return rng.choice(_NO_TIMES) if invalid else rng.choice((0, 1.5, 1_700_000_000, -86_400))
        case other:
            raise AssertionError(f"no input has a {other} so far")


def right(shape: Shape, value: Any) -> bool:
    """Whether a JSON value satisfies all constraints of a shape. Null is an absent member."""
    limits = shape.metadata
    match shape.type_name:
        case "structure":
            return type(value) is dict and all(
                right(member, value[name])
                if value.get(name) is not None
                else name not in shape.required_members
                for name, member in shape.members.items()
            )
        case "list":
            within = type(value) is list and limits.get("min", 0) <= len(value) <= limits.get("max", 10**9)
            return within and all(right(shape.member, item) for item in value)
        case "string":
            if type(value) is not str or any("\ud800" <= letter <= "\udfff" for letter in value):
                return False
            pattern = limits.get("pattern", r"(?s:.*)").replace(r"\p{ASCII}", r"[\x00-\x7f]")
            return (
                limits.get("min", 0) <= len(value) <= limits.get("max", 10**9)
                and (not shape.enum or value in shape.enum)
                and regex.fullmatch(pattern, value) is not None
            )
        case "integer":
            return type(value) is int and limits.get("min", -(2**31)) <= value <= limits.get("max", 2**31 - 1)
        case "float" | "double":
            return type(value) in (int, float) and limits.get("min", value) <= value <= limits.get(
                "max", value
            )
        case "boolean":
            return type(value) is bool
        case "timestamp":
            return type(value) in (int, float) and abs(value) < 2e11
        case other:
            raise AssertionError(f"no input has a {other} so far")
