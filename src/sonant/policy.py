"""IAM-style JSON policies: parse once, decide many times. Pure.

Understands Effect, Action, NotAction, Resource, NotResource with `*` and `?`. The decision is AWS's: an
explicit Deny wins, else a matching Allow is needed, else no. A statement with a part that is not understood
(Condition, Principal) is refused when the policy is read, never skipped, since skipping could widen a right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sonant.errors import SetupError

ALLOW_ALL = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement; the patterns are compiled, `negated` ones match what they do not name."""

    allow: bool
    action: re.Pattern[str]
    action_negated: bool
    resource: re.Pattern[str]
    resource_negated: bool

    def matches(self, action: str, resource: str) -> bool:
        return (self.action.fullmatch(action.lower()) is not None) != self.action_negated and (
            self.resource.fullmatch(resource) is not None
        ) != self.resource_negated


@dataclass(frozen=True, slots=True)
class Policy:
    statements: tuple[Statement, ...]


def allows(policies: Iterable[Policy], action: str, resource: str) -> bool:
    """Whether the policies together allow `action` (as `voiceid:DescribeDomain`) on the ARN `resource`."""
    allowed = False
    for policy in policies:
        for statement in policy.statements:
            if statement.matches(action, resource):
                if not statement.allow:
                    return False
                allowed = True
    return allowed


@lru_cache(maxsize=1024)
def parse(text: str) -> Policy:
    """Read one policy document. Raises SetupError that says which statement is wrong and why."""
    try:
        document = json.loads(text)
    except ValueError as fault:
        raise SetupError(f"policy is not JSON: {fault}") from None
    statements = document.get("Statement") if isinstance(document, dict) else None
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise SetupError("policy must be an object with a list named Statement")
    return Policy(tuple(_statement(number, part) for number, part in enumerate(statements, 1)))


def _statement(number: int, part: Any) -> Statement:
    where = f"policy statement {number}"
    if not isinstance(part, dict):
        raise SetupError(f"{where} must be an object")
    if unknown := set(part) - {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource"}:
        raise SetupError(f"{where}: {', '.join(sorted(unknown))} is not supported")
    if part.get("Effect") not in ("Allow", "Deny"):
        raise SetupError(f"{where}: Effect must be Allow or Deny")
    action, action_negated = _one_of(where, part, "Action", "NotAction")
    resource, resource_negated = _one_of(where, part, "Resource", "NotResource")
    return Statement(
        allow=part["Effect"] == "Allow",
        action=_pattern([name.lower() for name in action]),
        action_negated=action_negated,
        resource=_pattern(resource),
        resource_negated=resource_negated,
    )


def _one_of(where: str, part: dict[str, Any], plain: str, negated: str) -> tuple[list[str], bool]:
    if (plain in part) == (negated in part):
        raise SetupError(f"{where} needs either {plain} or {negated}")
    value = part.get(plain, part.get(negated))
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(item, str) for item in values):
        raise SetupError(
            f"{where}: {plain if plain in part else negated} must be a string or a list of strings"
        )
    return values, negated in part


def _pattern(wildcards: Iterable[str]) -> re.Pattern[str]:
    def one(wildcard: str) -> str:
        # Runs of `*` are one: several in a row would only make matching slow.
        text = re.escape(re.sub(r"\*+", "*", wildcard))
        return text.replace(r"\*", ".*").replace(r"\?", ".")

    return re.compile("|".join(f"(?:{one(wildcard)})" for wildcard in wildcards), re.DOTALL)
