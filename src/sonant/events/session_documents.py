"""What happened in sessions, as events: pure functions of domain, session and facts.

Fields are those of the AWS docs' event schema. Start Session events are told when a stream begins, when it
ends, and when either fails; the others with the call that they are named after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sonant.events.documents import ErrorInfo, Event, build_event, given
from sonant.store.domains import Domain
from sonant.store.sessions import Session

START_SESSION = "VoiceId Start Session Action"
UPDATE_SESSION = "VoiceId Update Session Action"
EVALUATE_SESSION = "VoiceId Evaluate Session Action"
SESSION_ENROLLMENT = "VoiceId Session Speaker Enrollment Action"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """First and last moment of the audio that was gathered for one purpose so far."""

    started_at: datetime | None = None
    ended_at: datetime | None = None
    """None: still being gathered."""


def start_session_event(
    domain: Domain,
    session: Session | None,
    *,
    authentication: Window | None = None,
    fraud_detection: Window | None = None,
    enrollment: Window | None = None,
    error: ErrorInfo | None = None,
    asked: str = "",
) -> Event:
    """A stream began or ended, or did so by a fault (`error`). Without `session` none came into being; then
    `asked` is the name or id that was asked for, here as below."""
    told = _asked(asked) if session is None else _set_up(session)
    told |= given(
        {
            "enrollmentAudioProgress": None
            if session is None or session.enrollment_status is None
            else {"audioAggregationStatus": session.enrollment_status, **_window(enrollment or Window())},
            "authenticationAudioProgress": None if authentication is None else _window(authentication),
            "fraudDetectionAudioProgress": None if fraud_detection is None else _window(fraud_detection),
        }
    )
    return _session_event(domain, START_SESSION, "START_SESSION", told, error)


def update_session_event(
    domain: Domain, session: Session | None, error: ErrorInfo | None = None, asked: str = ""
) -> Event:
    """A session was changed, or was not (`error`); then without `session`."""
    told = _asked(asked) if session is None else _set_up(session)
    return _session_event(domain, UPDATE_SESSION, "UPDATE_SESSION", told, error)


def evaluate_session_event(
    domain: Domain,
    session: Session | None,
    *,
    authentication: Mapping[str, Any] | None = None,
    fraud_detection: Mapping[str, Any] | None = None,
    error: ErrorInfo | None = None,
    asked: str = "",
) -> Event:
    """New results of a session, or why there are none (`error`; then without `session`).

    `authentication` and `fraud_detection` are the results as EvaluateSession answers them; customers' own
    speaker ids in them are not told.
    """
    told = _asked(asked)
    if session is not None:
        told = {**_ids(session), "streamingStatus": session.stream_status}
        told |= given(
            {
                "authenticationResult": None if authentication is None else _camel(authentication),
                "fraudDetectionResult": None if fraud_detection is None else _camel(fraud_detection),
            }
        )
    return _session_event(domain, EVALUATE_SESSION, "EVALUATE_SESSION", told, error)


def session_enrollment_event(
    domain: Domain, session: Session | None, error: ErrorInfo | None = None, asked: str = ""
) -> Event:
    """An enrollment was asked for in a session, or was refused (`error`; then without `session`). What
    becomes of it, the Speaker event tells, with the source SESSION."""
    told = _asked(asked)
    if session is not None:
        told = {"sessionId": session.session_id, "sessionName": session.name}
    return build_event(domain, SESSION_ENROLLMENT, "SESSION_ENROLLMENT_REQUEST", _status(error), told, error)


def _session_event(
    domain: Domain, type_: str, action: str, session: Mapping[str, Any], error: ErrorInfo | None
) -> Event:
    return build_event(domain, type_, action, _status(error), {"session": session or None}, error)


def _status(error: ErrorInfo | None) -> str:
    return "FAILURE" if error else "SUCCESS"


def _asked(name_or_id: str) -> dict[str, Any]:
    if not name_or_id:
        return {}
    return {"sessionId" if name_or_id.startswith("id#") else "sessionName": name_or_id}


def _ids(session: Session) -> dict[str, Any]:
    return given(
        {
            "sessionId": session.session_id,
            "sessionName": session.name,
            "generatedSpeakerId": session.speaker_id,
        }
    )


def _set_up(session: Session) -> dict[str, Any]:
    told = _ids(session)
    if session.acceptance_threshold is not None:
        told["authenticationConfiguration"] = {"acceptanceThreshold": session.acceptance_threshold}
        told["streamingConfiguration"] = {
            "authenticationMinimumSpeechInSeconds": math.ceil(session.authentication_speech_s)
        }
    if session.risk_threshold is not None:
        told["fraudDetectionConfiguration"] = given(
            {"riskThreshold": session.risk_threshold, "watchlistId": session.watchlist_id}
        )
    return told


def _window(window: Window) -> dict[str, str]:
    return {
        name: _time(moment)
        for name, moment in (
            ("audioAggregationStartedAt", window.started_at),
            ("audioAggregationEndedAt", window.ended_at),
        )
        if moment is not None
    }


def _camel(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result of the API in the events' spelling."""
    return {
        name[0].lower() + name[1:]: _told(value)
        for name, value in result.items()
        if value is not None and name != "CustomerSpeakerId" and name != "GeneratedSpeakerId"
    }


def _told(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _camel(value)
    return _time(value) if isinstance(value, datetime) else value


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
