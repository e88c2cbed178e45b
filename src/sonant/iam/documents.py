"""Parser of policy documents: JSON to statements, or a SetupError that says which one is wrong and why.

Whatever is not understood is refused, never skipped: a skipped condition would widen a right.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from sonant.errors import SetupError
from sonant.iam.conditions import Condition, NullCheck, parse_conditions
from sonant.iam.evaluation import ElementMatcher, Policy, Statement
from sonant.iam.patterns import (
    ARN_PARTS,
    Template,
    Variable,
    any_of,
    constant,
    has_variables,
    parse_template,
    tokenize,
)
from sonant.iam.services import OWN, VOICE_ID

#: The most an IAM role's policies may hold together (AWS docs, IAM quotas).
MAX_POLICY_CHARS = 10_240
MAX_STATEMENTS = 100

ALLOW_ALL = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)

#: Variables came with this version of the language; in the older one `${` is plain text.
_WITH_VARIABLES = "2012-10-17"
_VERSIONS = (_WITH_VARIABLES, "2008-10-17")
_MAX_SID_CHARS = 128


@lru_cache(maxsize=1024)
def parse(text: str, *, max_chars: int = MAX_POLICY_CHARS) -> Policy:
    """Parse the policy of a user or role. Raises SetupError."""
    return Policy(tuple(_statement(raw) for raw in read_statements(text, _ELEMENTS, max_chars)))


def check_new(text: str) -> None:
    """Check a policy that is about to be stored. Raises SetupError.

    Beyond what `parse` refuses, the service of an action must be written out: `voice*:*` would also name
    services that are unknown to its author. Stored policies may still hold such a name.
    """
    parse(text)
    for raw in read_statements(text, _ELEMENTS, MAX_POLICY_CHARS):
        for name in raw.action_names():
            service = name.partition(":")[0]
            if name != "*" and ("*" in service or "?" in service):
                raw.refuse(
                    f"the service of action {name[:60]!r} must be written without wildcards, or use '*'"
                )


def former_names(text: str, own_operations: Collection[str]) -> list[str]:
    """Find the statements of a policy that name Sonant's own actions as an earlier release did.

    `own_operations` are the names of the operations that Voice ID never had. Returns one sentence for each
    statement, with what to write instead.
    """
    formers = {f"{VOICE_ID}:{name}".lower(): f"{OWN}:{name}" for name in own_operations}
    found = []
    for raw in read_statements(text, _ELEMENTS, MAX_POLICY_CHARS):
        named = [name for name in raw.action_names() if name.lower() in formers]
        if named:
            current = ", ".join(formers[name.lower()] for name in named)
            found.append(
                f"statement {raw.number} names {', '.join(named)}; write {current}: the former name is "
                "understood in this release only"
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RawStatement:
    """A statement's JSON after the checks that all kinds of policies share."""

    number: int  # from 1
    sid: str | None
    allow: bool
    elements: dict[str, Any]

    def refuse(self, why: str) -> NoReturn:
        raise SetupError(f"policy statement {self.number}: {why}")

    def conditions(self) -> tuple[Condition | NullCheck, ...]:
        try:
            return parse_conditions(self.elements.get("Condition", {}), self.allow)
        except SetupError as fault:
            self.refuse(str(fault))

    def actions(self) -> ElementMatcher:
        names, negated = self._either("Action", "NotAction")
        for name in names:
            if "${" in name:
                self.refuse("an action cannot hold a variable")
            if name != "*" and ":" not in name:
                self.refuse(f"action {name[:60]!r} is not of the form service:action")
        patterns = any_of(tokenize(name.lower()) for name in names)
        return ElementMatcher(element="action", negated=negated, constant=patterns)

    def action_names(self) -> list[str]:
        """Return the names and patterns of the element Action or NotAction, as written."""
        return self._either("Action", "NotAction")[0]

    def resources(self) -> ElementMatcher:
        names, negated = self._either("Resource", "NotResource")
        try:
            values = [_resource(name) for name in names]
        except SetupError as fault:
            self.refuse(str(fault))
        return ElementMatcher(
            element="resource",
            negated=negated,
            constant=any_of(constant(value) for value in values if not has_variables(value)),
            with_variables=tuple(value for value in values if has_variables(value)),
        )

    def _either(self, plain: str, negated: str) -> tuple[list[str], bool]:
        if (plain in self.elements) == (negated in self.elements):
            self.refuse(f"needs either {plain} or {negated}")
        name = plain if plain in self.elements else negated
        return strings(self, name, self.elements[name]), name == negated


def strings(raw: RawStatement, name: str, value: Any) -> list[str]:
    """Parse the element `name`, a string or a list of strings."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(item, str) for item in values):
        raw.refuse(f"{name} must be a string or a list of strings")
    return values


def read_statements(text: str, elements: Collection[str], max_chars: int) -> list[RawStatement]:
    """Parse a document into its statements. Raises SetupError for an element not in `elements`."""
    if len(text) > max_chars:
        raise SetupError(f"policy is too large: {len(text)} characters, at most {max_chars} are allowed")
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as fault:
        raise SetupError(f"policy is not JSON: {fault}") from None
    if not isinstance(document, dict):
        raise SetupError("policy must be an object with a list named Statement")
    if unknown := set(document) - {"Version", "Id", "Statement"}:
        raise SetupError(f"policy: {_listed(unknown)} is not supported")
    if document.get("Version", _VERSIONS[-1]) not in _VERSIONS:
        raise SetupError(f"policy: Version must be {' or '.join(_VERSIONS)}")
    if "${" in text and document.get("Version") != _WITH_VARIABLES:
        raise SetupError(f"policy: variables (${{...}}) need Version {_WITH_VARIABLES}")
    statements = document.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise SetupError("policy must be an object with a list named Statement")
    if len(statements) > MAX_STATEMENTS:
        raise SetupError(f"policy has {len(statements)} statements, at most {MAX_STATEMENTS} are allowed")
    found = [_raw_statement(number, statement, elements) for number, statement in enumerate(statements, 1)]
    sids: set[str] = set()
    for raw in found:
        if raw.sid in sids:
            raw.refuse("its Sid is that of an earlier statement")
        sids.update([raw.sid] if raw.sid else [])
    return found


_ELEMENTS = frozenset(("Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"))
_HINTS = {
    "Principal": "Principal (only a role's trust policy has it)",
    "NotPrincipal": "NotPrincipal",
    "Resource": "Resource (a trust policy has none)",
}


def _raw_statement(number: int, statement: Any, elements: Collection[str]) -> RawStatement:
    where = f"policy statement {number}"
    if not isinstance(statement, dict):
        raise SetupError(f"{where} must be an object")
    if unknown := set(statement) - set(elements):
        raise SetupError(f"{where}: {_listed(unknown)} is not supported")
    if statement.get("Effect") not in ("Allow", "Deny"):
        raise SetupError(f"{where}: Effect must be Allow or Deny")
    sid = statement.get("Sid")
    if sid is not None and not (isinstance(sid, str) and len(sid) <= _MAX_SID_CHARS and sid.isprintable()):
        raise SetupError(f"{where}: Sid must be a string of at most {_MAX_SID_CHARS} characters")
    return RawStatement(
        number=number, sid=sid or None, allow=statement["Effect"] == "Allow", elements=statement
    )


def _statement(raw: RawStatement) -> Statement:
    return Statement(
        number=raw.number,
        sid=raw.sid,
        allow=raw.allow,
        actions=raw.actions(),
        resources=raw.resources(),
        conditions=raw.conditions(),
    )


def _resource(name: str) -> Template:
    template = parse_template(name, wildcards=True)
    colons = 0
    for piece in template:
        if isinstance(piece, Variable) and colons < ARN_PARTS - 1:
            # AWS docs: variables are for the resource part. Before it they could name other accounts.
            raise SetupError("a variable in a resource must come after the fifth colon of the ARN")
        colons += piece.count(":") if isinstance(piece, str) else 0
    return template


def _listed(unknown: Collection[str]) -> str:
    return ", ".join(_HINTS.get(name, name[:60]) for name in sorted(unknown))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON parsers differ in which of two equal names they keep: a policy must have one meaning.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object holds the same name twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
