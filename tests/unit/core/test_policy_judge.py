"""A judge decides as `allows` does, and remembers only what cannot change."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sonant.iam import PolicyEvaluator, allows, parse
from sonant.iam.evaluation import MOST_REMEMBERED

DOMAIN = "arn:aws:voiceid:us-east-1:000000000000:domain/"


def policy(*statements):
    return parse(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def statement(effect="Allow", action="*", resource="*", **more):
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


ELEMENTS = st.sampled_from(["*", "voiceid:*", "voiceid:Describe*", "voiceid:ListDomains", "kms:Decrypt"])
RESOURCES = st.sampled_from(["*", *(DOMAIN + end for end in ("a", "b", "?", "${aws:username}"))])
CONDITIONS = st.sampled_from([{}, {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}])
STATEMENTS = st.builds(
    lambda effect, action, resource, more: statement(effect, action, resource, **more),
    st.sampled_from(["Allow", "Deny"]),
    ELEMENTS,
    RESOURCES,
    CONDITIONS,
)
QUESTIONS = st.tuples(
    st.sampled_from(["voiceid:DescribeDomain", "voiceid:ListDomains", "kms:Decrypt"]),
    st.sampled_from([DOMAIN + "a", DOMAIN + "b", DOMAIN + "anna", "*"]),
    st.sampled_from([{}, {"aws:SourceIp": "10.1.1.1"}, {"aws:SourceIp": "11.1.1.1", "aws:username": "anna"}]),
)


@given(st.lists(STATEMENTS, max_size=4), st.lists(QUESTIONS, max_size=12))
def test_asked_any_questions_in_any_order_it_answers_as_allows_does(statements, questions):
    policies = [policy(one) for one in statements]
    judge = PolicyEvaluator(policies)
    for action, resource, context in questions:
        assert judge.allows(action, resource, context) == allows(policies, action, resource, context)


def test_a_condition_is_asked_anew_each_time():
    judge = PolicyEvaluator([policy(statement(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))])
    assert not judge.unconditional
    assert judge.allows("voiceid:ListDomains", "*", {"aws:SourceIp": "10.1.2.3"})
    assert not judge.allows("voiceid:ListDomains", "*", {"aws:SourceIp": "192.0.2.1"})


def test_a_variable_is_asked_anew_each_time():
    judge = PolicyEvaluator([policy(statement(resource=DOMAIN + "${aws:username}"))])
    assert not judge.unconditional
    assert judge.allows("voiceid:ListDomains", DOMAIN + "anna", {"aws:username": "anna"})
    assert not judge.allows("voiceid:ListDomains", DOMAIN + "anna", {"aws:username": "bert"})


def test_without_either_a_decision_is_the_same_again_and_memory_is_bounded():
    judge = PolicyEvaluator([policy(statement(action="voiceid:*"), statement("Deny", resource=DOMAIN + "7"))])
    assert judge.unconditional
    for _ in range(2):
        for number in range(MOST_REMEMBERED + 10):
            assert judge.allows("voiceid:ListDomains", f"{DOMAIN}{number}") == (number != 7)
    assert len(judge._taken) <= MOST_REMEMBERED


def test_nobody_without_policies_may_do_anything():
    assert not PolicyEvaluator(()).allows("voiceid:ListDomains", "*")
