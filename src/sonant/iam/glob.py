"""Wildcards: `*` is any run of characters, `?` any one. Pure.

A pattern becomes a regular expression in which every run is atomic: once the shortest run before a piece of
text is found it is never tried again. Taking the leftmost place of each piece is optimal for wildcards, so
nothing is lost, and the work is at most pattern length x text length whatever the pattern looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

#: An ARN has six parts; the last may hold further colons (AWS docs, ARN condition operators).
ARN_PARTS = 6


class Wild(Enum):
    RUN = "*"
    ONE = "?"


#: A pattern, read: literal text and wildcards.
Token = str | Wild
Tokens = tuple[Token, ...]

_WILDCARD = re.compile(r"(\*+|\?)")


def tokens(pattern: str) -> Tokens:
    """The pattern's pieces; a run of `*` counts as one, an empty pattern has none."""
    return tuple(
        Wild.RUN if piece[0] == "*" else Wild.ONE if piece == "?" else piece
        for piece in _WILDCARD.split(pattern)
        if piece
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyOf:
    """Several patterns as one test, the cheap kinds apart from those that need a regular expression."""

    everything: bool
    exact: frozenset[str]
    prefixes: tuple[str, ...]
    others: re.Pattern[str] | None

    def matches(self, text: str) -> bool:
        return (
            self.everything
            or text in self.exact
            or text.startswith(self.prefixes)
            or (self.others is not None and self.others.fullmatch(text) is not None)
        )


def any_of(patterns: Iterable[Sequence[Token]]) -> AnyOf:
    """A test for texts that at least one of the patterns matches as a whole."""
    everything, exact, prefixes, others = False, set(), [], []
    for pattern in map(_joined, patterns):
        match pattern:
            case []:
                exact.add("")
            case [str(text)]:
                exact.add(text)
            case [Wild.RUN]:
                everything = True
            case [str(text), Wild.RUN]:
                prefixes.append(text)
            case _:
                others.append(_regex(pattern, "."))
    return AnyOf(
        everything=everything,
        exact=frozenset(exact),
        prefixes=tuple(prefixes),
        others=_compiled(others) if others else None,
    )


def any_arn_of(patterns: Iterable[Sequence[Token]]) -> AnyOf:
    """As `any_of`, part by part: in the first five parts of an ARN no wildcard matches a colon.

    A pattern of fewer than six parts matches nothing.
    """
    parts = [_arn_parts(_joined(pattern)) for pattern in patterns]
    whole = [
        ":".join([*(_regex(part, "[^:]") for part in split[:-1]), _regex(split[-1], ".")])
        for split in parts
        if len(split) == ARN_PARTS
    ]
    others = _compiled(whole) if whole else None
    return AnyOf(everything=False, exact=frozenset(), prefixes=(), others=others)


def _compiled(alternatives: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{one})" for one in alternatives), re.DOTALL)


def _joined(pattern: Iterable[Token]) -> list[Token]:
    """Neighbouring texts become one, neighbouring runs too."""
    joined: list[Token] = []
    for token in pattern:
        if token == "":
            continue
        last = joined[-1] if joined else None
        if isinstance(token, str) and isinstance(last, str):
            joined[-1] = last + token
        elif token is not Wild.RUN or last is not Wild.RUN:
            joined.append(token)
    return joined


def _regex(pattern: Iterable[Token], one: str) -> str:
    pieces = [""]
    for token in pattern:
        if token is Wild.RUN:
            pieces.append("")
        else:
            pieces[-1] += one if token is Wild.ONE else re.escape(token)
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    return first + "".join(f"(?>{one}*?{piece})" for piece in middle) + f"{one}*{last}"


def _arn_parts(pattern: Iterable[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in pattern:
        if isinstance(token, str):
            first, *rest = token.split(":", ARN_PARTS - len(parts))
            parts[-1].append(first)
            parts.extend([text] for text in rest)
        else:
            parts[-1].append(token)
    return parts
