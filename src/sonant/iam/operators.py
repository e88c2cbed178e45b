"""What each condition operator compares. Pure.

An operator, given the values of a policy, makes a test of one value of a request: does it match any of them?
Negation, missing keys and sets of values are the business of `conditions`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sonant.errors import SetupError
from sonant.iam.context import Scalar, as_text
from sonant.iam.glob import ARN_PARTS, Tokens, any_arn_of, any_of
from sonant.iam.values import address, instant, network, number, truth
from sonant.iam.variables import Pieces, has_variables, pieces

Test = Callable[[Scalar], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOperator:
    """Compares text. Its values may hold variables, so the test is made of resolved values."""

    test_of: Callable[[Iterable[Tokens]], Test]
    read: Callable[[str], Pieces]
    negated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedOperator:
    """Compares numbers, dates, truth values or addresses. Its values are read once."""

    test_of: Callable[[Sequence[str]], Test]
    negated: bool


# --- text ---------------------------------------------------------------------------------------------


def _equal(values: Iterable[Tokens]) -> Test:
    test = any_of(values)
    return lambda value: test.matches(as_text(value))


def _equal_in_any_case(values: Iterable[Tokens]) -> Test:
    folded = {"".join(map(str, value)).casefold() for value in values}
    return lambda value: as_text(value).casefold() in folded


def _equal_arn(values: Iterable[Tokens]) -> Test:
    test = any_arn_of(values)
    return lambda value: test.matches(as_text(value))


def _text(value: str) -> Pieces:
    return pieces(value, wildcards=False)


def _pattern(value: str) -> Pieces:
    return pieces(value, wildcards=True)


def _arn(value: str) -> Pieces:
    read = pieces(value, wildcards=True)
    # A variable may bring parts with it: how many is known only when it is resolved.
    complete = has_variables(read) or value.count(":") >= ARN_PARTS - 1
    if not (complete and value.startswith(("arn:", "${"))):
        raise SetupError(f"{value[:80]!r} is not an ARN")
    return read


# --- numbers, dates, truth values, addresses ----------------------------------------------------------


def _compared(
    kind: str,
    read: Callable[[Scalar], Any | None],
    matches: Callable[[Any, Any], bool],
    read_policy: Callable[[Scalar], Any | None] | None = None,
) -> Callable[[Sequence[str]], Test]:
    """`matches` is asked of the request's value and the policy's, in this order."""

    def test_of(texts: Sequence[str]) -> Test:
        wanted = [(read_policy or read)(text) for text in texts]
        if None in wanted:
            raise SetupError(f"{texts[wanted.index(None)][:80]!r} is not {kind}")

        def test(value: Scalar) -> bool:
            actual = read(value)
            return actual is not None and any(matches(actual, one) for one in wanted)

        return test

    return test_of


_COMPARISONS = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}
_within = _compared(
    "an IP address or CIDR range", address, lambda one, range_: one in range_, read_policy=network
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
    "Bool": _compared("true or false", truth, operator.eq),
    "IpAddress": _within,
    **{f"Numeric{name}": _compared("a number", number, test) for name, test in _COMPARISONS.items()},
    **{f"Date{name}": _compared("a date", instant, test) for name, test in _COMPARISONS.items()},
}
_TYPED_NEGATED = {
    "NotIpAddress": _within,
    "NumericNotEquals": _TYPED["NumericEquals"],
    "DateNotEquals": _TYPED["DateEquals"],
}

#: Every operator but Null, by its name in lower case.
OPERATORS: dict[str, TextOperator | TypedOperator] = {
    name.lower(): made
    for table in (
        {
            name.format(word): TextOperator(test_of=test_of, read=read, negated=word == "Not")
            for name, (test_of, read) in _TEXT.items()
            for word in ("", "Not")
        },
        {name: TypedOperator(test_of=test_of, negated=False) for name, test_of in _TYPED.items()},
        {name: TypedOperator(test_of=test_of, negated=True) for name, test_of in _TYPED_NEGATED.items()},
    )
    for name, made in table.items()
}
