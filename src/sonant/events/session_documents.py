"""Builds the events of sessions. All functions are pure.

Start Session events are sent when a stream starts, when it ends, and when either fails; the others with the
call that they are named after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sonant.events.documents import (
    FAILED,
    SUBMITTED,
    SUCCEEDED,
    Event,
    EventDomain,
    build_event,
    system_attributes,
    time_text,
)
from sonant.events.error_info import NOT_ENOUGH_SPEECH, ErrorInfo
from sonant.storage.repositories.sessions import ENDED, Session

START_SESSION = "VoiceId Start Session Action"
UPDATE_SESSION = "VoiceId Update Session Action"
EVALUATE_SESSION = "VoiceId Evaluate Session Action"
SESSION_ENROLLMENT = "VoiceId Session Speaker Enrollment Action"

STARTED, STREAM_ENDED, STREAM_FAILED = "STREAMING_STARTED", "STREAMING_ENDED", "STREAMING_FAILED"

#: Errors of streams that count as failed, by `stream_end_reason`. All other streams have ended normally.
STREAM_FAULTS: Mapping[str, ErrorInfo] = {
    "DISCONNECTED": ErrorInfo.of_code(400, "The connection that brought the audio broke off."),
    "MALFORMED": ErrorInfo.of_code(400, "The audio did not come in the form that was agreed."),
    "OVERRUN": ErrorInfo.of_code(400, "More audio came than can be listened to."),
    "NEVER_BEGAN": ErrorInfo.of_code(400, "No audio came in the time allowed."),
    "DOMAIN_GONE": ErrorInfo.of_code(409, "The domain was suspended, or its key can no longer be used."),
    "SERVICE_STOPPED": ErrorInfo.of_code(500, "The service stopped while it listened."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Start and end of the audio that was collected for one purpose so far."""

    started_at: datetime | None = None
    """None: nothing is collected."""
    ended_at: datetime | None = None
    """None: still being collected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReference:
    """The session of a refused call, as far as it is known."""

    session_id: str | None = None
    name: str | None = None
    stream_status: str | None = None

    @classmethod
    def of(cls, name_or_id: str, found: Session | None) -> SessionReference:
        """Return the reference of a name or id. `found` is the session of that name or id, if it exists."""
        if found is not None:
            return cls(session_id=found.session_id, name=found.name, stream_status=found.stream_status)
        return cls(session_id=name_or_id) if name_or_id.startswith("id#") else cls(name=name_or_id)


def stream_event(domain: EventDomain, session: Session, windows: Mapping[str, Window]) -> Event:
    """Build the event of a stream that has started, ended or failed. `windows` is by purpose."""
    error, status = None, STARTED
    if session.stream_status == ENDED:
        error = STREAM_FAULTS.get(session.stream_end_reason or "")
        status = STREAM_ENDED if error is None else STREAM_FAILED
    collecting = Window(started_at=session.stream_started_at)
    authentication = (
        None if session.acceptance_threshold is None else windows.get("AUTHENTICATION", collecting)
    )
    fraud_detection = None if session.risk_threshold is None else windows.get("FRAUD", collecting)
    enrollment = Window(started_at=session.stream_started_at, ended_at=session.enrollment_speech_at)
    members = {
        **_ids(session),
        **_configurations(session),
        "authenticationAudioProgress": _window(authentication),
        "enrollmentAudioProgress": _enrollment_progress(enrollment),
        "fraudDetectionAudioProgress": _window(fraud_detection),
        "streamingConfiguration": {
            "authenticationMinimumSpeechInSeconds": math.ceil(session.authentication_speech_s)
        },
    }
    return _session_event(domain, START_SESSION, "START_SESSION", status, members, session.contact_arn, error)


def stream_refused_event(domain: EventDomain, session: SessionReference, error: ErrorInfo) -> Event:
    """Build the event of a stream that could not be set up."""
    members = {
        **_reference(session),
        "authenticationAudioProgress": _window(None),
        "enrollmentAudioProgress": _enrollment_progress(Window()),
        "fraudDetectionAudioProgress": _window(None),
    }
    return _session_event(domain, START_SESSION, "START_SESSION", STREAM_FAILED, members, None, error)


def update_session_event(domain: EventDomain, session: Session) -> Event:
    """Build the event of a session that was changed."""
    members = {**_ids(session), **_configurations(session)}
    return _session_event(domain, UPDATE_SESSION, "UPDATE_SESSION", SUCCEEDED, members, session.contact_arn)


def update_refused_event(domain: EventDomain, session: SessionReference, error: ErrorInfo) -> Event:
    """Build the event of a session that could not be changed."""
    return _session_event(domain, UPDATE_SESSION, "UPDATE_SESSION", FAILED, _reference(session), None, error)


def evaluate_session_event(
    domain: EventDomain,
    session: Session,
    *,
    authentication: Mapping[str, Any] | None,
    fraud_detection: Mapping[str, Any] | None,
) -> Event:
    """Build the event of new results of a session, in the form of EvaluateSession's response.

    None for what the session is not configured for. Customers' own speaker ids are left out.
    """
    members = {
        **_ids(session),
        "authenticationResult": None if authentication is None else _camel(authentication),
        "fraudDetectionResult": None if fraud_detection is None else _camel(fraud_detection),
        "streamingStatus": session.stream_status,
    }
    return _session_event(
        domain, EVALUATE_SESSION, "EVALUATE_SESSION", SUCCEEDED, members, session.contact_arn
    )


def evaluation_refused_event(domain: EventDomain, session: SessionReference, error: ErrorInfo) -> Event:
    """Build the event of a session that could not be evaluated."""
    members = {**_reference(session), "streamingStatus": session.stream_status}
    return _session_event(domain, EVALUATE_SESSION, "EVALUATE_SESSION", FAILED, members, None, error)


def session_enrollment_event(domain: EventDomain, session: Session) -> Event:
    """Build the event of an enrollment that was requested in a session.

    The Speaker event with the source SESSION has its outcome.
    """
    members = {
        "sessionId": session.session_id,
        "sessionName": session.name,
        "systemAttributes": system_attributes(session.contact_arn),
    }
    return build_event(domain, SESSION_ENROLLMENT, "SESSION_ENROLLMENT_REQUEST", SUBMITTED, members, None)


def session_enrollment_refused_event(
    domain: EventDomain, session: SessionReference, error: ErrorInfo
) -> Event:
    """Build the event of an enrollment in a session that was refused."""
    members = _reference(session)
    return build_event(domain, SESSION_ENROLLMENT, "SESSION_ENROLLMENT_REQUEST", FAILED, members, error)


def _session_event(
    domain: EventDomain,
    type_: str,
    action: str,
    status: str,
    session: Mapping[str, Any],
    contact_arn: str | None,
    error: ErrorInfo | None = None,
) -> Event:
    members = {"session": session, "systemAttributes": system_attributes(contact_arn)}
    return build_event(domain, type_, action, status, members, error)


def _reference(session: SessionReference) -> dict[str, Any]:
    return {"sessionId": session.session_id, "sessionName": session.name}


def _ids(session: Session) -> dict[str, Any]:
    return {
        "generatedSpeakerId": session.speaker_id,
        "sessionId": session.session_id,
        "sessionName": session.name,
    }


def _configurations(session: Session) -> dict[str, Any]:
    authentication = fraud_detection = None
    if session.acceptance_threshold is not None:
        authentication = {"acceptanceThreshold": session.acceptance_threshold}
    if session.risk_threshold is not None:
        fraud_detection = {"riskThreshold": session.risk_threshold, "watchlistId": session.watchlist_id}
    return {"authenticationConfiguration": authentication, "fraudDetectionConfiguration": fraud_detection}


def _enrollment_progress(window: Window) -> dict[str, Any]:
    status = NOT_ENOUGH_SPEECH if window.ended_at is None else "READY_FOR_ENROLLMENT"
    return {**_window(window), "audioAggregationStatus": status}


def _window(window: Window | None) -> dict[str, Any]:
    window = window or Window()
    return {
        "audioAggregationEndedAt": None if window.ended_at is None else time_text(window.ended_at),
        "audioAggregationStartedAt": None if window.started_at is None else time_text(window.started_at),
    }


def _camel(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result of the API with the member names of events."""
    return {
        name[0].lower() + name[1:]: _camel_value(value)
        for name, value in result.items()
        if name not in ("CustomerSpeakerId", "GeneratedSpeakerId")
    }


def _camel_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _camel(value)
    return time_text(value) if isinstance(value, datetime) else value
