"""Conditions of policies, operator by operator, as the AWS docs define them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sonant.errors import SetupError
from sonant.iam import Context, allows, decide, parse

TEAM = "aws:ResourceTag/team"


def statement(condition: Any, effect: str = "Allow") -> dict[str, Any]:
    return {"Effect": effect, "Action": "*", "Resource": "*", "Condition": condition}


def parsed(*statements: dict[str, Any]) -> Any:
    return parse(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def holds(condition: Any, context: Context) -> bool:
    return allows([parsed(statement(condition))], "voiceid:ListDomains", "*", context)


def denies(condition: Any, context: Context) -> bool:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy = parsed(everything, statement(condition, "Deny"))
    return not allows([policy], "voiceid:ListDomains", "*", context)


@pytest.mark.parametrize(
    ("operator", "policy_value", "actual", "expected"),
    [
        # equal: case counts, wildcards are plain characters
        ("StringEquals", "blue", "blue", True),
        ("StringEquals", "blue", "Blue", False),
        ("StringEquals", "b*", "blue", False),
        ("StringEquals", "b*", "b*", True),
        ("StringEquals", "", "", True),
        # several values of the policy: any of them
        ("StringEquals", ["red", "blue"], "blue", True),
        ("StringEquals", ["red", "blue"], "green", False),
        # numbers and truth values may be written without quotes
        ("StringEquals", 7, "7", True),
        ("StringEquals", True, True, True),
        # negated: none of them
        ("StringNotEquals", "blue", "red", True),
        ("StringNotEquals", "blue", "blue", False),
        ("StringNotEquals", ["red", "blue"], "blue", False),
        ("StringNotEquals", ["red", "blue"], "green", True),
        ("StringEqualsIgnoreCase", "BLUE", "bluE", True),
        ("StringEqualsIgnoreCase", "blue", "blues", False),
        ("StringNotEqualsIgnoreCase", "BLUE", "bluE", False),
        ("StringNotEqualsIgnoreCase", "BLUE", "red", True),
        # like: wildcards over the whole value
        ("StringLike", "b*", "blue", True),
        ("StringLike", "b?ue", "blue", True),
        ("StringLike", "l*", "blue", False),
        ("StringLike", "B*", "blue", False),
        ("StringLike", "?*", "", False),
        ("StringLike", "a.c", "abc", False),
        ("StringNotLike", "b*", "blue", False),
        ("StringNotLike", ["r*", "g*"], "blue", True),
        # operators' names in any case
        ("stringlike", "b*", "blue", True),
    ],
)
def test_string_operators(operator: str, policy_value: Any, actual: Any, expected: bool) -> None:
    assert holds({operator: {TEAM: policy_value}}, {TEAM: actual}) is expected


USER = "arn:aws:iam::111122223333:user/ann"


@pytest.mark.parametrize("operator", ["ArnEquals", "ArnLike"])
@pytest.mark.parametrize(
    ("policy_value", "actual", "expected"),
    [
        # both operators know wildcards
        (USER, USER, True),
        ("arn:aws:iam::*:user/*", USER, True),
        ("arn:aws:iam::1111????3333:user/ann", USER, True),
        ("arn:aws:iam::111122223333:role/*", USER, False),
        # case counts
        ("arn:aws:iam::111122223333:user/Ann", USER, False),
        # a wildcard ends at its colon, save in the last part
        ("arn:aws:*:*:user/ann:*", "arn:aws:iam::111122223333:user/ann:x", False),
        ("arn:aws:iam::111122223333:*", "arn:aws:iam::111122223333:user/a:b:c", True),
        (
            "arn:aws:svc:*:111122223333:finance/*",
            "arn:aws:svc:us-east-2:999999999999:store/abc:111122223333:finance/document.txt",
            False,
        ),
        # what is no ARN matches none
        ("arn:*:*:*:*:*", "ann", False),
    ],
)
def test_arn_operators(operator: str, policy_value: str, actual: str, expected: bool) -> None:
    negated = operator.replace("Arn", "ArnNot")
    assert holds({operator: {"aws:PrincipalArn": policy_value}}, {"aws:PrincipalArn": actual}) is expected
    assert holds({negated: {"aws:PrincipalArn": policy_value}}, {"aws:PrincipalArn": actual}) is not expected


@pytest.mark.parametrize(
    ("operator", "policy_value", "actual", "expected"),
    [
        ("NumericEquals", "10", "10.0", True),
        ("NumericEquals", 10, 10, True),
        ("NumericEquals", "0.1", 0.1, True),
        ("NumericEquals", "9007199254740993", "9007199254740992", False),
        ("NumericNotEquals", "10", 11, True),
        ("NumericNotEquals", ["10", "11"], 11, False),
        ("NumericLessThan", "10", 9.5, True),
        ("NumericLessThan", "10", 10, False),
        ("NumericLessThanEquals", "10", 10, True),
        ("NumericGreaterThan", "-2", "-1", True),
        ("NumericGreaterThan", "1e3", 1000, False),
        ("NumericGreaterThanEquals", "1e3", 1000, True),
        # any of the values
        ("NumericLessThan", ["1", "10"], 5, True),
        # what is no number equals none
        ("NumericEquals", "1", "one", False),
        ("NumericNotEquals", "1", "one", True),
        ("NumericLessThan", "1", "nan", False),
        ("NumericLessThan", "1", False, False),
        ("NumericLessThan", "1", float("nan"), False),
    ],
)
def test_numeric_operators(operator: str, policy_value: Any, actual: Any, expected: bool) -> None:
    assert holds({operator: {"sonant:Count": policy_value}}, {"sonant:Count": actual}) is expected


@pytest.mark.parametrize(
    ("operator", "policy_value", "actual", "expected"),
    [
        # ISO 8601, from the year to fractions of a second, in any offset
        ("DateEquals", "2026-01-31T09:00:00Z", "2026-01-31T10:00:00+01:00", True),
        ("DateEquals", "2026-01-31T09:00Z", "2026-01-31T09:00:00.000Z", True),
        ("DateEquals", "2026-01-31", "2026-01-31T00:00:00Z", True),
        ("DateEquals", "2026-01", "2026-01-01", True),
        ("DateEquals", "2026", "2026-01-01", True),
        ("DateEquals", "2026-01-31T09:00:00.5Z", "2026-01-31T09:00:00Z", False),
        # a datetime; one without zone is UTC
        ("DateEquals", "2026-01-31T09:00:00Z", datetime(2026, 1, 31, 9, tzinfo=UTC), True),
        ("DateEquals", "2026-01-31T09:00:00Z", datetime(2026, 1, 31, 9), True),  # noqa: DTZ001
        # seconds since 1970, on either side
        ("DateEquals", "1970-01-02T00:00:00Z", "86400", True),
        ("DateEquals", 1769850000, "2026-01-31T09:00:00Z", True),
        ("DateEquals", "2026-01-31T09:00:00.5Z", 1769850000.5, True),
        ("DateNotEquals", "2026-01-31", "2026-02-01", True),
        ("DateNotEquals", "2026-01-31", "2026-01-31", False),
        ("DateLessThan", "2026-01-31", "2026-01-30T23:59:59Z", True),
        ("DateLessThan", "2026-01-31", "2026-01-31", False),
        ("DateLessThanEquals", "2026-01-31", "2026-01-31", True),
        ("DateGreaterThan", "2026-01-31", "2026-01-31T00:00:01Z", True),
        ("DateGreaterThan", "2026-01-31", "2026-01-31", False),
        ("DateGreaterThanEquals", "2026-01-31", "2026-01-31", True),
        # what is no date equals none
        ("DateLessThan", "2026-01-31", "yesterday", False),
        ("DateLessThan", "2026-01-31", "1e400", False),
        ("DateLessThan", "2026-01-31", float("-inf"), False),
        ("DateNotEquals", "2026-01-31", "2026-02-30", True),
    ],
)
def test_date_operators(operator: str, policy_value: Any, actual: Any, expected: bool) -> None:
    assert holds({operator: {"aws:CurrentTime": policy_value}}, {"aws:CurrentTime": actual}) is expected


@pytest.mark.parametrize(
    ("policy_value", "actual", "expected"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("0.0.0.0/0", "192.0.2.7", True),
        # an address alone is a range of one; host bits do not count
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7/24", "192.0.2.200", True),
        ("2001:DB8:1234:5678::/64", "2001:db8:1234:5678::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        (["10.0.0.0/8", "2001:db8::/32"], "2001:db8::7", True),
        # the two families do not meet, but a mapped address is its IPv4 address
        ("0.0.0.0/0", "2001:db8::7", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        # what is no address is in no range
        ("0.0.0.0/0", "10.1.2.3:443", False),
        ("0.0.0.0/0", "", False),
    ],
)
def test_ip_address_operators(policy_value: Any, actual: str, expected: bool) -> None:
    assert holds({"IpAddress": {"aws:SourceIp": policy_value}}, {"aws:SourceIp": actual}) is expected
    assert holds({"NotIpAddress": {"aws:SourceIp": policy_value}}, {"aws:SourceIp": actual}) is not expected


@pytest.mark.parametrize(
    ("policy_value", "actual", "expected"),
    [
        ("true", True, True),
        (True, "True", True),
        ("false", False, True),
        ("true", False, False),
        (["true", "false"], False, True),
        ("false", "no", False),
        ("false", 0, False),
    ],
)
def test_bool_operator(policy_value: Any, actual: Any, expected: bool) -> None:
    condition = {"Bool": {"aws:SecureTransport": policy_value}}
    assert holds(condition, {"aws:SecureTransport": actual}) is expected


@pytest.mark.parametrize(
    ("operator", "policy_value", "expected"),
    [
        # a missing key matches nothing
        ("StringEquals", "blue", False),
        ("StringLike", "*", False),
        ("ArnLike", "arn:*:*:*:*:*", False),
        ("NumericLessThan", "1", False),
        ("DateGreaterThan", "2026-01-01", False),
        ("Bool", "false", False),
        ("IpAddress", "0.0.0.0/0", False),
        # so a negated operator holds
        ("StringNotEquals", "blue", True),
        ("StringNotEqualsIgnoreCase", "blue", True),
        ("StringNotLike", "*", True),
        ("ArnNotEquals", "arn:*:*:*:*:*", True),
        ("ArnNotLike", "arn:*:*:*:*:*", True),
        ("NumericNotEquals", "1", True),
        ("DateNotEquals", "2026-01-01", True),
        ("NotIpAddress", "0.0.0.0/0", True),
        # IfExists: a missing key is no obstacle
        ("StringEqualsIfExists", "blue", True),
        ("ArnLikeIfExists", "arn:*:*:*:*:*", True),
        ("NumericLessThanIfExists", "1", True),
        ("DateGreaterThanIfExists", "2026-01-01", True),
        ("BoolIfExists", "false", True),
        ("IpAddressIfExists", "192.0.2.7", True),
        ("StringNotEqualsIfExists", "blue", True),
        # every value of none
        ("ForAllValues:StringEquals", "blue", True),
        ("ForAllValues:StringNotEquals", "blue", True),
        # some value of none
        ("ForAnyValue:StringEquals", "blue", False),
        ("ForAnyValue:StringNotEquals", "blue", False),
        ("ForAnyValue:StringEqualsIfExists", "blue", True),
        # Null asks for just this
        ("Null", "true", True),
        ("Null", "false", False),
        ("Null", True, True),
        ("Null", ["true", "false"], True),
    ],
)
@pytest.mark.parametrize("context", [{}, {TEAM: None}, {TEAM: []}, {TEAM: [""]}, {TEAM: lambda: None}])
def test_conditions_on_an_absent_key(
    operator: str, policy_value: Any, expected: bool, context: Context
) -> None:
    assert holds({operator: {TEAM: policy_value}}, context) is expected
    assert denies({operator: {TEAM: policy_value}}, context) is expected


@pytest.mark.parametrize(
    ("operator", "policy_value", "expected"),
    [
        # IfExists changes nothing when the key is there
        ("StringEqualsIfExists", "blue", False),
        ("StringNotEqualsIfExists", "red", False),
        ("NumericEqualsIfExists", "1", False),
        ("Null", "true", False),
        ("Null", "false", True),
    ],
)
def test_conditions_on_a_present_key(operator: str, policy_value: Any, expected: bool) -> None:
    assert holds({operator: {TEAM: policy_value}}, {TEAM: "red"}) is expected


@pytest.mark.parametrize(
    ("operator", "policy_value", "actual", "expected"),
    [
        # all of the request's values are among the policy's
        ("ForAllValues:StringEquals", ["a", "b", "c"], ["a", "b"], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "x"], False),
        ("ForAllValues:StringLike", ["a*", "b*"], ["a1", "b2"], True),
        ("forallvalues:StringEquals", ["a"], ["a"], True),
        # none is
        ("ForAllValues:StringNotEquals", ["a", "b"], ["x", "y"], True),
        ("ForAllValues:StringNotEquals", ["a", "b"], ["x", "a"], False),
        # one is
        ("ForAnyValue:StringEquals", ["a", "b"], ["x", "b"], True),
        ("ForAnyValue:StringEquals", ["a", "b"], ["x", "y"], False),
        # one is not: the way to deny tags that are not on a list
        ("ForAnyValue:StringNotEquals", ["a", "b"], ["a", "x"], True),
        ("ForAnyValue:StringNotEquals", ["a", "b"], ["a", "b"], False),
        # an empty string is an empty set
        ("ForAllValues:StringEquals", ["a"], "", True),
        ("ForAnyValue:StringEquals", ["", "a"], "", False),
        # one value is a set of one
        ("ForAllValues:StringEquals", ["a"], "a", True),
        ("ForAnyValue:NumericLessThan", "5", {"7", "3"}, True),
    ],
)
@pytest.mark.parametrize("verdict", [holds, denies])
def test_set_operators(operator: str, policy_value: Any, actual: Any, expected: bool, verdict: Any) -> None:
    assert verdict({operator: {"aws:TagKeys": policy_value}}, {"aws:TagKeys": actual}) is expected


def test_a_plain_operator_on_several_values_is_restrictive() -> None:
    several: Context = {"aws:TagKeys": ["a", "x"]}
    # to allow, all must satisfy it
    assert not holds({"StringEquals": {"aws:TagKeys": "a"}}, several)
    assert not holds({"StringNotEquals": {"aws:TagKeys": "a"}}, several)
    # to deny, one is enough
    assert denies({"StringEquals": {"aws:TagKeys": "a"}}, several)
    assert denies({"StringNotEquals": {"aws:TagKeys": "a"}}, several)


def test_operators_and_keys_are_anded() -> None:
    condition = {
        "StringEquals": {TEAM: "blue", "aws:RequestedRegion": ["us-east-1", "us-west-2"]},
        "Bool": {"aws:SecureTransport": "true"},
    }
    context: Context = {TEAM: "blue", "aws:RequestedRegion": "us-west-2", "aws:SecureTransport": True}
    assert holds(condition, context)
    for key in context:
        assert not holds(condition, {name: value for name, value in context.items() if name != key})


@pytest.mark.parametrize("key", ["aws:resourcetag/TEAM", "AWS:ResourceTag/team"])
def test_keys_are_case_insensitive(key: str) -> None:
    assert holds({"StringEquals": {TEAM: "blue"}}, {key: "blue"})
    assert holds({"StringEquals": {key: "blue"}}, {TEAM: "blue"})


def test_tags_may_be_given_under_their_prefix() -> None:
    context: Context = {"aws:ResourceTag/": {"Team": "blue", "a/b": "c"}}
    assert holds({"StringEquals": {TEAM: "blue"}}, context)
    assert holds({"StringEquals": {"aws:ResourceTag/a/b": "c"}}, context)
    assert holds({"Null": {"aws:ResourceTag/other": "true"}}, context)
    assert not holds({"StringEquals": {"aws:RequestTag/Team": "blue"}}, context)


def test_tags_that_differ_only_in_case_allow_nothing() -> None:
    # given a tag set beside the true one to pass for it
    context: Context = {"aws:ResourceTag/": {"team": "blue", "TEAM": "red"}}
    assert not holds({"StringEquals": {TEAM: "red"}}, context)
    assert not holds({"StringEquals": {TEAM: "blue"}}, context)
    assert denies({"StringEquals": {TEAM: "blue"}}, context)


def test_a_computed_value_is_computed_once_and_only_if_needed() -> None:
    computed: list[str] = []

    def tags() -> dict[str, str]:
        computed.append("tags")
        return {"team": "blue", "stage": "live"}

    def never() -> str:
        raise AssertionError("nothing needs the address")

    context: Context = {"aws:ResourceTag/": tags, "aws:SourceIp": never}
    elsewhere = statement({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}) | {"Action": "s3:*"}
    both = {"StringEquals": {TEAM: "blue", "aws:ResourceTag/stage": "live"}}
    assert allows([parsed(elsewhere, statement(both))], "voiceid:ListDomains", "*", context)
    assert computed == ["tags"]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"StringMatches": {TEAM: "a"}}, "Condition StringMatches .* operator is not known"),
        ({"BinaryEquals": {TEAM: "YQ=="}}, "not known"),
        ({"NullIfExists": {TEAM: "true"}}, "not known"),
        ({"ForAnyValue:Null": {TEAM: "true"}}, "not known"),
        ({"ForSomeValues:StringEquals": {TEAM: "a"}}, "not known"),
        ({":StringEquals": {TEAM: "a"}}, "not known"),
        ({"StringEqualsIfExistsIfExists": {TEAM: "a"}}, "not known"),
        ({"": {TEAM: "a"}}, "not known"),
        ({"NumericEquals": {TEAM: "ten"}}, "'ten' is not a number"),
        ({"NumericEquals": {TEAM: ["1", "nan"]}}, "'nan' is not a number"),
        ({"NumericLessThan": {TEAM: "1_000"}}, "not a number"),
        ({"DateLessThan": {"aws:CurrentTime": "soon"}}, "'soon' is not a date"),
        ({"DateLessThan": {"aws:CurrentTime": "2026-02-30"}}, "not a date"),
        ({"DateLessThan": {"aws:CurrentTime": "2026-01-01T25:00:00Z"}}, "not a date"),
        ({"DateLessThan": {"aws:CurrentTime": "0000"}}, "not a date"),
        ({"DateLessThan": {"aws:CurrentTime": "999999999999"}}, "not a date"),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}, "not an IP address"),
        ({"IpAddress": {"aws:SourceIp": "10.0.0/8"}}, "not an IP address"),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/255.0.0.0"}}, "not an IP address"),
        ({"NotIpAddress": {"aws:SourceIp": "localhost"}}, "not an IP address"),
        ({"Bool": {"aws:SecureTransport": "yes"}}, "not true or false"),
        ({"Bool": {"aws:SecureTransport": "${aws:username}"}}, "not true or false"),
        ({"Null": {TEAM: "maybe"}}, "not true or false"),
        ({"ArnLike": {"aws:PrincipalArn": "ann"}}, "not an ARN"),
        ({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::user/ann"}}, "not an ARN"),
        ({"ArnLike": {"aws:PrincipalArn": "*"}}, "not an ARN"),
        ({"StringEquals": {TEAM: []}}, "string, number or boolean"),
        ({"StringEquals": {TEAM: None}}, "string, number or boolean"),
        ({"StringEquals": {TEAM: {"a": "b"}}}, "string, number or boolean"),
        ({"StringEquals": {TEAM: [["a"]]}}, "string, number or boolean"),
        ({"StringEquals": {}}, "object of keys and values"),
        ({"StringEquals": "a"}, "object of keys and values"),
        ({"StringEquals": {"team": "a"}}, "'team' is not a key"),
        ("StringEquals", "Condition must be an object"),
    ],
)
def test_an_invalid_condition_is_refused(condition: Any, message: str) -> None:
    with pytest.raises(SetupError, match=f"policy statement 2: .*{message}"):
        parsed({"Effect": "Deny", "Action": "s3:*", "Resource": "*"}, statement(condition))


def test_an_empty_condition_always_holds() -> None:
    assert holds({}, {})


@pytest.mark.parametrize(
    ("condition", "context", "why"),
    [
        ({"StringEquals": {TEAM: "blue"}}, {}, f"condition StringEquals {TEAM}: the request has no such key"),
        ({"StringEquals": {TEAM: "blue"}}, {TEAM: "red"}, "value does not satisfy it"),
        ({"ForAnyValue:StringEquals": {TEAM: "blue"}}, {TEAM: ""}, "value is empty"),
        ({"StringEquals": {TEAM: "${aws:username}"}}, {TEAM: "red"}, "a variable has no value"),
        ({"Null": {TEAM: "true"}}, {TEAM: "red"}, "the request has a value for it"),
        ({"Null": {TEAM: "false"}}, {}, "the request has no value for it"),
        # of several, the first that fails
        ({"Null": {TEAM: "false"}, "Bool": {"aws:SecureTransport": "true"}}, {TEAM: "red"}, "condition Bool"),
    ],
)
def test_the_trace_names_the_condition_without_values(condition: Any, context: Context, why: str) -> None:
    (trace,) = decide([parsed(statement(condition))], "s3:GetObject", "*", context).trace
    assert trace.mismatch_reason is not None
    assert why in trace.mismatch_reason
    assert "red" not in trace.mismatch_reason
