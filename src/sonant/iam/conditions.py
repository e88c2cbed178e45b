"""Conditions of a statement: when they hold for a request. Pure.

The rules are those of the AWS docs. Operators and keys are ANDed, the values of a key ORed, those of a
negated operator NORed. A key that the request lacks fails a condition, satisfies a negated one, one with
`IfExists` and one with `ForAllValues`, and fails one with `ForAnyValue`. An empty set of values, and the
empty string under `ForAllValues` and `ForAnyValue`, count as lacking.

Two rules of our own, both on the narrow side:

- Several values under an operator without `ForAllValues` or `ForAnyValue` (AWS docs say not to do it): to
  allow, all must satisfy it; to deny, one is enough.
- A variable without a value: an Allow does not apply at all. In a Deny, as in AWS, only the value that holds
  it matches nothing, which satisfies a negated operator: "deny unless the tags are equal" denies who has no
  tag.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sonant.errors import SetupError
from sonant.iam.context import Facts
from sonant.iam.glob import Tokens
from sonant.iam.operators import OPERATORS, Test, TextOperator
from sonant.iam.values import truth
from sonant.iam.variables import Pieces, constant, has_variables, resolve

_OPERATOR = re.compile(r"(?:(forallvalues|foranyvalue):)?([a-z]+?)(ifexists)?")
_KEY = re.compile(r"[^\s:/]+:\S.{0,255}", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One operator on one key."""

    shown: str  # operator and key as written
    key: str  # in lower case
    allow: bool  # the statement's effect
    negated: bool
    every: bool  # all values of the request must satisfy it, else one is enough
    over_set: bool  # ForAllValues or ForAnyValue
    if_exists: bool
    test: Test | None  # None if it needs variables: then it is made of `operator` and `values`
    operator: TextOperator | None
    values: tuple[Pieces, ...]

    def mismatch_reason(self, facts: Facts) -> str | None:
        """None if the condition holds, else the reason; it tells no value of the request or policy."""
        actual = facts.values(self.key)
        if not actual:
            holds = self.if_exists or (self.every if self.over_set else self.negated)
            return None if holds else f"{self.shown}: the request has no such key"
        if self.over_set and actual == ("",):
            return None if self.every else f"{self.shown}: the request's value is empty"
        test = self.test or self._resolved(facts)
        if test is None:
            return f"{self.shown}: a variable has no value"
        satisfied = (test(value) != self.negated for value in actual)
        if all(satisfied) if self.every else any(satisfied):
            return None
        return f"{self.shown}: the request's value does not satisfy it"

    def _resolved(self, facts: Facts) -> Test | None:
        assert self.operator is not None
        values = resolve_all(self.values, facts, self.allow)
        return None if values is None else self.operator.test_of(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class NullCheck:
    """Whether the request has a key: `true` means that it must not."""

    shown: str
    key: str
    absent: frozenset[bool]

    def mismatch_reason(self, facts: Facts) -> str | None:
        is_absent = not facts.values(self.key)
        if is_absent in self.absent:
            return None
        return f"{self.shown}: the request has {'no' if is_absent else 'a'} value for it"


def resolve_all(values: Sequence[Pieces], facts: Facts, allow: bool) -> list[Tokens] | None:
    """The values with variables replaced. One that cannot be: None to allow, left out to deny."""
    resolved = []
    for value in values:
        tokens = resolve(value, facts)
        if tokens is not None:
            resolved.append(tokens)
        elif allow:
            return None
    return resolved


def read_conditions(part: Any, allow: bool) -> tuple[Condition | NullCheck, ...]:
    """Read the Condition element of a statement. Raises SetupError that says what is wrong."""
    if not isinstance(part, dict):
        raise SetupError("Condition must be an object")
    conditions: list[Condition | NullCheck] = []
    for name, block in part.items():
        if not isinstance(block, dict) or not block:
            raise SetupError(f"Condition {name[:60]} must be an object of keys and values")
        for key, values in block.items():
            if not _KEY.fullmatch(key):
                raise SetupError(f"Condition {name[:60]}: {key[:60]!r} is not a key such as aws:SourceIp")
            try:
                conditions.append(_condition(name, key, _texts(values), allow))
            except SetupError as fault:
                raise SetupError(f"Condition {name[:60]} {key[:60]}: {fault}") from None
    return tuple(conditions)


def _condition(name: str, key: str, texts: list[str], allow: bool) -> Condition | NullCheck:
    shown = f"condition {name} {key}"
    if name.lower() == "null":
        absent = [truth(text) for text in texts]
        if None in absent:
            raise SetupError(f"{texts[absent.index(None)][:80]!r} is not true or false")
        return NullCheck(shown=shown, key=key.lower(), absent=frozenset(map(bool, absent)))
    parts = _OPERATOR.fullmatch(name.lower())
    operator = OPERATORS.get(parts[2]) if parts else None
    if parts is None or operator is None:
        raise SetupError("the operator is not known")
    quantifier = parts[1]
    values: tuple[Pieces, ...] = ()
    test = None
    if not isinstance(operator, TextOperator):
        test = operator.test_of(texts)
    else:
        values = tuple(operator.read(text) for text in texts)
        if not any(map(has_variables, values)):
            test = operator.test_of([constant(value) for value in values])
    return Condition(
        shown=shown,
        key=key.lower(),
        allow=allow,
        negated=operator.negated,
        every=quantifier == "forallvalues" if quantifier else allow,
        over_set=bool(quantifier),
        if_exists=parts[3] is not None,
        test=test,
        operator=operator if isinstance(operator, TextOperator) else None,
        values=values,
    )


def _texts(values: Any) -> list[str]:
    """Strings, numbers and truth values, one or a list of them, as text."""
    several = values if isinstance(values, list) else [values]
    if not several or not all(isinstance(value, str | bool | int | float) for value in several):
        raise SetupError("the value must be a string, number or boolean, or a list of these")
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in several]
