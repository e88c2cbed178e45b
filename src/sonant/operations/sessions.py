"""Sonant's own StartSession, UpdateSession, DescribeSession, ListSessions, EnrollBySession, RestartStream and
EndStream.

EvaluateSession is in `evaluations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from sonant.errors import Conflict, ResourceNotFound, Validation
from sonant.events.documents import Event, EventDomain
from sonant.events.error_info import ErrorInfo
from sonant.events.session_documents import (
    SessionReference,
    session_enrollment_event,
    session_enrollment_refused_event,
    stream_refused_event,
    update_refused_event,
    update_session_event,
)
from sonant.operations.idempotency import client_token, note_use, require_first_use
from sonant.operations.paging import paged
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.session_setup import (
    merge_setup,
    require_named_watchlist,
    require_tight_thresholds,
)
from sonant.operations.stored_decisions import latest_decisions
from sonant.retention.rules import session_stored_for
from sonant.retention.sessions import stream_event
from sonant.sessions.calls import EndReason
from sonant.sessions.records import REFUSED
from sonant.sessions.starting import (
    default_setup,
    require_speaker,
    require_speaker_unchanged,
    start_stream,
)
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import (
    consents,
    erasure,
    session_samples,
    session_streams,
    sessions,
    speaker_groups,
    speakers,
)
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.sessions import Session
from sonant.storage.repositories.speakers import Speaker

NOT_ENOUGH_SPEECH = "NOT_ENOUGH_SPEECH"


@operation
def start_session(service: Service, caller: Caller, request: Request) -> Answer:
    """Start a session, or the next stream of a session whose stream has ended. A carrier brings the audio."""
    name: str = request["SessionName"]
    with (
        refusal_events(service, caller, request["DomainId"], name, stream_refused_event),
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
    ):
        token = client_token(service, connection, caller, "StartSession", request)
        if token.found is None:
            require_tight_thresholds(service, caller, domain, request)
            session_id = _start(service, caller, connection, domain, vault, request)
            token.keep(service, connection, session_id)
        else:
            session_id = token.found
        session = require_session(service, connection, domain.domain_id, session_id)
        answer = {"Session": _member(connection, domain, vault, session)}
    service.live.session_changed(session_id)
    if session.risk_threshold is not None:  # so that the first result does not wait for it
        service.fraud_indexes.prepare(service.database.read, domain, vault)
    return answer


@operation
def update_session(service: Service, caller: Caller, request: Request) -> Answer:
    """Change a session's set-up. Absent members stay as they are; a configuration enables what was off."""
    name_or_id: str = request["SessionNameOrId"]
    with (
        refusal_events(service, caller, request["DomainId"], name_or_id, update_refused_event),
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
    ):
        session = require_session(service, connection, domain.domain_id, name_or_id)
        require_tight_thresholds(service, caller, domain, request)
        _change(service, caller, connection, domain, vault, session, request)
        session = require_session(service, connection, domain.domain_id, session.session_id)
        service.outbox.put(connection, [update_session_event(domain, session)], service.clock())
        answer = {"Session": _member(connection, domain, vault, session)}
    service.live.session_changed(session.session_id)
    return answer


@operation
def describe_session(service: Service, caller: Caller, request: Request) -> Answer:
    """Describe a session, with its latest decisions."""
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        session = require_session(service, connection, domain.domain_id, request["SessionNameOrId"])
        described = _member(connection, domain, vault, session)
        return {"Session": described | latest_decisions(connection, session.session_id)}


@operation
def list_sessions(service: Service, caller: Caller, request: Request) -> Answer:
    """List sessions, by default the oldest first; all other members select."""
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        choice = _choice(service, connection, domain, vault, request)
        items, next_token = paged(
            service,
            request,
            ("ListSessions", domain.domain_id, *choice.scope),
            lambda after, limit: sessions.page(connection, domain.domain_id, choice, after, limit),
            lambda session: (session.created_at, session.session_id),
        )
        named = {session.speaker_id for session in items if session.speaker_id is not None}
        known = speaker_groups.find_by_ids(connection, domain.domain_id, named)
        decisions = session_samples.decisions(connection, [one.session_id for one in items])
        return {
            "SessionSummaries": [
                _summary(session, known.get(session.speaker_id or ""), vault)
                | _decisions(decisions.get(session.session_id, {}))
                for session in items
            ],
            "NextToken": next_token,
        }


def _choice(
    service: Service, connection: Connection, domain: Domain, vault: Vault, request: Request
) -> sessions.SessionChoice:
    """Read which sessions a listing asks for. Raises ResourceNotFound SPEAKER."""
    speaker_id = request.get("SpeakerId")
    if speaker_id is not None and not speaker_id.startswith("id#"):
        speaker = speakers.find(connection, vault, domain.domain_id, speaker_id)
        if speaker is None:
            raise ResourceNotFound("SPEAKER")
        speaker_id = speaker.speaker_id
    return sessions.SessionChoice(
        now=service.clock(),
        status=request.get("StreamingStatus"),
        speaker_id=speaker_id,
        created_after=request.get("CreatedAfter"),
        created_before=request.get("CreatedBefore"),
        authentication=request.get("AuthenticationDecision"),
        fraud=request.get("FraudDetectionDecision"),
        fraud_reason=request.get("FraudDetectionReason"),
        newest_first=request.get("SortOrder") == "DESCENDING",
    )


def _decisions(found: Mapping[str, session_samples.StoredDecision]) -> dict[str, Any]:
    authentication = found.get(session_samples.AUTHENTICATION)
    fraud = found.get(session_samples.FRAUD)
    return {
        "AuthenticationDecision": None if authentication is None else authentication.decision,
        "FraudDetectionDecision": None if fraud is None else fraud.decision,
        "FraudDetectionReasons": None if fraud is None else list(fraud.reasons) or None,
    }


@operation
def enroll_by_session(service: Service, caller: Caller, request: Request) -> Answer:
    """Request the enrollment of the session's speaker from its audio, once a session.

    The process that holds the stream makes the voiceprint. Speech that was not enough when a stream ended is
    gathered anew in the next one.
    """
    name_or_id: str = request["SessionNameOrId"]
    with (
        refusal_events(service, caller, request["DomainId"], name_or_id, session_enrollment_refused_event),
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
    ):
        session = require_session(service, connection, domain.domain_id, name_or_id)
        if session.speaker_id is None:
            raise Conflict("SPEAKER_NOT_SET")
        speaker = speakers.find(connection, vault, domain.domain_id, session.speaker_id)
        if speaker is None:
            raise ResourceNotFound("SPEAKER", "The session's speaker has been deleted; set another one.")
        if speaker.status == "OPTED_OUT":
            raise Conflict("SPEAKER_OPTED_OUT")
        if not consents.may_enroll(connection, domain, speaker.speaker_id, service.clock()):
            raise Conflict("CONSENT_MISSING")
        if session.enrollment_status is not None:
            raise Conflict("ENROLLMENT_ALREADY_EXISTS")
        now = service.clock()
        sessions.set_enrollment(connection, session.session_id, NOT_ENOUGH_SPEECH, None, now)
        service.outbox.put(connection, [session_enrollment_event(domain, session)], now)
    service.live.session_changed(session.session_id)
    return {"Status": NOT_ENOUGH_SPEECH}


@operation
def restart_stream(service: Service, caller: Caller, request: Request) -> Answer:
    """Start the next stream over the connection of the current one, which begins anew without speech."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        session = require_session(service, connection, domain.domain_id, request["SessionNameOrId"])
        if session.stream_status != sessions.ONGOING:
            raise Validation("The session has no ongoing stream; StartSession starts the next one.")
        now = service.clock()
        erasure.forget_session(connection, vault, session.session_id)
        session_streams.restart(connection, session, now)
        session = require_session(service, connection, domain.domain_id, session.session_id)
        service.outbox.put(connection, [stream_event(connection, domain, session)], now)
        answer = {"Session": _member(connection, domain, vault, session)}
    service.live.session_changed(session.session_id)
    return answer


@operation
def end_stream(service: Service, caller: Caller, request: Request) -> Answer:
    """End the stream; a stream that has ended already stays as it is."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        session = require_session(service, connection, domain.domain_id, request["SessionNameOrId"])
        if session.active:
            now = service.clock()
            until = now + session_stored_for(service.settings)
            session_streams.end(
                connection, session.session_id, session.stream, EndReason.REQUESTED, now, until
            )
            session = require_session(service, connection, domain.domain_id, session.session_id)
            service.outbox.put(connection, [stream_event(connection, domain, session)], now)
        answer = {"Session": _member(connection, domain, vault, session)}
    service.live.session_changed(session.session_id)
    return answer


def require_session(service: Service, connection: Connection, domain_id: str, name_or_id: str) -> Session:
    """Find a session. Raises ResourceNotFound SESSION."""
    session = sessions.find(connection, domain_id, name_or_id, service.clock())
    if session is None:
        raise ResourceNotFound("SESSION")
    return session


def _start(
    service: Service,
    caller: Caller,
    connection: Connection,
    domain: Domain,
    vault: Vault,
    request: Request,
) -> str:
    """Start a stream that waits for its audio; return its session's id."""
    now, live = service.clock(), service.settings.live
    previous = sessions.find(connection, domain.domain_id, request["SessionName"], now)
    default, speaker_id = default_setup(live), None
    require_named_watchlist(connection, domain, request)
    if "SpeakerId" in request:
        speaker_id = _speaker_id(service, caller, connection, domain, vault, request["SpeakerId"])
    started = start_stream(
        connection,
        vault,
        domain,
        name=request["SessionName"],
        speaker_id=speaker_id,
        setup=merge_setup(default if previous is None else previous.setup, default, request),
        quota=service.settings.quotas.active_sessions_per_domain,
        now=now,
        wait=timedelta(seconds=live.idle_s),
        contact_arn=request.get("ContactArn"),
    )
    return started.session_id


def _change(
    service: Service,
    caller: Caller,
    connection: Connection,
    domain: Domain,
    vault: Vault,
    session: Session,
    request: Request,
) -> None:
    speaker_id = session.speaker_id
    require_named_watchlist(connection, domain, request)
    if "SpeakerId" in request:
        speaker_id = _speaker_id(service, caller, connection, domain, vault, request["SpeakerId"])
        require_speaker_unchanged(session, speaker_id)
        _begin_anew_after_refused(connection, domain, vault, session, speaker_id)
    sessions.configure(
        connection,
        session.session_id,
        speaker_id=speaker_id,
        setup=merge_setup(session.setup, default_setup(service.settings.live), request),
        now=service.clock(),
        contact_arn=request.get("ContactArn"),
    )


def _begin_anew_after_refused(
    connection: Connection, domain: Domain, vault: Vault, session: Session, speaker_id: str
) -> None:
    """Have the speech of a stream collected anew when its speaker, who may not be authenticated, changes."""
    if session.speaker_id is None or session.speaker_id == speaker_id:
        return
    if speakers.status_of(connection, domain.domain_id, session.speaker_id) in REFUSED:
        erasure.forget_session(connection, vault, session.session_id)


def _speaker_id(
    service: Service,
    caller: Caller,
    connection: Connection,
    domain: Domain,
    vault: Vault,
    speaker_id: str,
) -> str:
    speaker = require_speaker(
        connection,
        vault,
        domain,
        speaker_id,
        service.settings.quotas.speakers_per_domain,
        service.clock(),
        lambda: require_first_use(service, connection, caller),
    )
    note_use(service, connection, caller)
    return speaker.speaker_id


def refusal_events(
    service: Service,
    caller: Caller,
    domain_id: str,
    name_or_id: str,
    build_event: Callable[[EventDomain, SessionReference, ErrorInfo], Event],
) -> AbstractContextManager[None]:
    """Send an event when a request about a session is refused; see `Service.failure_events`."""

    def event(connection: Connection, domain: EventDomain, error: ErrorInfo) -> Event:
        found = None
        if isinstance(domain, Domain):  # else the domain is another account's
            found = sessions.find(connection, domain_id, name_or_id, service.clock())
        return build_event(domain, SessionReference.of(name_or_id, found), error)

    return service.failure_events(caller, domain_id, event)


def _summary(session: Session, speaker: Speaker | None, vault: Vault) -> dict[str, Any]:
    """Build a session as a list shows it; `speaker` is the one it names, None for one who is deleted."""
    return {
        "CreatedAt": session.created_at,
        "CustomerSpeakerId": None if speaker is None else speaker.customer_id(vault),
        "DomainId": session.domain_id,
        "GeneratedSpeakerId": session.speaker_id,
        "SessionId": session.session_id,
        "SessionName": session.name,
        "StreamEndReason": session.stream_end_reason,
        "StreamEndedAt": session.stream_ended_at,
        "StreamNumber": session.stream,
        "StreamStartedAt": session.stream_started_at,
        "StreamingStatus": session.stream_status,
        "UpdatedAt": session.updated_at,
    }


def _member(connection: Connection, domain: Domain, vault: Vault, session: Session) -> dict[str, Any]:
    speaker = None
    if session.speaker_id is not None:
        speaker = speakers.find(connection, vault, domain.domain_id, session.speaker_id)
    return {
        **_summary(session, speaker, vault),
        "ContactArn": session.contact_arn,
        "AuthenticationConfiguration": None
        if session.acceptance_threshold is None
        else {"AcceptanceThreshold": session.acceptance_threshold},
        "EnrollmentRequestDetails": None
        if session.enrollment_status is None
        else {"Status": session.enrollment_status, "Message": session.enrollment_message},
        "FraudDetectionConfiguration": None
        if session.risk_threshold is None
        else {
            "RiskThreshold": session.risk_threshold,
            "WatchlistId": session.watchlist_id or domain.default_watchlist_id,
        },
        "HeardSeconds": round(session.heard_s, 2),
        "NetSpeechSeconds": round(session.net_speech_s, 2),
        "SpeechReasons": list(session.speech_reasons) or None,
        "StreamingConfiguration": {
            "AuthenticationMinimumSpeechInSeconds": math.ceil(session.authentication_speech_s)
        },
    }
