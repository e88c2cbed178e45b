"""PolicyEvaluator decides as `allows` does, and caches only decisions that cannot change."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sonant.iam import PolicyEvaluator, allows, parse
from sonant.iam.evaluation import MAX_CACHED_DECISIONS

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
REQUESTS = st.tuples(
    st.sampled_from(["voiceid:DescribeDomain", "voiceid:ListDomains", "kms:Decrypt"]),
    st.sampled_from([DOMAIN + "a", DOMAIN + "b", DOMAIN + "anna", "*"]),
    st.sampled_from([{}, {"aws:SourceIp": "10.1.1.1"}, {"aws:SourceIp": "11.1.1.1", "aws:username": "anna"}]),
)


@given(st.lists(STATEMENTS, max_size=4), st.lists(REQUESTS, max_size=12))
def test_any_sequence_of_decisions_equals_allows(statements, requests):
    policies = [policy(one) for one in statements]
    evaluator = PolicyEvaluator(policies)
    for action, resource, context in requests:
        assert evaluator.allows(action, resource, context) == allows(policies, action, resource, context)


def test_conditions_are_evaluated_each_time():
    evaluator = PolicyEvaluator([policy(statement(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))])
    assert not evaluator.unconditional
    assert evaluator.allows("voiceid:ListDomains", "*", {"aws:SourceIp": "10.1.2.3"})
    assert not evaluator.allows("voiceid:ListDomains", "*", {"aws:SourceIp": "192.0.2.1"})


def test_variables_are_evaluated_each_time():
    evaluator = PolicyEvaluator([policy(statement(resource=DOMAIN + "${aws:username}"))])
    assert not evaluator.unconditional
    assert evaluator.allows("voiceid:ListDomains", DOMAIN + "anna", {"aws:username": "anna"})
    assert not evaluator.allows("voiceid:ListDomains", DOMAIN + "anna", {"aws:username": "bert"})


def test_unconditional_decisions_are_cached_within_bounds():
    evaluator = PolicyEvaluator(
        [policy(statement(action="voiceid:*"), statement("Deny", resource=DOMAIN + "7"))]
    )
    assert evaluator.unconditional
    for _ in range(2):
        for number in range(MAX_CACHED_DECISIONS + 10):
            assert evaluator.allows("voiceid:ListDomains", f"{DOMAIN}{number}") == (number != 7)
    assert evaluator.cached_decisions <= MAX_CACHED_DECISIONS


def test_without_policies_everything_is_denied():
    assert not PolicyEvaluator(()).allows("voiceid:ListDomains", "*")
