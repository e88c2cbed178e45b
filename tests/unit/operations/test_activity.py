"""DescribeActivity, ListSessions by decision, and the decisions that DescribeSession shows."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from counted_statements import counted_statements
from limited_callers import NO_EXACT_SCORES, call_as, caller_named
from operations_testbed import START, Operations, operations_on

from sonant.storage.repositories import sessions


@pytest.fixture
def domain_id(testbed: Operations) -> str:
    return testbed.new_domain()


def decide(testbed: Operations, domain_id: str, name: str, **more: str) -> None:
    """Start a session and have a decision made, which is by its speaker alone: no audio comes."""
    testbed.call("StartSession", DomainId=domain_id, SessionName=name, **more)
    testbed.call("EvaluateSession", DomainId=domain_id, SessionNameOrId=name)


def named(testbed: Operations, domain_id: str, **chosen: Any) -> list[str]:
    found = testbed.call("ListSessions", DomainId=domain_id, **chosen)
    return [one["SessionName"] for one in found["SessionSummaries"]]


def test_decisions_are_counted_in_the_hour_they_were_made_in(testbed: Operations, domain_id: str) -> None:
    decide(testbed, domain_id, "one", SpeakerId="ada")
    testbed.clock.advance(hours=1)
    for name in ("two", "three"):
        decide(testbed, domain_id, name)
    activity = testbed.call("DescribeActivity", DomainId=domain_id, Hours=3)
    assert activity["ActiveSessions"] == 2, "the stream of the first has never begun"
    hours = [(hour["StartedAt"].hour, hour["AuthenticationDecisions"]) for hour in activity["Hours"]]
    assert hours == [
        (11, []),
        (12, [{"Name": "SPEAKER_NOT_ENROLLED", "Calls": 1}]),
        (13, [{"Name": "SPEAKER_ID_NOT_PROVIDED", "Calls": 2}]),
    ]


def test_a_call_counts_with_its_latest_decision_only(testbed: Operations, domain_id: str) -> None:
    decide(testbed, domain_id, "one")
    testbed.clock.advance(hours=1)
    testbed.call("UpdateSession", DomainId=domain_id, SessionNameOrId="one", SpeakerId="ada")
    testbed.call("EvaluateSession", DomainId=domain_id, SessionNameOrId="one")
    hours = testbed.call("DescribeActivity", DomainId=domain_id, Hours=2)["Hours"]
    assert [hour["AuthenticationDecisions"] for hour in hours] == [
        [],
        [{"Name": "SPEAKER_NOT_ENROLLED", "Calls": 1}],
    ]


def test_other_domains_are_not_counted(testbed: Operations, domain_id: str) -> None:
    decide(testbed, testbed.new_domain(), "elsewhere")
    activity = testbed.call("DescribeActivity", DomainId=domain_id)
    assert activity["ActiveSessions"] == 0
    assert not any(hour["FraudDetectionDecisions"] for hour in activity["Hours"])


def test_calls_of_a_rare_decision_are_read_by_their_keys_alone(tmp_path: Path) -> None:
    with counted_statements() as statements, closing(operations_on(tmp_path / "data")) as testbed:
        domain_id = testbed.new_domain()
        decide(testbed, domain_id, "one")
        statements.clear()
        assert named(testbed, domain_id, FraudDetectionDecision="HIGH_RISK", SortOrder="DESCENDING") == []
        assert not [one for one in statements if "FROM sessions" in one and "ORDER BY" in one]
        statements.clear()
        assert named(testbed, domain_id, AuthenticationDecision="SPEAKER_ID_NOT_PROVIDED") == ["one"]
        read = [one for one in statements if "FROM sessions" in one]
        assert read
        assert not [one for one in read if "ORDER BY" in one], (
            "a sorted read walks all sessions of the domain"
        )


@pytest.mark.parametrize("rare", [0, sessions.MOST_RARE])
def test_sessions_are_chosen_by_speaker_decision_time_and_order(
    testbed: Operations, domain_id: str, rare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_RARE", rare)
    for name in ("one", "two", "three"):
        decide(testbed, domain_id, name, SpeakerId="ada" if name != "two" else "bert")
        testbed.clock.advance(minutes=10)
    decide(testbed, domain_id, "nobody")
    assert named(testbed, domain_id) == ["one", "two", "three", "nobody"]
    assert named(testbed, domain_id, SortOrder="DESCENDING") == ["nobody", "three", "two", "one"]
    assert named(testbed, domain_id, SpeakerId="ada") == ["one", "three"]
    assert named(testbed, domain_id, AuthenticationDecision="SPEAKER_ID_NOT_PROVIDED") == ["nobody"]
    assert named(testbed, domain_id, AuthenticationDecision="ACCEPT") == []
    not_enrolled: dict[str, Any] = {
        "AuthenticationDecision": "SPEAKER_NOT_ENROLLED",
        "SortOrder": "DESCENDING",
    }
    assert named(testbed, domain_id, **not_enrolled) == ["three", "two", "one"]
    first = testbed.call("ListSessions", DomainId=domain_id, MaxResults=2, **not_enrolled)
    assert named(testbed, domain_id, NextToken=first["NextToken"], **not_enrolled) == ["one"]
    assert named(testbed, domain_id, SpeakerId="bert", **not_enrolled) == ["two"]
    ten = START + timedelta(minutes=10)
    assert named(testbed, domain_id, CreatedAfter=ten, CreatedBefore=ten + timedelta(minutes=10)) == ["two"]


@pytest.mark.parametrize("order", ["ASCENDING", "DESCENDING"])
def test_pages_of_sessions_of_one_moment_lose_and_repeat_none(
    testbed: Operations, domain_id: str, order: str
) -> None:
    for number in range(7):
        testbed.call("StartSession", DomainId=domain_id, SessionName=f"call-{number}")
    seen, token = list[str](), dict[str, Any]()
    while True:
        found = testbed.call("ListSessions", DomainId=domain_id, SortOrder=order, MaxResults=3, **token)
        seen += [one["SessionName"] for one in found["SessionSummaries"]]
        if found.get("NextToken") is None:
            break
        token = {"NextToken": found["NextToken"]}
    assert sorted(seen) == [f"call-{number}" for number in range(7)]


def test_described_decisions_are_stored_ones_and_decide_nothing(testbed: Operations, domain_id: str) -> None:
    testbed.call("StartSession", DomainId=domain_id, SessionName="one")
    before = testbed.call("DescribeSession", DomainId=domain_id, SessionNameOrId="one")["Session"]
    assert before.get("LatestAuthentication") is None
    testbed.call("EvaluateSession", DomainId=domain_id, SessionNameOrId="one")
    testbed.clock.advance(hours=1)
    reader = caller_named("reader", NO_EXACT_SCORES)
    after = call_as(testbed, reader, "DescribeSession", DomainId=domain_id, SessionNameOrId="one")["Session"]
    assert after["LatestAuthentication"]["Decision"] == "SPEAKER_ID_NOT_PROVIDED"
    assert after["LatestAuthentication"]["DecidedAt"] == START
    assert after["LatestFraudDetection"]["Decision"] == "NOT_ENOUGH_SPEECH"
