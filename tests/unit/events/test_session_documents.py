"""Events of sessions: the AWS docs' event schema, field by field."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from event_peers import DOMAIN_ID, NOON

from sonant.events.documents import ErrorInfo
from sonant.events.session_documents import (
    Window,
    evaluate_session_event,
    session_enrollment_event,
    start_session_event,
    update_session_event,
)
from sonant.store.domains import Domain
from sonant.store.sessions import Session

SESSION_ID, SPEAKER_ID = "id#ssssssssssssssssssssss", "id#AbCdEfGhIjKlMnOpQrStUv"
WATCHLIST_ID = "w" * 22
SESSION = Session(
    session_id=SESSION_ID,
    domain_id=DOMAIN_ID,
    name="contact-1",
    wrapped=b"sealed",
    speaker_id=SPEAKER_ID,
    acceptance_threshold=85,
    authentication_speech_s=7.0,
    risk_threshold=40,
    watchlist_id=WATCHLIST_ID,
    enrollment_status="NOT_ENOUGH_SPEECH",
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
SET_UP = {
    "sessionId": SESSION_ID,
    "sessionName": "contact-1",
    "generatedSpeakerId": SPEAKER_ID,
    "authenticationConfiguration": {"acceptanceThreshold": 85},
    "fraudDetectionConfiguration": {"riskThreshold": 40, "watchlistId": WATCHLIST_ID},
    "streamingConfiguration": {"authenticationMinimumSpeechInSeconds": 7},
}
LATER = NOON + timedelta(seconds=12, milliseconds=345)


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def test_a_stream_tells_the_set_up_and_how_far_each_purpose_is(domain: Domain) -> None:
    whole = Window(started_at=NOON, ended_at=LATER)
    event = start_session_event(
        domain, SESSION, authentication=whole, fraud_detection=whole, enrollment=Window(started_at=NOON)
    )
    assert event.type == "VoiceId Start Session Action"
    progress = {"audioAggregationStartedAt": iso(NOON), "audioAggregationEndedAt": iso(LATER)}
    assert event.detail == {
        "action": "START_SESSION",
        "status": "SUCCESS",
        "domainId": DOMAIN_ID,
        "session": {
            **SET_UP,
            "enrollmentAudioProgress": {
                "audioAggregationStatus": "NOT_ENOUGH_SPEECH",
                "audioAggregationStartedAt": iso(NOON),
            },
            "authenticationAudioProgress": progress,
            "fraudDetectionAudioProgress": progress,
        },
    }


def test_what_a_session_is_not_set_up_for_is_left_out(domain: Domain) -> None:
    bare = replace(
        SESSION, acceptance_threshold=None, risk_threshold=None, speaker_id=None, enrollment_status=None
    )
    told = {"sessionId": SESSION_ID, "sessionName": "contact-1"}
    assert start_session_event(domain, bare).detail["session"] == told
    assert update_session_event(domain, bare).detail["session"] == told


def test_an_update_tells_the_whole_set_up(domain: Domain) -> None:
    event = update_session_event(domain, SESSION)
    assert (event.type, event.detail["action"]) == ("VoiceId Update Session Action", "UPDATE_SESSION")
    assert event.detail["session"] == SET_UP


def test_an_evaluation_tells_both_results_but_no_customers_id(domain: Domain) -> None:
    window = {"AudioAggregationStartedAt": NOON, "AudioAggregationEndedAt": LATER}
    event = evaluate_session_event(
        domain,
        SESSION,
        authentication={
            "AuthenticationResultId": "a" * 22,
            "Decision": "ACCEPT",
            "Score": 97,
            "GeneratedSpeakerId": SPEAKER_ID,
            "CustomerSpeakerId": "secret-customer",
            "Configuration": {"AcceptanceThreshold": 85},
            **window,
        },
        fraud_detection={
            "FraudDetectionResultId": "f" * 22,
            "Decision": "HIGH_RISK",
            "Reasons": ["KNOWN_FRAUDSTER"],
            "Configuration": {"RiskThreshold": 40, "WatchlistId": WATCHLIST_ID},
            "RiskDetails": {
                "KnownFraudsterRisk": {"RiskScore": 60, "GeneratedFraudsterId": "id#f"},
                "VoiceSpoofingRisk": {"RiskScore": 3},
            },
            **window,
        },
    )
    told = {"audioAggregationStartedAt": iso(NOON), "audioAggregationEndedAt": iso(LATER)}
    assert event.type == "VoiceId Evaluate Session Action"
    assert event.detail == {
        "action": "EVALUATE_SESSION",
        "status": "SUCCESS",
        "domainId": DOMAIN_ID,
        "session": {
            "sessionId": SESSION_ID,
            "sessionName": "contact-1",
            "generatedSpeakerId": SPEAKER_ID,
            "streamingStatus": "ONGOING",
            "authenticationResult": {
                "authenticationResultId": "a" * 22,
                "decision": "ACCEPT",
                "score": 97,
                "configuration": {"acceptanceThreshold": 85},
                **told,
            },
            "fraudDetectionResult": {
                "fraudDetectionResultId": "f" * 22,
                "decision": "HIGH_RISK",
                "reasons": ["KNOWN_FRAUDSTER"],
                "configuration": {"riskThreshold": 40, "watchlistId": WATCHLIST_ID},
                "riskDetails": {
                    "knownFraudsterRisk": {"riskScore": 60, "generatedFraudsterId": "id#f"},
                    "voiceSpoofingRisk": {"riskScore": 3},
                },
                **told,
            },
        },
    }


def test_an_enrollment_request_names_the_session(domain: Domain) -> None:
    event = session_enrollment_event(domain, SESSION)
    assert event.type == "VoiceId Session Speaker Enrollment Action"
    assert event.detail == {
        "action": "SESSION_ENROLLMENT_REQUEST",
        "status": "SUCCESS",
        "domainId": DOMAIN_ID,
        "sessionId": SESSION_ID,
        "sessionName": "contact-1",
    }


@pytest.mark.parametrize(
    "told", [start_session_event, update_session_event, evaluate_session_event, session_enrollment_event]
)
@pytest.mark.parametrize(("asked", "member"), [("contact-9", "sessionName"), (SESSION_ID, "sessionId")])
def test_a_refusal_tells_why_and_which_session_was_asked_for(
    domain: Domain, told: Any, asked: str, member: str
) -> None:
    error = ErrorInfo(type="ConflictException", message="The session already has one.", code=409)
    detail = told(domain, None, error=error, asked=asked).detail
    assert (detail["status"], detail.get("session", detail)[member]) == ("FAILURE", asked)
    assert detail["errorInfo"] == {
        "errorType": "ConflictException",
        "errorMessage": "The session already has one.",
        "errorCode": 409,
    }
