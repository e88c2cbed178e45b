"""What is known about a request when policies are judged: condition keys and their values. Pure.

A context is a plain mapping. Keys are those of AWS (`aws:SourceIp`, `aws:TagKeys`, ...), in any case. A value
may be a function without arguments; it is called at most once a decision and only if a statement asks for
it. Tags may be given one by one (`aws:ResourceTag/team`) or all together under the name that ends with the
slash, since who builds the context need not know which tags a policy asks for:

    {"aws:SourceIp": "192.0.2.7", "aws:ResourceTag/": lambda: {"team": "blue"}}
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

Scalar = str | bool | int | float | datetime
#: None is the same as leaving the key out. A mapping is for the tag families only.
Value = Scalar | Collection[str] | Mapping[str, str] | None
Context = Mapping[str, Value | Callable[[], Value]]

#: A request about which nothing is known.
NOTHING: Context = MappingProxyType({})


class Facts:
    """A context as conditions read it, for the length of one decision."""

    __slots__ = ("_computed", "_context", "_spellings", "_values")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._spellings: dict[str, list[str]] = {}
        self._computed: dict[str, Value] = {}
        self._values: dict[str, tuple[Scalar, ...]] = {}

    def values(self, key: str) -> tuple[Scalar, ...]:
        """The values of a key, which is given in lower case; none if the request lacks it.

        Keys and tags that differ in case only are one key with several values.
        """
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = tuple(self._find(key))
        return found

    def text(self, key: str) -> str | None:
        """The one value of a key as text; None if it has none, several or an empty one."""
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
    """A value as string operators and variables see it: `true`, `7`, `2026-01-31T09:00:00Z`."""
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
