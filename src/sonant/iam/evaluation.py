"""Evaluation: which statements of policies apply to a request, and what they decide together.

As in AWS: a statement that denies wins, else one that allows is needed, else the answer is no.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sonant.iam.conditions import Condition, NullCheck, resolve_all
from sonant.iam.context import NOTHING, Context, Facts
from sonant.iam.patterns import AnyOf, Template, any_of
from sonant.iam.services import OWN, VOICE_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementMatcher:
    """An element such as Action or NotAction, compiled. `negated` inverts it: it covers all other names."""

    element: str  # "action" or "resource"
    negated: bool
    constant: AnyOf
    with_variables: tuple[Template, ...] = ()
    mismatch: str = field(init=False)  # built once: most statements do not match the request

    def __post_init__(self) -> None:
        reason = f"the {self.element} is {'excepted' if self.negated else 'not named'}"
        object.__setattr__(self, "mismatch", reason)

    def mismatch_reason(self, text: str, facts: Facts, allow: bool) -> str | None:
        """None if the element covers `text`, else the reason."""
        named = self.constant.matches(text)
        if self.with_variables:
            resolved = resolve_all(self.with_variables, facts, allow)
            if resolved is None:
                return f"the {self.element}: a variable has no value"
            named = named or any_of(resolved).matches(text)
        return None if named != self.negated else self.mismatch


def former_action(action: str) -> str | None:
    """Return the name that an action of Sonant's own had when all shared Voice ID's prefix.

    Both names are in lower case. None for actions of other services.
    """
    return action.replace(OWN, VOICE_ID, 1) if action.startswith(f"{OWN}:") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a policy."""

    number: int  # from 1, its place in the document
    sid: str | None
    allow: bool
    actions: ElementMatcher  # in lower case
    resources: ElementMatcher
    conditions: tuple[Condition | NullCheck, ...]

    @property
    def name(self) -> str | int:
        """The Sid, else the number."""
        return self.sid or self.number

    @property
    def unconditional(self) -> bool:
        """Whether action and resource alone decide if it applies."""
        return not (self.conditions or self.actions.with_variables or self.resources.with_variables)

    def mismatch_reason(self, action: str, resource: str, facts: Facts) -> str | None:
        """None if the statement applies, else the reason. The action is given in lower case."""
        return (
            self._action_mismatch(action, facts)
            or self.resources.mismatch_reason(resource, facts, self.allow)
            or (first_failing(self.conditions, facts) if self.conditions else None)
        )

    def _action_mismatch(self, action: str, facts: Facts) -> str | None:
        """Match an action by its name and, for this release, by its former one.

        Written out, the former name counts as the name itself. By a wildcard it counts only where that takes
        rights away: `voiceid:*` does not allow what Voice ID never had, but still denies it.
        """
        reason = self.actions.mismatch_reason(action, facts, self.allow)
        former = former_action(action)
        if former is None or self.actions.constant.matches(action):
            return reason
        by_wildcard = self.allow == self.actions.negated and self.actions.constant.matches(former)
        if not (by_wildcard or former in self.actions.constant.exact):
            return reason
        return self.actions.mismatch if self.actions.negated else None


def first_failing(conditions: tuple[Condition | NullCheck, ...], facts: Facts) -> str | None:
    """Return the reason of the first condition that does not hold; None if all hold."""
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


#: Most decisions that a PolicyEvaluator keeps.
MAX_CACHED_DECISIONS = 256


def allows(policies: Iterable[Policy], action: str, resource: str, context: Context = NOTHING) -> bool:
    """Return whether the policies together allow `action`, such as `voiceid:DescribeDomain`, on an ARN."""
    policies = tuple(policies)
    action = action.lower()
    facts = Facts(context)
    for policy in policies:
        for statement in policy.denials:
            if statement.mismatch_reason(action, resource, facts) is None:
                return False
    for policy in policies:
        for statement in policy.allowances:
            if statement.mismatch_reason(action, resource, facts) is None:
                return True
    return False


class PolicyEvaluator:
    """Decides for a fixed set of policies as `allows` does. Thread-safe.

    Decisions of policies without conditions and variables depend on action and resource only, and are
    cached.
    """

    __slots__ = ("_cache", "_policies", "unconditional")

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._policies = tuple(policies)
        self._cache: dict[tuple[str, str], bool] = {}
        self.unconditional = all(
            statement.unconditional for policy in self._policies for statement in policy.statements
        )
        """Whether no statement depends on the context."""

    @property
    def cached_decisions(self) -> int:
        """How many decisions are cached."""
        return len(self._cache)

    def allows(self, action: str, resource: str, context: Context = NOTHING) -> bool:
        """Return whether the policies allow `action` on `resource`; see the function `allows`."""
        if not self.unconditional:
            return allows(self._policies, action, resource, context)
        decision = self._cache.get((action, resource))
        if decision is None:
            if len(self._cache) >= MAX_CACHED_DECISIONS:
                self._cache.clear()
            decision = self._cache[action, resource] = allows(self._policies, action, resource)
        return decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The outcome of one statement."""

    policy_index: int  # from 0
    statement: str | int  # Sid, else number from 1
    allow: bool
    mismatch_reason: str | None  # None: the statement applies

    @property
    def applies(self) -> bool:
        return self.mismatch_reason is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of `decide`, and the statement behind it. No text in it holds a value of the request."""

    allowed: bool
    explicit_deny: bool
    policy_index: int | None  # from 0; None if no statement applies
    statement: str | int | None  # Sid, else number from 1
    reason: str
    trace: tuple[Trace, ...]  # every statement, in order


def decide(policies: Iterable[Policy], action: str, resource: str, context: Context = NOTHING) -> Decision:
    """Decide as `allows` does, and name the first statement that denies, else the first that allows."""
    lowered = action.lower()
    facts = Facts(context)
    trace = tuple(
        Trace(
            policy_index=index,
            statement=statement.name,
            allow=statement.allow,
            mismatch_reason=statement.mismatch_reason(lowered, resource, facts),
        )
        for index, policy in enumerate(policies)
        for statement in policy.statements
    )
    # Denials first; the sort is stable.
    applying = sorted((one for one in trace if one.applies), key=lambda one: one.allow)
    if not applying:
        return Decision(
            allowed=False,
            explicit_deny=False,
            policy_index=None,
            statement=None,
            reason="denied: no statement allows it",
            trace=trace,
        )
    decisive = applying[0]
    verdict = "allowed" if decisive.allow else "explicitly denied"
    return Decision(
        allowed=decisive.allow,
        explicit_deny=not decisive.allow,
        policy_index=decisive.policy_index,
        statement=decisive.statement,
        reason=f"{verdict} by statement {decisive.statement} of policy {decisive.policy_index + 1}",
        trace=trace,
    )
