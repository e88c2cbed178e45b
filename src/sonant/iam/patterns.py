"""Patterns: text with wildcards (`*` is any run of characters, `?` any one) and policy variables.

A pattern becomes a regular expression in which every run is atomic: once the shortest run before a literal is
found, it is never tried again. The leftmost match of each literal is optimal for wildcards, so nothing is
lost, and the work is at most pattern length x text length for every pattern.

Variables (`${aws:username}`) stand in resources and condition values. `${key, 'default'}` has a value for
requests that lack the key; `${*}`, `${?}` and `${$}` are these characters themselves. A variable's value is
plain text: a `*` in a tag's value is no wildcard. An empty value is no value, else
`team-${aws:PrincipalTag/team}*` would be `team-*` for a principal with an empty tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from sonant.errors import SetupError
from sonant.iam.context import Facts

#: An ARN has six parts; the last may hold further colons (AWS docs, ARN condition operators).
ARN_PARTS = 6


class Wildcard(Enum):
    RUN = "*"
    ONE = "?"


#: A parsed pattern: literal text and wildcards.
Token = str | Wildcard
Tokens = tuple[Token, ...]

_WILDCARD = re.compile(r"(\*+|\?)")


def tokenize(pattern: str) -> Tokens:
    """Split a pattern into literals and wildcards; a run of `*` counts as one, an empty pattern has none."""
    return tuple(
        Wildcard.RUN if piece[0] == "*" else Wildcard.ONE if piece == "?" else piece
        for piece in _WILDCARD.split(pattern)
        if piece
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyOf:
    """Several patterns in one matcher: the cheap kinds, and the rest as one regular expression."""

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
    """Make a matcher for texts that at least one of the patterns matches as a whole."""
    everything, exact, prefixes, others = False, set(), [], []
    for pattern in map(_merge, patterns):
        match pattern:
            case []:
                exact.add("")
            case [str(text)]:
                exact.add(text)
            case [Wildcard.RUN]:
                everything = True
            case [str(text), Wildcard.RUN]:
                prefixes.append(text)
            case _:
                others.append(_regex(pattern, "."))
    return AnyOf(
        everything=everything,
        exact=frozenset(exact),
        prefixes=tuple(prefixes),
        others=_alternatives(others) if others else None,
    )


def any_arn_of(patterns: Iterable[Sequence[Token]]) -> AnyOf:
    """As `any_of` for ARNs: in the first five parts no wildcard matches a colon.

    A pattern of fewer than six parts matches nothing.
    """
    parts = [_split_arn(_merge(pattern)) for pattern in patterns]
    whole = [
        ":".join([*(_regex(part, "[^:]") for part in split[:-1]), _regex(split[-1], ".")])
        for split in parts
        if len(split) == ARN_PARTS
    ]
    others = _alternatives(whole) if whole else None
    return AnyOf(everything=False, exact=frozenset(), prefixes=(), others=others)


def _alternatives(alternatives: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{one})" for one in alternatives), re.DOTALL)


def _merge(pattern: Iterable[Token]) -> list[Token]:
    """Merge neighbouring literals, and neighbouring runs."""
    joined: list[Token] = []
    for token in pattern:
        if token == "":
            continue
        last = joined[-1] if joined else None
        if isinstance(token, str) and isinstance(last, str):
            joined[-1] = last + token
        elif token is not Wildcard.RUN or last is not Wildcard.RUN:
            joined.append(token)
    return joined


def _regex(pattern: Iterable[Token], one: str) -> str:
    pieces = [""]
    for token in pattern:
        if token is Wildcard.RUN:
            pieces.append("")
        else:
            pieces[-1] += one if token is Wildcard.ONE else re.escape(token)
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    return first + "".join(f"(?>{one}*?{piece})" for piece in middle) + f"{one}*{last}"


def _split_arn(pattern: Iterable[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in pattern:
        if isinstance(token, str):
            first, *rest = token.split(":", ARN_PARTS - len(parts))
            parts[-1].append(first)
            parts.extend([text] for text in rest)
        else:
            parts[-1].append(token)
    return parts


#: A longer result counts as unresolved. An ARN has at most 2,048 characters.
MAX_RESOLVED_CHARS = 2048

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_VARIABLE = re.compile(r"\s*([^\s{}',:]+:[^{}',]*[^\s{}',])\s*(?:,\s*'([^']*)'\s*)?")


@dataclass(frozen=True, slots=True)
class Variable:
    """A reference to a condition key."""

    key: str  # in lower case
    default: str | None


#: A parsed value of a policy: literal text, wildcards and variables.
Template = tuple[Token | Variable, ...]


def parse_template(text: str, *, wildcards: bool) -> Template:
    """Parse a value. Raises SetupError for a `${` that begins no variable."""
    parsed: list[Token | Variable] = []
    at = 0
    for reference in _REFERENCE.finditer(text):
        parsed.extend(_literal(text[at : reference.start()], wildcards))
        parsed.append(_variable(reference[1]))
        at = reference.end()
    parsed.extend(_literal(text[at:], wildcards))
    return tuple(parsed)


def has_variables(template: Template) -> bool:
    return any(isinstance(piece, Variable) for piece in template)


def resolve(template: Template, facts: Facts) -> Tokens | None:
    """Replace variables by their values; None if one has no value, or several, or the result is too long."""
    resolved: list[Token] = []
    chars = 0
    for piece in template:
        token: Token | None = piece if not isinstance(piece, Variable) else facts.text(piece.key)
        if token is None and isinstance(piece, Variable):
            token = piece.default
        if token is None:
            return None
        chars += len(token) if isinstance(token, str) else 1
        resolved.append(token)
    return tuple(resolved) if chars <= MAX_RESOLVED_CHARS else None


def constant(template: Template) -> Tokens:
    """Return the tokens of a template that has no variables."""
    return tuple(piece for piece in template if not isinstance(piece, Variable))


def _literal(text: str, wildcards: bool) -> Tokens:
    if "${" in text:
        raise SetupError("a variable is not closed: ${ without }")
    return tokenize(text) if wildcards else (text,) if text else ()


def _variable(inside: str) -> Token | Variable:
    if inside in ("*", "?", "$"):
        return inside
    variable = _VARIABLE.fullmatch(inside)
    if variable is None:
        raise SetupError(f"${{{inside[:60]}}} is not a variable such as ${{aws:username}}")
    return Variable(variable[1].lower(), variable[2])
