"""IAM-style policies: the requests that they allow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sonant.errors import SetupError
from sonant.iam import ALLOW_ALL, allows, decide, parse

DOMAIN = "arn:aws:voiceid:us-east-1:000000000000:domain/AbCdEfGhIjKlMnOpQrStUv"


def policy(*statements: dict[str, Any]) -> Any:
    return parse(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def allow(action: Any = "*", resource: Any = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def deny(action: Any = "*", resource: Any = "*") -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource}


@pytest.mark.parametrize(
    ("statements", "action", "resource", "allowed"),
    [
        # nothing said: denied
        ([allow("voiceid:DescribeDomain")], "voiceid:ListSpeakers", DOMAIN, False),
        # exact, any case of the action
        ([allow("voiceid:describedomain", DOMAIN)], "voiceid:DescribeDomain", DOMAIN, True),
        # wildcards in both
        (
            [allow("voiceid:Describe*", "arn:aws:voiceid:*:*:domain/*")],
            "voiceid:DescribeSpeaker",
            DOMAIN,
            True,
        ),
        ([allow("voiceid:Describe?")], "voiceid:DescribeSpeaker", DOMAIN, False),
        # resources keep their case
        ([allow("*", DOMAIN.upper())], "voiceid:DescribeDomain", DOMAIN, False),
        # an explicit Deny wins, in whatever order
        ([allow(), deny("voiceid:Delete*")], "voiceid:DeleteSpeaker", DOMAIN, False),
        ([deny("voiceid:Delete*"), allow()], "voiceid:DeleteSpeaker", DOMAIN, False),
        ([deny("voiceid:Delete*"), allow()], "voiceid:DescribeSpeaker", DOMAIN, True),
        # lists: any of them
        ([allow(["s3:GetObject", "s3:PutObject"], ["a", "b"])], "s3:PutObject", "b", True),
        # NotAction and NotResource match what they do not name
        ([{"Effect": "Allow", "NotAction": "kms:*", "Resource": "*"}], "kms:Decrypt", "k", False),
        ([{"Effect": "Allow", "NotAction": "kms:*", "Resource": "*"}], "s3:GetObject", "k", True),
        ([{"Effect": "Deny", "Action": "*", "NotResource": "a"}, allow()], "s3:GetObject", "a", True),
        ([{"Effect": "Deny", "Action": "*", "NotResource": "a"}, allow()], "s3:GetObject", "b", False),
        # characters that mean something to regular expressions mean themselves
        ([allow("*", "a.b")], "s3:GetObject", "aXb", False),
        ([allow("*", "arn:aws:s3:::calls/*")], "s3:GetObject", "arn:aws:s3:::calls/a\nb", True),
    ],
)
def test_access_needs_a_matching_allow_and_no_deny(
    statements: list[dict[str, Any]], action: str, resource: str, allowed: bool
) -> None:
    assert allows([policy(*statements)], action, resource) is allowed


def test_several_policies_are_evaluated_together() -> None:
    assert allows([policy(allow()), policy(deny("s3:*"))], "kms:Decrypt", "k")
    assert not allows([policy(allow()), policy(deny("s3:*"))], "s3:GetObject", "k")


def test_no_policy_allows_nothing() -> None:
    assert not allows([], "voiceid:ListDomains", "*")


def test_allow_all_allows_all() -> None:
    assert allows([parse(ALLOW_ALL)], "iam:PassRole", "arn:aws:iam::000000000000:role/sonant")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "not JSON"),
        ("[]", "Statement"),
        ('{"Statement": []}', "Statement"),
        ('{"Statement": [7]}', "statement 1 must be an object"),
        ('{"Statement": [{"Effect": "allow", "Action": "*", "Resource": "*"}]}', "Effect"),
        ('{"Statement": [{"Effect": "Allow", "Resource": "*"}]}', "Action or NotAction"),
        ('{"Statement": [{"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}]}', "either"),
        ('{"Statement": [{"Effect": "Allow", "Action": [], "Resource": "*"}]}', "list of strings"),
        ('{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": [1]}]}', "list of strings"),
        # skipping what is not understood would widen the right
        (
            '{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Conditions": {}}]}',
            "Conditions",
        ),
        (
            '{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}]}',
            "statement 1: Principal .only a role's trust policy",
        ),
        (
            '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}, "Statements": []}',
            "Statements",
        ),
        ('{"Version": "2020-01-01", "Statement": []}', "Version must be 2012-10-17 or 2008-10-17"),
        # an action that names no service would match nothing
        ('{"Statement": [{"Effect": "Deny", "Action": "DeleteDomain", "Resource": "*"}]}', "service:action"),
        # of two equal names JSON readers keep either
        ('{"Statement": [{"Effect": "Deny", "Effect": "Allow", "Action": "*", "Resource": "*"}]}', "twice"),
        ('{"Statement": [{"Sid": 7, "Effect": "Allow", "Action": "*", "Resource": "*"}]}', "Sid must be"),
        (
            json.dumps({"Statement": [{"Sid": "A", "Effect": "Deny", "Action": "*", "Resource": "*"}] * 2}),
            "statement 2: its Sid",
        ),
        # too much of it
        (json.dumps({"Statement": [allow()] * 101}), "101 statements, at most 100"),
        (json.dumps({"Statement": allow("s3:" + "a" * 10_240)}), "too large: .* at most 10240"),
        ("[" * 10_000, "not JSON"),
        ('{"Statement": ' + "1" * 5_000 + "}", "not JSON"),
        ('{"Statement": NaN}', "not JSON"),
    ],
)
def test_an_invalid_policy_is_refused(text: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        parse(text)


def test_the_caller_sets_the_size_limit() -> None:
    with pytest.raises(SetupError, match="at most 50"):
        parse(ALLOW_ALL, max_chars=50)


def test_an_unconditional_policy_reads_no_context() -> None:
    class Unread(dict[str, Any]):
        def __iter__(self) -> Any:
            raise AssertionError("the context was read")

        __getitem__ = get = keys = items = __iter__  # type: ignore[assignment]  # nobody may call them

    assert allows([policy(allow(), deny("s3:*"))], "kms:Decrypt", "k", Unread())


def test_the_decision_names_the_statement_that_denies() -> None:
    # given
    one = policy(allow() | {"Sid": "All"})
    other = policy(allow("kms:*"), deny("s3:Delete*") | {"Sid": "Keep"}, deny("s3:*", "b"))
    # when
    decision = decide([one, other], "s3:DeleteObject", "b")
    # then
    assert (decision.allowed, decision.explicit_deny) == (False, True)
    assert (decision.policy_index, decision.statement) == (1, "Keep")
    assert decision.reason == "explicitly denied by statement Keep of policy 2"
    assert [(one.policy_index, one.statement, one.allow, one.mismatch_reason) for one in decision.trace] == [
        (0, "All", True, None),
        (1, 1, True, "the action is not named"),
        (1, "Keep", False, None),
        (1, 3, False, None),
    ]


def test_the_decision_names_the_statement_that_allows() -> None:
    decision = decide(
        [policy(deny("kms:*")), policy(allow("s3:*", "a"), allow("s3:Get*"))], "s3:GetObject", "b"
    )
    assert (decision.allowed, decision.explicit_deny) == (True, False)
    assert (decision.policy_index, decision.statement) == (1, 2)
    assert decision.reason == "allowed by statement 2 of policy 2"
    assert decision.trace[1].mismatch_reason == "the resource is not named"


def test_the_decision_reports_that_no_statement_allows() -> None:
    excepting = policy(
        {"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"},
        {"Effect": "Allow", "Action": "*", "NotResource": "a"},
    )
    decision = decide([excepting], "s3:GetObject", "a")
    assert (decision.allowed, decision.explicit_deny) == (False, False)
    assert (decision.policy_index, decision.statement) == (None, None)
    assert decision.reason == "denied: no statement allows it"
    assert [one.mismatch_reason for one in decision.trace] == [
        "the action is excepted",
        "the resource is excepted",
    ]


def test_matching_many_stars_is_fast() -> None:
    crowded = policy(allow("*", "*" * 200 + "a" + "*" * 200 + "b"))
    assert not allows([crowded], "s3:GetObject", "a" * 2000)
