"""IAM-style policies: which calls they allow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sonant.errors import SetupError
from sonant.policy import ALLOW_ALL, allows, parse

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
def test_a_call_is_allowed_only_by_a_matching_allow_and_no_deny(
    statements: list[dict[str, Any]], action: str, resource: str, allowed: bool
) -> None:
    assert allows([policy(*statements)], action, resource) is allowed


def test_several_policies_count_together() -> None:
    assert allows([policy(allow()), policy(deny("s3:*"))], "kms:Decrypt", "k")
    assert not allows([policy(allow()), policy(deny("s3:*"))], "s3:GetObject", "k")


def test_no_policy_allows_nothing() -> None:
    assert not allows([], "voiceid:ListDomains", "*")


def test_allow_all_allows_all() -> None:
    assert allows([parse(ALLOW_ALL)], "iam:PassRole", "arn:aws:iam::000000000000:role/sonant")


@pytest.mark.parametrize(
    ("text", "told"),
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
        # skipping a condition would widen the right
        (
            '{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {}}]}',
            "Condition",
        ),
    ],
)
def test_a_policy_that_is_not_understood_is_refused(text: str, told: str) -> None:
    with pytest.raises(SetupError, match=told):
        parse(text)


def test_many_stars_do_not_make_matching_slow() -> None:
    crowded = policy(allow("*", "*" * 200 + "a" + "*" * 200 + "b"))
    assert not allows([crowded], "s3:GetObject", "a" * 2000)
