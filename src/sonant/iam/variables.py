"""Policy variables: `${aws:username}` in resources and condition values. Pure.

`${key, 'default'}` has a value for requests that lack the key; `${*}`, `${?}` and `${$}` are these characters
themselves. What a variable stands for is plain text: a `*` in a tag's value is no wildcard. An empty value is
no value, else `team-${aws:PrincipalTag/team}*` would be `team-*` for who has an empty tag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sonant.errors import SetupError
from sonant.iam.context import Facts
from sonant.iam.glob import Token, Tokens, tokens

#: A value grown longer than this by its variables counts as unresolved. An ARN has at most 2,048.
MAX_RESOLVED_CHARS = 2048

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_VARIABLE = re.compile(r"\s*([^\s{}',:]+:[^{}',]*[^\s{}',])\s*(?:,\s*'([^']*)'\s*)?")


@dataclass(frozen=True, slots=True)
class Variable:
    key: str
    default: str | None


#: A value of a policy, read: text, wildcards, variables.
Pieces = tuple[Token | Variable, ...]


def pieces(text: str, *, wildcards: bool) -> Pieces:
    """Read a value. Raises SetupError if a `${` begins nothing that is a variable."""
    read: list[Token | Variable] = []
    at = 0
    for reference in _REFERENCE.finditer(text):
        read.extend(_plain(text[at : reference.start()], wildcards))
        read.append(_referred(reference[1]))
        at = reference.end()
    read.extend(_plain(text[at:], wildcards))
    return tuple(read)


def has_variables(value: Pieces) -> bool:
    return any(isinstance(piece, Variable) for piece in value)


def resolve(value: Pieces, facts: Facts) -> Tokens | None:
    """The value with its variables replaced; None if one has no value, or several, or grows too long."""
    resolved: list[Token] = []
    chars = 0
    for piece in value:
        token: Token | None = piece if not isinstance(piece, Variable) else facts.text(piece.key)
        if token is None and isinstance(piece, Variable):
            token = piece.default
        if token is None:
            return None
        chars += len(token) if isinstance(token, str) else 1
        resolved.append(token)
    return tuple(resolved) if chars <= MAX_RESOLVED_CHARS else None


def constant(value: Pieces) -> Tokens:
    """A value without variables."""
    return tuple(piece for piece in value if not isinstance(piece, Variable))


def _plain(text: str, wildcards: bool) -> Tokens:
    if "${" in text:
        raise SetupError("a variable is not closed: ${ without }")
    return tokens(text) if wildcards else (text,) if text else ()


def _referred(inside: str) -> Token | Variable:
    if inside in ("*", "?", "$"):
        return inside
    variable = _VARIABLE.fullmatch(inside)
    if variable is None:
        raise SetupError(f"${{{inside[:60]}}} is not a variable such as ${{aws:username}}")
    return Variable(variable[1].lower(), variable[2])
