"""Trust policies (AssumeRolePolicyDocument): which principals may assume a role."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from sonant.iam.conditions import Condition, NullCheck
from sonant.iam.context import NOTHING, Context, Facts
from sonant.iam.documents import MAX_POLICY_CHARS, RawStatement, read_statements, strings
from sonant.iam.evaluation import ElementMatcher, first_failing

ASSUME_ROLE = "sts:AssumeRole"

_ELEMENTS = frozenset(("Sid", "Effect", "Principal", "Action", "Condition"))
_ACCOUNT = re.compile(r"[0-9]{12}")
_ROOT = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):root")
_PRINCIPAL = re.compile(
    r"arn:(aws[a-z-]*):(?:iam|sts)::([0-9]{12}):(user|role|assumed-role|federated-user)/([^*?${}\s]+)"
)
_SERVICE = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """The principals of a statement: ARNs, or services such as `voiceid.amazonaws.com`."""

    everyone: bool = False  # services too
    every_arn: bool = False
    accounts: frozenset[str] = frozenset()
    arns: frozenset[str] = frozenset()
    roles_of_sessions: frozenset[str] = frozenset()  # arn:aws:sts::account:assumed-role/name
    services: frozenset[str] = frozenset()

    def include(self, principal: str) -> bool:
        if self.everyone:
            return True
        if not principal.startswith("arn:"):
            return principal in self.services
        account = (principal.split(":", 5) + [""] * 5)[4]
        return (
            self.every_arn
            or principal in self.arns
            or account in self.accounts
            or principal.rpartition("/")[0] in self.roles_of_sessions
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustStatement:
    """One statement of a trust policy."""

    allow: bool
    principals: Principals
    actions: ElementMatcher
    conditions: tuple[Condition | NullCheck, ...]

    def applies(self, principal: str, action: str, facts: Facts) -> bool:
        return (
            self.principals.include(principal)
            and self.actions.mismatch_reason(action, facts, self.allow) is None
            and first_failing(self.conditions, facts) is None
        )


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """The trust policy of a role."""

    statements: tuple[TrustStatement, ...]


def trusts(
    document: TrustPolicy, principal: str, context: Context = NOTHING, action: str = ASSUME_ROLE
) -> bool:
    """Return whether `principal`, an ARN or a service (`voiceid.amazonaws.com`), may assume the role."""
    facts = Facts(context)
    action = action.lower()
    applying = [one.allow for one in document.statements if one.applies(principal, action, facts)]
    return bool(applying) and all(applying)


@lru_cache(maxsize=1024)
def parse_trust(text: str, *, max_chars: int = MAX_POLICY_CHARS) -> TrustPolicy:
    """Parse a trust policy. Raises SetupError that says which statement is wrong and why."""
    return TrustPolicy(tuple(map(_statement, read_statements(text, _ELEMENTS, max_chars))))


def _statement(raw: RawStatement) -> TrustStatement:
    for action in strings(raw, "Action", raw.elements.get("Action")):
        if not action.lower().startswith("sts:"):
            raw.refuse("a trust policy is about sts: actions only, such as sts:AssumeRole")
    return TrustStatement(
        allow=raw.allow,
        principals=_principals(raw),
        actions=raw.actions(),
        conditions=raw.conditions(),
    )


def _principals(raw: RawStatement) -> Principals:
    value = raw.elements.get("Principal")
    if value == "*":
        return Principals(everyone=True)
    if not isinstance(value, dict) or not value:
        raw.refuse('Principal must be "*" or an object with AWS or Service')
    if unknown := set(value) - {"AWS", "Service"}:
        raw.refuse(f"Principal {', '.join(name[:60] for name in sorted(unknown))} is not supported")
    accounts, arns, sessions = set(), set(), set()
    named = strings(raw, "Principal AWS", value["AWS"]) if "AWS" in value else []
    for name in named:
        if name == "*":
            continue
        if _ACCOUNT.fullmatch(name):
            accounts.add(name)
        elif root := _ROOT.fullmatch(name):
            accounts.add(root[1])
        elif exact := _PRINCIPAL.fullmatch(name):
            arns.add(name)
            if exact[3] == "role":
                # AWS docs: trust in a role includes its sessions; their ARN has its name without path.
                role = exact[4].rpartition("/")[2]
                sessions.add(f"arn:{exact[1]}:sts::{exact[2]}:assumed-role/{role}")
        else:
            raw.refuse(
                f"Principal AWS {name[:80]!r} must be *, an account or the whole ARN of a user or role"
            )
    services = strings(raw, "Principal Service", value["Service"]) if "Service" in value else []
    for name in services:
        if not _SERVICE.fullmatch(name):
            raw.refuse(f"Principal Service {name[:80]!r} is not a service such as voiceid.amazonaws.com")
    return Principals(
        every_arn="*" in named,
        accounts=frozenset(accounts),
        arns=frozenset(arns),
        roles_of_sessions=frozenset(sessions),
        services=frozenset(services),
    )
