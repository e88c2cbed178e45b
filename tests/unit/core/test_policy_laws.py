"""Properties of all policies and requests."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sonant.iam import Policy, allows, decide, parse

KEYS = ("aws:ResourceTag/a", "aws:PrincipalTag/a", "aws:TagKeys", "aws:username")
NAMES = st.text("ab*?", max_size=3)
VALUES = NAMES | st.sampled_from(["${aws:username}", "x${aws:PrincipalTag/a}*", "${*}"])
OPERATORS = st.builds(
    str.__add__,
    st.sampled_from(["", "ForAllValues:", "ForAnyValue:"]),
    st.builds(
        "String{}{}{}".format,
        st.sampled_from(["", "Not"]),
        st.sampled_from(["Equals", "Like", "EqualsIgnoreCase"]),
        st.sampled_from(["", "IfExists"]),
    ),
)
CONDITIONS = st.dictionaries(
    OPERATORS,
    st.dictionaries(st.sampled_from(KEYS), st.lists(VALUES, min_size=1, max_size=2), min_size=1, max_size=2),
    max_size=2,
)
RESOURCES = st.lists(st.builds("arn:a:b:c:d:{}".format, VALUES) | st.just("*"), min_size=1, max_size=2)
ACTIONS = st.lists(st.builds("s:{}".format, NAMES), min_size=1, max_size=2)


EITHER = st.sampled_from(["Allow", "Deny"])


def statements(effects: Any = EITHER) -> Any:
    return st.builds(
        lambda effect, action, actions, resource, resources, condition: {
            "Effect": effect,
            action: actions,
            resource: resources,
            "Condition": condition,
        },
        effects,
        st.sampled_from(["Action", "NotAction"]),
        ACTIONS,
        st.sampled_from(["Resource", "NotResource"]),
        RESOURCES,
        CONDITIONS,
    )


def policy(parts: list[dict[str, Any]]) -> Policy:
    return parse(json.dumps({"Version": "2012-10-17", "Statement": parts}))


POLICIES = st.lists(st.lists(statements(), min_size=1, max_size=3).map(policy), max_size=3)
TEXTS = st.text("abAB*", max_size=3)
REQUESTS = st.tuples(
    st.builds("s:{}".format, TEXTS),
    st.builds("arn:a:b:c:d:{}".format, TEXTS),
    st.dictionaries(st.sampled_from(KEYS), TEXTS | st.lists(TEXTS, max_size=2)),
)


@given(POLICIES, REQUESTS)
def test_decide_agrees_with_allows(policies: list[Policy], request: Any) -> None:
    decision = decide(policies, *request)
    assert decision.allowed is allows(policies, *request)
    # and it follows from the trace as AWS says
    applying = [one.allow for one in decision.trace if one.applies]
    assert decision.explicit_deny is (False in applying)
    assert decision.allowed is (applying != [] and all(applying))
    assert (decision.statement is None) is (applying == [])


@given(POLICIES, REQUESTS, st.data())
def test_a_deny_always_wins(policies: list[Policy], request: Any, data: Any) -> None:
    everything = policy([{"Effect": "Deny", "Action": "*", "Resource": "*"}])
    place = data.draw(st.integers(0, len(policies)))
    assert not allows([*policies[:place], everything, *policies[place:]], *request)


@given(POLICIES, REQUESTS, statements(st.just("Allow")))
def test_another_allow_never_removes_a_right(policies: list[Policy], request: Any, more: Any) -> None:
    assert allows([*policies, policy([more])], *request) >= allows(policies, *request)


@given(POLICIES, REQUESTS, statements(st.just("Deny")))
def test_another_deny_never_adds_a_right(policies: list[Policy], request: Any, more: Any) -> None:
    assert allows([*policies, policy([more])], *request) <= allows(policies, *request)


@given(POLICIES, REQUESTS)
def test_the_order_of_policies_and_statements_is_irrelevant(policies: list[Policy], request: Any) -> None:
    reverse = [Policy(one.statements[::-1]) for one in policies[::-1]]
    assert allows(reverse, *request) is allows(policies, *request)


@given(OPERATORS, st.lists(VALUES, max_size=2), st.lists(st.text("ab*", min_size=1), min_size=1))
def test_a_variable_without_value_never_adds_a_right(
    operator: str, values: list[str], tags: list[str]
) -> None:
    # given a condition whose key the request has
    condition = {operator: {"aws:TagKeys": [*values, "${aws:userid}"]}}
    part = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}
    assert not allows([policy([part])], "s:a", "*", {"aws:TagKeys": tags, "aws:username": "ann"})
