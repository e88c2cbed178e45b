"""Events of sessions: the form of Voice ID's sample events, member by member."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from event_peers import DOMAIN_ID, NOON

from sonant.events.documents import Event, document
from sonant.events.error_info import ErrorInfo
from sonant.events.session_documents import (
    STREAM_FAULTS,
    SessionReference,
    Window,
    evaluate_session_event,
    evaluation_refused_event,
    session_enrollment_event,
    session_enrollment_refused_event,
    stream_event,
    stream_refused_event,
    update_refused_event,
    update_session_event,
)
from sonant.sessions.calls import EndReason
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD
from sonant.storage.repositories.sessions import Session

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
    contact_arn="arn:aws:connect:eu-west-2:123456789012:instance/i-1/contact/c-1",
)
CONTACT = {"aws:connect:OriginalContactArn": SESSION.contact_arn}
LATER = NOON + timedelta(seconds=12, milliseconds=345)
SAID, SAID_LATER = "2026-03-01T12:00:00.250Z", "2026-03-01T12:00:12.595Z"
NOTHING = {"audioAggregationEndedAt": None, "audioAggregationStartedAt": None}
GATHERING = {"audioAggregationEndedAt": None, "audioAggregationStartedAt": SAID}
ENOUGH = {"audioAggregationEndedAt": SAID_LATER, "audioAggregationStartedAt": SAID}
REFUSED = ErrorInfo.of_code(409, "The session already has one.")


def detail_of(event: Event) -> dict[str, Any]:
    told: dict[str, Any] = document(event, "e" * 36, NOON)["detail"]
    told.pop("sourceId")
    return told


def same(told: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Equal, also in the order of members."""
    return json.dumps(told) == json.dumps(expected)


def ended(reason: EndReason) -> Session:
    return replace(SESSION, stream_status="ENDED", stream_ended_at=LATER, stream_end_reason=reason.value)


# --- streams ------------------------------------------------------------------------------------------


def test_stream_start_event_has_configuration_and_progress(domain: Domain) -> None:
    event = stream_event(domain, SESSION, {})
    assert event.type == "VoiceId Start Session Action"
    assert same(
        detail_of(event),
        {
            "action": "START_SESSION",
            "domainId": DOMAIN_ID,
            "errorInfo": None,
            "session": {
                "authenticationAudioProgress": GATHERING,
                "authenticationConfiguration": {"acceptanceThreshold": 85},
                "enrollmentAudioProgress": {**GATHERING, "audioAggregationStatus": "NOT_ENOUGH_SPEECH"},
                "fraudDetectionAudioProgress": GATHERING,
                "fraudDetectionConfiguration": {"riskThreshold": 40, "watchlistId": WATCHLIST_ID},
                "generatedSpeakerId": SPEAKER_ID,
                "sessionId": SESSION_ID,
                "sessionName": "contact-1",
                "streamingConfiguration": {"authenticationMinimumSpeechInSeconds": 7},
            },
            "status": "STREAMING_STARTED",
            "systemAttributes": CONTACT,
        },
    )


def test_a_stream_that_ends_tells_what_there_was_enough_for(domain: Domain) -> None:
    whole = Window(started_at=NOON, ended_at=LATER)
    session = replace(ended(EndReason.CALL_ENDED), enrollment_speech_at=LATER)
    told = detail_of(stream_event(domain, session, {AUTHENTICATION: whole, FRAUD: whole}))
    assert (told["status"], told["errorInfo"]) == ("STREAMING_ENDED", None)
    assert told["session"]["authenticationAudioProgress"] == ENOUGH
    assert told["session"]["fraudDetectionAudioProgress"] == ENOUGH
    assert told["session"]["enrollmentAudioProgress"] == {
        **ENOUGH,
        "audioAggregationStatus": "READY_FOR_ENROLLMENT",
    }


def test_what_a_session_is_not_set_up_for_is_null(domain: Domain) -> None:
    bare = replace(SESSION, acceptance_threshold=None, risk_threshold=None, speaker_id=None, contact_arn=None)
    told = detail_of(stream_event(domain, bare, {}))
    session = told["session"]
    assert session["authenticationConfiguration"] is session["fraudDetectionConfiguration"] is None
    assert session["authenticationAudioProgress"] == session["fraudDetectionAudioProgress"] == NOTHING
    assert session["generatedSpeakerId"] is told["systemAttributes"] is None


@pytest.mark.parametrize("reason", EndReason)
def test_a_stream_fails_with_an_error_or_just_ends(domain: Domain, reason: EndReason) -> None:
    told = detail_of(stream_event(domain, ended(reason), {}))
    just_ends = reason in ("CALL_ENDED", "REQUESTED", "IDLE", "TOO_LONG")
    assert told["status"] == ("STREAMING_ENDED" if just_ends else "STREAMING_FAILED")
    assert (told["errorInfo"] is None) == just_ends


def test_every_fault_of_streams_is_a_reason_why_they_end() -> None:
    assert set(STREAM_FAULTS) <= set(EndReason)


# --- updates and evaluations --------------------------------------------------------------------------


def test_an_update_tells_the_set_up(domain: Domain) -> None:
    event = update_session_event(domain, replace(SESSION, watchlist_id=None))
    assert event.type == "VoiceId Update Session Action"
    assert same(
        detail_of(event),
        {
            "action": "UPDATE_SESSION",
            "domainId": DOMAIN_ID,
            "errorInfo": None,
            "session": {
                "authenticationConfiguration": {"acceptanceThreshold": 85},
                "fraudDetectionConfiguration": {"riskThreshold": 40},
                "generatedSpeakerId": SPEAKER_ID,
                "sessionId": SESSION_ID,
                "sessionName": "contact-1",
            },
            "status": "SUCCEEDED",
            "systemAttributes": CONTACT,
        },
    )


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
                "KnownFraudsterRisk": {"RiskScore": 60, "GeneratedFraudsterId": SPEAKER_ID},
                "VoiceSpoofingRisk": {"RiskScore": 3},
            },
            **window,
        },
    )
    assert event.type == "VoiceId Evaluate Session Action"
    assert same(
        detail_of(event),
        {
            "action": "EVALUATE_SESSION",
            "domainId": DOMAIN_ID,
            "errorInfo": None,
            "session": {
                "authenticationResult": {
                    **ENOUGH,
                    "authenticationResultId": "a" * 22,
                    "configuration": {"acceptanceThreshold": 85},
                    "decision": "ACCEPT",
                    "score": 97,
                },
                "fraudDetectionResult": {
                    **ENOUGH,
                    "configuration": {"riskThreshold": 40, "watchlistId": WATCHLIST_ID},
                    "decision": "HIGH_RISK",
                    "fraudDetectionResultId": "f" * 22,
                    "reasons": ["KNOWN_FRAUDSTER"],
                    "riskDetails": {
                        "knownFraudsterRisk": {"generatedFraudsterId": SPEAKER_ID, "riskScore": 60},
                        "voiceSpoofingRisk": {"riskScore": 3},
                    },
                },
                "generatedSpeakerId": SPEAKER_ID,
                "sessionId": SESSION_ID,
                "sessionName": "contact-1",
                "streamingStatus": "ONGOING",
            },
            "status": "SUCCEEDED",
            "systemAttributes": CONTACT,
        },
    )


def test_result_without_speech_has_null_for_unknown_members(domain: Domain) -> None:
    event = evaluate_session_event(
        domain,
        SESSION,
        authentication=None,
        fraud_detection={
            "FraudDetectionResultId": "f" * 22,
            "Decision": "NOT_ENOUGH_SPEECH",
            "Configuration": {"RiskThreshold": 40, "WatchlistId": WATCHLIST_ID},
        },
    )
    session = detail_of(event)["session"]
    assert session["authenticationResult"] is None
    assert session["fraudDetectionResult"] == {
        **NOTHING,
        "configuration": {"riskThreshold": 40, "watchlistId": WATCHLIST_ID},
        "decision": "NOT_ENOUGH_SPEECH",
        "fraudDetectionResultId": "f" * 22,
        "reasons": None,
        "riskDetails": None,
    }


# --- enrollment requests ------------------------------------------------------------------------------


def test_an_enrollment_request_names_the_session(domain: Domain) -> None:
    event = session_enrollment_event(domain, SESSION)
    assert event.type == "VoiceId Session Speaker Enrollment Action"
    assert same(
        detail_of(event),
        {
            "action": "SESSION_ENROLLMENT_REQUEST",
            "domainId": DOMAIN_ID,
            "errorInfo": None,
            "sessionId": SESSION_ID,
            "sessionName": "contact-1",
            "status": "SUBMITTED",
            "systemAttributes": CONTACT,
        },
    )


# --- refusals -----------------------------------------------------------------------------------------

Refusal = Callable[[Domain, SessionReference, ErrorInfo], Event]
REFUSALS = (
    (stream_refused_event, "STREAMING_FAILED"),
    (update_refused_event, "FAILED"),
    (evaluation_refused_event, "FAILED"),
    (session_enrollment_refused_event, "FAILED"),
)


@pytest.mark.parametrize(("told", "status"), REFUSALS)
@pytest.mark.parametrize(
    ("asked", "found", "ids"),
    [
        ("contact-9", None, (None, "contact-9")),
        (SESSION_ID, None, (SESSION_ID, None)),
        ("contact-1", SESSION, (SESSION_ID, "contact-1")),
        (SESSION_ID, SESSION, (SESSION_ID, "contact-1")),
    ],
)
def test_a_refusal_tells_why_and_all_that_is_known_of_the_session(
    domain: Domain,
    told: Refusal,
    status: str,
    asked: str,
    found: Session | None,
    ids: tuple[str | None, str | None],
) -> None:
    detail = detail_of(told(domain, SessionReference.of(asked, found), REFUSED))
    session = detail.get("session", detail)
    assert (session["sessionId"], session["sessionName"]) == ids
    assert detail["status"] == status
    assert detail["errorInfo"] == {
        "errorCode": 409,
        "errorMessage": "The session already has one.",
        "errorType": "CONFLICT",
    }
    assert detail["systemAttributes"] is None


def test_an_evaluation_refused_of_a_known_session_tells_its_stream(domain: Domain) -> None:
    detail = detail_of(evaluation_refused_event(domain, SessionReference.of("contact-1", SESSION), REFUSED))
    assert same(
        detail["session"],
        {
            "authenticationResult": None,
            "fraudDetectionResult": None,
            "generatedSpeakerId": None,
            "sessionId": SESSION_ID,
            "sessionName": "contact-1",
            "streamingStatus": "ONGOING",
        },
    )
