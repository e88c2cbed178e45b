"""The decision over several policies, and how it came about. Pure.

As in AWS: a statement that denies wins, else one that allows is needed, else the answer is no.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sonant.iam.context import NOTHING, Context, Facts
from sonant.iam.statements import Policy

#: Decisions that a judge remembers at most.
MOST_REMEMBERED = 256


def allows(policies: Iterable[Policy], action: str, resource: str, context: Context = NOTHING) -> bool:
    """Whether the policies together allow `action` (as `voiceid:DescribeDomain`) on the ARN `resource`."""
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
    """Decides over the same policies again and again, as `allows` does.

    A decision of policies without conditions and variables depends on nothing but action and resource, and
    is taken once. For several threads.
    """

    __slots__ = ("_policies", "_taken", "unconditional")

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._policies = tuple(policies)
        self._taken: dict[tuple[str, str], bool] = {}
        self.unconditional = all(
            statement.unconditional for policy in self._policies for statement in policy.statements
        )
        """Whether no statement asks for anything that a context holds."""

    def allows(self, action: str, resource: str, context: Context = NOTHING) -> bool:
        if not self.unconditional:
            return allows(self._policies, action, resource, context)
        decision = self._taken.get((action, resource))
        if decision is None:
            if len(self._taken) >= MOST_REMEMBERED:
                self._taken.clear()
            decision = self._taken[action, resource] = allows(self._policies, action, resource)
        return decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """How one statement fared."""

    policy_index: int  # from 0
    statement: str | int  # Sid, else number from 1
    allow: bool
    mismatch_reason: str | None  # None: the statement applies

    @property
    def applies(self) -> bool:
        return self.mismatch_reason is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An answer and the statement that gave it. No text in it holds a value of the request."""

    allowed: bool
    explicit_deny: bool
    policy_index: int | None  # from 0; None if no statement applies
    statement: str | int | None  # Sid, else number from 1
    reason: str
    trace: tuple[Trace, ...]  # every statement, in order


def decide(policies: Iterable[Policy], action: str, resource: str, context: Context = NOTHING) -> Decision:
    """As `allows`, and why: the first statement that denies, else the first that allows."""
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
