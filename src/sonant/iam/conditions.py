"""Conditions of a statement: their operators, and when they hold for a request.

The rules are those of the AWS docs. Operators and keys are ANDed, the values of a key ORed, those of a
negated operator NORed. A key that the request lacks fails a condition, satisfies a negated one, one with
`IfExists` and one with `ForAllValues`, and fails one with `ForAnyValue`. An empty set of values, and the
empty string under `ForAllValues` and `ForAnyValue`, count as lacking.

Two rules of our own, both on the narrow side:

- Several values under an operator without `ForAllValues` or `ForAnyValue` (AWS docs say not to do it): to
  allow, all must satisfy it; to deny, one is enough.
- A variable without a value: an Allow does not apply at all. In a Deny, as in AWS, only the value that holds
  it matches nothing, which satisfies a negated operator: "deny unless the tags are equal" denies a
  principal without a tag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt
from typing import Any

from sonant.errors import SetupError
from sonant.iam.context import (
    Facts,
    Scalar,
    as_text,
    parse_address,
    parse_bool,
    parse_network,
    parse_number,
    parse_time,
)
from sonant.iam.patterns import (
    ARN_PARTS,
    Template,
    Tokens,
    any_arn_of,
    any_of,
    constant,
    has_variables,
    parse_template,
    resolve,
)

Predicate = Callable[[Scalar], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOperator:
    """Compares text. Its values may hold variables, so the predicate is made of resolved values."""

    predicate_of: Callable[[Iterable[Tokens]], Predicate]
    parse: Callable[[str], Template]
    negated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedOperator:
    """Compares numbers, dates, booleans or addresses. Its values are parsed once."""

    predicate_of: Callable[[Sequence[str]], Predicate]
    negated: bool


def _equal(values: Iterable[Tokens]) -> Predicate:
    patterns = any_of(values)
    return lambda value: patterns.matches(as_text(value))


def _equal_in_any_case(values: Iterable[Tokens]) -> Predicate:
    folded = {"".join(map(str, value)).casefold() for value in values}
    return lambda value: as_text(value).casefold() in folded


def _equal_arn(values: Iterable[Tokens]) -> Predicate:
    patterns = any_arn_of(values)
    return lambda value: patterns.matches(as_text(value))


def _text(value: str) -> Template:
    return parse_template(value, wildcards=False)


def _pattern(value: str) -> Template:
    return parse_template(value, wildcards=True)


def _arn(value: str) -> Template:
    template = parse_template(value, wildcards=True)
    # A variable may hold several parts of the ARN: their number is known only when it is resolved.
    complete = has_variables(template) or value.count(":") >= ARN_PARTS - 1
    if not (complete and value.startswith(("arn:", "${"))):
        raise SetupError(f"{value[:80]!r} is not an ARN")
    return template


def _compared(
    kind: str,
    parse: Callable[[Scalar], Any | None],
    matches: Callable[[Any, Any], bool],
    parse_policy: Callable[[Scalar], Any | None] | None = None,
) -> Callable[[Sequence[str]], Predicate]:
    """Make the `predicate_of` of a TypedOperator. `matches` gets the request's value and the policy's."""

    def predicate_of(texts: Sequence[str]) -> Predicate:
        expected = [(parse_policy or parse)(text) for text in texts]
        if None in expected:
            raise SetupError(f"{texts[expected.index(None)][:80]!r} is not {kind}")

        def test(value: Scalar) -> bool:
            actual = parse(value)
            return actual is not None and any(matches(actual, one) for one in expected)

        return test

    return predicate_of


_COMPARISONS = {
    "Equals": eq,
    "LessThan": lt,
    "LessThanEquals": le,
    "GreaterThan": gt,
    "GreaterThanEquals": ge,
}
_within = _compared(
    "an IP address or CIDR range",
    parse_address,
    lambda one, range_: one in range_,
    parse_policy=parse_network,
)

_TEXT = {
    "String{}Equals": (_equal, _text),
    "String{}EqualsIgnoreCase": (_equal_in_any_case, _text),
    "String{}Like": (_equal, _pattern),
    # AWS docs: ArnEquals and ArnLike behave identically.
    "Arn{}Equals": (_equal_arn, _arn),
    "Arn{}Like": (_equal_arn, _arn),
}
_TYPED = {
    "Bool": _compared("true or false", parse_bool, eq),
    "IpAddress": _within,
    **{f"Numeric{name}": _compared("a number", parse_number, test) for name, test in _COMPARISONS.items()},
    **{f"Date{name}": _compared("a date", parse_time, test) for name, test in _COMPARISONS.items()},
}
_TYPED_NEGATED = {
    "NotIpAddress": _within,
    "NumericNotEquals": _TYPED["NumericEquals"],
    "DateNotEquals": _TYPED["DateEquals"],
}

#: Every operator but Null, by its name in lower case.
OPERATORS: dict[str, TextOperator | TypedOperator] = {
    name.lower(): operator
    for table in (
        {
            name.format(word): TextOperator(predicate_of=predicate_of, parse=parse, negated=word == "Not")
            for name, (predicate_of, parse) in _TEXT.items()
            for word in ("", "Not")
        },
        {
            name: TypedOperator(predicate_of=predicate_of, negated=False)
            for name, predicate_of in _TYPED.items()
        },
        {
            name: TypedOperator(predicate_of=predicate_of, negated=True)
            for name, predicate_of in _TYPED_NEGATED.items()
        },
    )
    for name, operator in table.items()
}


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
    test: Predicate | None  # None if it needs variables: then it is made of `operator` and `values`
    operator: TextOperator | None
    values: tuple[Template, ...]

    def mismatch_reason(self, facts: Facts) -> str | None:
        """None if the condition holds, else the reason, which shows no value of the request or policy."""
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

    def _resolved(self, facts: Facts) -> Predicate | None:
        assert self.operator is not None
        values = resolve_all(self.values, facts, self.allow)
        return None if values is None else self.operator.predicate_of(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class NullCheck:
    """The operator Null: whether the request has a key; `true` means that it must not."""

    shown: str
    key: str
    absent: frozenset[bool]  # accepted answers to "is the key absent?"

    def mismatch_reason(self, facts: Facts) -> str | None:
        is_absent = not facts.values(self.key)
        if is_absent in self.absent:
            return None
        return f"{self.shown}: the request has {'no' if is_absent else 'a'} value for it"


def resolve_all(values: Sequence[Template], facts: Facts, allow: bool) -> list[Tokens] | None:
    """Replace the variables of values. If one has no value: None to allow, without that value to deny."""
    resolved = []
    for value in values:
        found = resolve(value, facts)
        if found is not None:
            resolved.append(found)
        elif allow:
            return None
    return resolved


def parse_conditions(element: Any, allow: bool) -> tuple[Condition | NullCheck, ...]:
    """Parse the Condition element of a statement. Raises SetupError that says what is wrong."""
    if not isinstance(element, dict):
        raise SetupError("Condition must be an object")
    conditions: list[Condition | NullCheck] = []
    for name, block in element.items():
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
        absent = [parse_bool(text) for text in texts]
        if None in absent:
            raise SetupError(f"{texts[absent.index(None)][:80]!r} is not true or false")
        return NullCheck(shown=shown, key=key.lower(), absent=frozenset(map(bool, absent)))
    name_parts = _OPERATOR.fullmatch(name.lower())
    operator = OPERATORS.get(name_parts[2]) if name_parts else None
    if name_parts is None or operator is None:
        raise SetupError("the operator is not known")
    quantifier = name_parts[1]
    values: tuple[Template, ...] = ()
    test = None
    if not isinstance(operator, TextOperator):
        test = operator.predicate_of(texts)
    else:
        values = tuple(operator.parse(text) for text in texts)
        if not any(map(has_variables, values)):
            test = operator.predicate_of([constant(value) for value in values])
    return Condition(
        shown=shown,
        key=key.lower(),
        allow=allow,
        negated=operator.negated,
        every=quantifier == "forallvalues" if quantifier else allow,
        over_set=bool(quantifier),
        if_exists=name_parts[3] is not None,
        test=test,
        operator=operator if isinstance(operator, TextOperator) else None,
        values=values,
    )


def _texts(values: Any) -> list[str]:
    """Convert a string, number or boolean, or a list of them, to texts."""
    several = values if isinstance(values, list) else [values]
    if not several or not all(isinstance(value, str | bool | int | float) for value in several):
        raise SetupError("the value must be a string, number or boolean, or a list of these")
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in several]
