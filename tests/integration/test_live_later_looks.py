"""Later looks at the voice of a call: who is still there, and who is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from live_testbed import LiveTestbed, customer
from waiting import PATIENCE_S, wait_until

from sonant.jobs.fraud import SPOOFING, Risk
from sonant.sessions.risks import FraudIndexes
from sonant.settings import Events, Live

SPEECH_EVENT = "Sonant Session Speech Action"


@pytest.fixture
def looking(variant):
    """A testbed that looks at a voice again after a second."""
    live = LiveTestbed.of(variant(live=Live(workers=1, again_s=1.0), events=Events(sinks="file")))
    yield live
    live.close()


def reasons(live, domain, name):
    session = live.call("DescribeSession", DomainId=domain, SessionNameOrId=name)["Session"]
    return session.get("SpeechReasons")


def test_another_speaker_after_the_decision_is_noticed_and_the_same_is_not(looking, make_call):
    # Given: a caller who is decided on, and goes on talking
    live = looking
    domain = live.testbed.new_domain()
    caller = customer(make_call("english", 31, net_speech_s=30, channels=1))
    name = live.start(domain, SpeakerId="customer-1").name
    stream = live.open(domain, name)
    live.push(stream, caller)
    live.push(stream, np.zeros(8000, np.int16))
    assert reasons(live, domain, name) is None

    # When: somebody else takes the telephone
    live.push(stream, customer(make_call("russian", 32, net_speech_s=24, channels=1)))

    # Then
    wait_until("it is noticed", lambda: reasons(live, domain, name), PATIENCE_S)
    assert reasons(live, domain, name) == ["SPEAKER_CHANGED"]
    (event,) = live.events(domain, SPEECH_EVENT)
    assert event["session"]["speechReasons"] == ["SPEAKER_CHANGED"]

    # and a new stream of the call begins without it
    live.call("RestartStream", DomainId=domain, SessionNameOrId=name)
    assert reasons(live, domain, name) is None
    live.hang_up(stream)


def test_risk_of_later_speech_is_noticed_and_answered(looking, make_call, monkeypatch):
    assess = FraudIndexes.risks
    risky: list[Any] = []

    def risks(indexes, *parts, speech, **named):
        found = assess(indexes, *parts, speech=speech, **named)
        if risky and speech.purpose != "FRAUD":
            found = (*found, Risk(name=SPOOFING, score=97, evidence="SYNTHETIC_SPEECH"))
        return found

    monkeypatch.setattr(FraudIndexes, "risks", risks)
    live = looking
    domain = live.testbed.new_domain()
    name = live.start(domain, SpeakerId="customer-1").name
    stream = live.open(domain, name)
    live.push(stream, customer(make_call("english", 31, net_speech_s=14, channels=1)))
    before = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)["FraudDetectionResult"]
    assert before["Decision"] == "LOW_RISK"

    risky.append(True)
    live.push(stream, customer(make_call("english", 33, net_speech_s=24, channels=1)))

    wait_until("it is noticed", lambda: reasons(live, domain, name), PATIENCE_S)
    assert reasons(live, domain, name) == ["LATER_HIGH_RISK"]
    after = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)["FraudDetectionResult"]
    assert after["Decision"] == "HIGH_RISK"
    assert after["FraudDetectionResultId"] != before["FraudDetectionResultId"]
    live.hang_up(stream)
