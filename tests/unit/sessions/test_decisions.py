"""Decisions on a caller, over the whole table, and what changes a result's basis."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_samples import made_sample

from sonant.jobs.fraud import KNOWN_FRAUDSTER, SPOOFING, Risk
from sonant.sessions.decisions import (
    Authentication,
    FraudDetection,
    authentication_basis,
    decide_authentication,
    decide_fraud,
    decide_without_speech,
    fraud_basis,
)
from sonant.storage.repositories.session_samples import SessionSample
from sonant.storage.repositories.sessions import Session

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPEAKER, LIST, FRAUDSTER = "id#AbCdEfGhIjKlMnOpQrStUv", "w" * 22, "id#fffffffffffffffffffffff"[:25]
SPEECH = SessionSample(
    purpose="FRAUD",
    stream=1,
    started_at=NOON,
    ended_at=NOON + timedelta(seconds=12.5),
    sample=made_sample(net_speech_s=10.0, snr_db=20.0),
)
SESSION = Session(
    session_id="id#ssssssssssssssssssssss",
    domain_id="d" * 22,
    name="contact",
    wrapped=b"",
    speaker_id=SPEAKER,
    acceptance_threshold=90,
    authentication_speech_s=10.0,
    risk_threshold=50,
    watchlist_id=None,
    enrollment_status=None,
    enrollment_message=None,
    created_at=NOON,
    updated_at=NOON,
    stream=1,
    stream_status="ONGOING",
    stream_until=NOON,
    stream_owner="me",
    stream_started_at=NOON,
    stream_ended_at=None,
    stream_end_reason=None,
    heard_s=1.0,
    net_speech_s=1.0,
)

scores = st.integers(0, 100)


@pytest.mark.parametrize(
    ("speaker_id", "status", "decision"),
    [
        (None, None, "SPEAKER_ID_NOT_PROVIDED"),
        (SPEAKER, "OPTED_OUT", "SPEAKER_OPTED_OUT"),
        (SPEAKER, "PENDING", "SPEAKER_NOT_ENROLLED"),
        (SPEAKER, None, "SPEAKER_NOT_ENROLLED"),
        (SPEAKER, "EXPIRED", "SPEAKER_EXPIRED"),
        (SPEAKER, "ENROLLED", None),
    ],
)
def test_speakers_status_decides_before_the_voice(speaker_id, status, decision):
    assert decide_without_speech(speaker_id, status) == decision


@given(scores, scores)
def test_score_at_or_above_the_threshold_is_accepted(threshold, score):
    result = decide_authentication(threshold, score, SPEECH)
    assert result.decision == ("ACCEPT" if score >= threshold else "REJECT")
    assert result.final
    member = result.to_response("r" * 22, SPEAKER, "customer")
    assert member == {
        "AuthenticationResultId": "r" * 22,
        "Decision": result.decision,
        "Score": score,
        "GeneratedSpeakerId": SPEAKER,
        "CustomerSpeakerId": "customer",
        "Configuration": {"AcceptanceThreshold": threshold},
        "AudioAggregationStartedAt": NOON,
        "AudioAggregationEndedAt": NOON + timedelta(seconds=12.5),
    }


@given(scores, st.none() | scores, st.none() | scores)
def test_risk_at_or_above_the_threshold_is_high(threshold, known, spoofing):
    risks = [] if known is None else [Risk(name=KNOWN_FRAUDSTER, score=known, fraudster_id=FRAUDSTER)]
    risks += [] if spoofing is None else [Risk(name=SPOOFING, score=spoofing)]
    reasons = ["KNOWN_FRAUDSTER"] * ((known or 0) >= threshold) + ["VOICE_SPOOFING"] * (
        (spoofing or 0) >= threshold
    )

    result = decide_fraud(threshold, LIST, risks, SPEECH)

    member = result.to_response("r" * 22)
    assert member["Decision"] == ("HIGH_RISK" if reasons else "LOW_RISK")
    assert member.get("Reasons", []) == reasons
    assert ("Reasons" in member) == bool(reasons)
    assert member["RiskDetails"] == {
        "KnownFraudsterRisk": {
            "RiskScore": known or 0,
            "GeneratedFraudsterId": None if known is None else FRAUDSTER,
        },
        "VoiceSpoofingRisk": {"RiskScore": spoofing or 0},
    }
    assert member["Configuration"] == {"RiskThreshold": threshold, "WatchlistId": LIST}


def test_too_little_speech_is_not_final_and_has_no_scores():
    authentication = Authentication(decision="NOT_ENOUGH_SPEECH", threshold=90)
    fraud = FraudDetection(decision="NOT_ENOUGH_SPEECH", threshold=0, watchlist_id=LIST)
    assert not authentication.final
    assert not fraud.final
    assert authentication.to_response("r", None, None)["Score"] is None
    assert set(fraud.to_response("r")) == {"FraudDetectionResultId", "Decision", "Configuration"}


@given(scores, scores)
def test_decision_survives_json(threshold, score):
    one = decide_authentication(threshold, score, SPEECH)
    other = decide_fraud(threshold, LIST, [Risk(name=SPOOFING, score=score)], SPEECH)
    assert Authentication.from_json(one.to_json()) == one
    assert FraudDetection.from_json(other.to_json()) == other


@pytest.mark.parametrize(
    ("change", "authentication", "fraud"),
    [
        ({}, False, False),
        ({"stream": 2}, True, True),
        ({"acceptance_threshold": 91}, True, False),
        ({"risk_threshold": 51}, False, True),
        ({"speaker_id": "id#other"}, True, False),
        ({"speaker_id": None}, True, False),
        ({"stream_status": "ENDED", "heard_s": 20.0, "net_speech_s": 12.0}, False, False),
        ({"enrollment_status": "COMPLETED", "updated_at": NOON + timedelta(1)}, False, False),
    ],
)
def test_basis_covers_stream_thresholds_and_speaker_only(change, authentication, fraud):
    changed = replace(SESSION, **change)
    same = authentication_basis(SESSION, "ENROLLED") == authentication_basis(changed, "ENROLLED")
    assert same != authentication
    assert (fraud_basis(SESSION, LIST) == fraud_basis(changed, LIST)) != fraud


def test_basis_covers_speakers_status_and_watchlist():
    statuses = (None, "PENDING", "ENROLLED", "EXPIRED", "OPTED_OUT")
    assert len({authentication_basis(SESSION, status) for status in statuses}) == len(statuses)
    assert fraud_basis(SESSION, LIST) != fraud_basis(SESSION, "x" * 22)
