"""Statements: which actions and resources they are about, under which conditions. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from sonant.iam.conditions import Condition, NullCheck, resolve_all
from sonant.iam.context import Facts
from sonant.iam.glob import AnyOf, any_of
from sonant.iam.variables import Pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """An element such as Action or NotAction: compiled patterns; `negated` covers what they do not name."""

    element: str  # "action" or "resource"
    negated: bool
    constant: AnyOf
    with_variables: tuple[Pieces, ...] = ()
    miss: str = field(init=False)  # made once: most statements are not about the request at hand

    def __post_init__(self) -> None:
        reason = f"the {self.element} is {'excepted' if self.negated else 'not named'}"
        object.__setattr__(self, "miss", reason)

    def mismatch_reason(self, text: str, facts: Facts, allow: bool) -> str | None:
        """None if the element covers `text`, else the reason."""
        named = self.constant.matches(text)
        if self.with_variables:
            resolved = resolve_all(self.with_variables, facts, allow)
            if resolved is None:
                return f"the {self.element}: a variable has no value"
            named = named or any_of(resolved).matches(text)
        return None if named != self.negated else self.miss


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a policy."""

    number: int  # from 1, its place in the document
    sid: str | None
    allow: bool
    actions: Names  # in lower case
    resources: Names
    conditions: tuple[Condition | NullCheck, ...]

    @property
    def name(self) -> str | int:
        """The Sid, else the number."""
        return self.sid or self.number

    @property
    def unconditional(self) -> bool:
        """Whether action and resource alone say if it applies."""
        return not (self.conditions or self.actions.with_variables or self.resources.with_variables)

    def mismatch_reason(self, action: str, resource: str, facts: Facts) -> str | None:
        """None if the statement applies, else the reason. The action is given in lower case."""
        return (
            self.actions.mismatch_reason(action, facts, self.allow)
            or self.resources.mismatch_reason(resource, facts, self.allow)
            or (first_failing(self.conditions, facts) if self.conditions else None)
        )


def first_failing(conditions: tuple[Condition | NullCheck, ...], facts: Facts) -> str | None:
    """Why the first condition that does not hold does not; None if all hold."""
    for condition in conditions:
        reason = condition.mismatch_reason(facts)
        if reason is not None:
            return reason
    return None


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy of a user or role."""

    statements: tuple[Statement, ...]
    denials: tuple[Statement, ...] = field(init=False, repr=False, compare=False)
    allowances: tuple[Statement, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "denials", tuple(one for one in self.statements if not one.allow))
        object.__setattr__(self, "allowances", tuple(one for one in self.statements if one.allow))
