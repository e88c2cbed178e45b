"""Policy variables: their values, and the effect of variables without a value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sonant.errors import SetupError
from sonant.iam import Context, allows, parse

BUCKET = "arn:aws:s3:::calls/"
TAG = "aws:PrincipalTag/team"


def allow(resource: Any = "*", condition: Any = None, *, element: str = "Resource") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "*", element: resource, "Condition": condition or {}}


def deny(resource: Any = "*", condition: Any = None, *, element: str = "Resource") -> dict[str, Any]:
    return allow(resource, condition, element=element) | {"Effect": "Deny"}


def allowed(*statements: dict[str, Any], resource: str = BUCKET + "x", context: Context) -> bool:
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return allows([parse(text)], "s3:GetObject", resource, context)


@pytest.mark.parametrize(
    ("pattern", "key", "context", "expected"),
    [
        ("${aws:username}/*", "ann/1", {"aws:username": "ann"}, True),
        ("${aws:username}/*", "bob/1", {"aws:username": "ann"}, False),
        ("${AWS:UserName}/*", "ann/1", {"aws:username": "ann"}, True),
        (f"${{{TAG}}}-${{aws:userid}}", "blue-7", {TAG: "blue", "aws:userid": 7}, True),
        ("${aws:RequestTag/cost centre}", "9", {"aws:RequestTag/": {"cost centre": "9"}}, True),
        # other characters keep their meaning
        ("${aws:username}?*", "ann1", {"aws:username": "ann"}, True),
        ("$a{b}$", "$a{b}$", {}, True),
        # special characters
        ("${*}", "*", {}, True),
        ("${*}", "ann", {}, False),
        ("${?}", "?", {}, True),
        ("${?}", "a", {}, False),
        ("${$}{aws:username}", "${aws:username}", {"aws:username": "ann"}, True),
        # what comes from the request is text, never a pattern
        ("${aws:username}/*", "bob/1", {"aws:username": "*"}, False),
        ("${aws:username}/*", "*/1", {"aws:username": "*"}, True),
        ("${aws:username}/*", "ann/1", {"aws:username": "${aws:userid}", "aws:userid": "ann"}, False),
        ("${aws:username}*", "a.c", {"aws:username": "a.c"}, True),
        ("${aws:username}*", "abc", {"aws:username": "a.c"}, False),
        # a default for who has no value
        (f"${{{TAG}, 'shared'}}/*", "shared/1", {}, True),
        (f"${{{TAG}, 'shared'}}/*", "shared/1", {TAG: "blue"}, False),
        (f"${{{TAG},'*'}}/*", "anything/1", {}, False),
        # no value: nothing matches, an empty one and several are none
        ("${aws:username}/*", "/1", {}, False),
        ("${aws:username}*", "ann", {"aws:username": ""}, False),
        ("${aws:username}*", "ann", {"aws:username": ["ann", "bob"]}, False),
        ("${aws:username}/*", "${aws:username}/1", {}, False),
        # nor does what grew too long
        ("${aws:username}*", "a" * 3000, {"aws:username": "a" * 3000}, False),
    ],
)
def test_variables_in_resources(pattern: str, key: str, context: Context, expected: bool) -> None:
    assert allowed(allow(BUCKET + pattern), resource=BUCKET + key, context=context) is expected


@pytest.mark.parametrize(
    ("operator", "policy_value", "actual", "expected"),
    [
        ("StringEquals", f"${{{TAG}}}", "blue", True),
        ("StringEquals", f"${{{TAG}}}", "Blue", False),
        ("StringEqualsIgnoreCase", f"x-${{{TAG}}}", "X-BLUE", True),
        ("StringLike", f"${{{TAG}}}-*", "blue-1", True),
        ("StringNotEquals", ["red", f"${{{TAG}}}"], "blue", False),
        ("StringNotLike", f"${{{TAG}}}*", "red", True),
        ("StringEquals", "a${*}", "a*", True),
        ("StringLike", "a${*}", "ab", False),
        ("ArnLike", f"arn:aws:iam::*:role/${{{TAG}}}*", "arn:aws:iam::1:role/blue1", True),
        ("ArnEquals", "${aws:PrincipalArn}", "arn:aws:iam::1:role/me", True),
        # a colon from a variable ends a part as any other
        ("ArnLike", "arn:aws:iam:${aws:userid}:role/*", "arn:aws:iam::1:role/x", True),
    ],
)
def test_variables_in_condition_values(operator: str, policy_value: Any, actual: str, expected: bool) -> None:
    context = {
        TAG: "blue",
        "aws:ResourceTag/x": actual,
        "aws:PrincipalArn": "arn:aws:iam::1:role/me",
        "aws:userid": ":1",
    }
    assert allowed(allow("*", {operator: {"aws:ResourceTag/x": policy_value}}), context=context) is expected


@pytest.mark.parametrize(
    "statement",
    [
        allow(BUCKET + "${aws:username}"),
        allow(["*", BUCKET + "${aws:username}"]),
        # what is negated would widen most
        allow(BUCKET + "${aws:username}", element="NotResource"),
        allow("*", {"StringNotEquals": {TAG: "${aws:username}"}}),
        allow("*", {"StringNotLike": {TAG: ["red", "${aws:username}*"]}}),
        allow("*", {"ArnNotLike": {TAG: "arn:aws:iam::*:user/${aws:username}"}}),
        allow("*", {"StringEquals": {TAG: ["blue", "${aws:username}"]}}),
        allow("*", {"ForAllValues:StringNotEquals": {TAG: "${aws:username}"}}),
    ],
)
def test_an_allow_with_an_unresolved_variable_allows_nothing(statement: dict[str, Any]) -> None:
    assert not allowed(statement, context={TAG: "blue"})


def test_a_missing_key_with_if_exists_needs_no_variable() -> None:
    condition = {"StringEqualsIfExists": {"aws:ResourceTag/team": "${aws:username}"}}
    assert allowed(allow("*", condition), context={})


@pytest.mark.parametrize(
    ("statement", "denied"),
    [
        # AWS docs: deny unless the tags are equal denies who has no tag
        (deny("*", {"StringNotEquals": {"aws:ResourceTag/team": f"${{{TAG}}}"}}), True),
        (deny(BUCKET + "${aws:username}/*", element="NotResource"), True),
        # what names nothing denies nothing
        (deny(BUCKET + "${aws:username}"), False),
        (deny("*", {"StringEquals": {"aws:ResourceTag/team": f"${{{TAG}}}"}}), False),
        # the other values of the list stand
        (deny([BUCKET + "${aws:username}", BUCKET + "x"]), True),
        (deny("*", {"StringLike": {"aws:ResourceTag/team": [f"${{{TAG}}}", "b*"]}}), True),
    ],
)
def test_a_deny_with_an_unresolved_variable_keeps_its_other_values(
    statement: dict[str, Any], denied: bool
) -> None:
    context = {"aws:ResourceTag/team": "blue"}
    assert allowed(allow(), context=context)
    assert allowed(allow(), statement, context=context) is not denied


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (allow(BUCKET + "${aws:username"), "not closed"),
        (allow(BUCKET + "${}"), "not a variable"),
        (allow(BUCKET + "${username}"), "not a variable"),
        (allow(BUCKET + "${aws:username, default}"), "not a variable"),
        (allow(BUCKET + "${aws:username, 'a' 'b'}"), "not a variable"),
        # before the fifth colon it could name another account
        (allow("arn:aws:s3::${aws:PrincipalTag/account}:calls/*"), "after the fifth colon"),
        (allow("${aws:PrincipalArn}"), "after the fifth colon"),
        (allow("*", {"StringEquals": {TAG: "${"}}), "not closed"),
        (allow() | {"Action": "s3:${aws:username}"}, "action cannot hold a variable"),
    ],
)
def test_an_invalid_variable_is_refused(statement: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        allowed(statement, context={})


@pytest.mark.parametrize("version", [{}, {"Version": "2008-10-17"}])
def test_variables_require_version_2012_10_17(version: dict[str, str]) -> None:
    with pytest.raises(SetupError, match="2012-10-17"):
        parse(json.dumps({**version, "Statement": allow(BUCKET + "${aws:username}")}))
