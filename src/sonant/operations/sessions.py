"""Sonant's own StartSession, UpdateSession, DescribeSession, ListSessions, EnrollBySession and EndStream.

EvaluateSession stands in `evaluations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from sonant.errors import Conflict, ResourceNotFound
from sonant.events.documents import ErrorInfo, Event, EventDomain, speaker_event
from sonant.events.session_documents import (
    Asked,
    session_enrollment_event,
    session_enrollment_refused_event,
    stream_refused_event,
    update_refused_event,
    update_session_event,
)
from sonant.operations.idempotency import client_token
from sonant.operations.paging import paged
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.session_setup import set_up
from sonant.retention.sessions import stream_event
from sonant.sessions.calls import EndReason
from sonant.sessions.setup import default_setup
from sonant.sessions.speakers import require_speaker
from sonant.sessions.starting import begin_stream, check_speaker
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import sessions, speakers
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.sessions import Session

NOT_ENOUGH_SPEECH = "NOT_ENOUGH_SPEECH"


@operation
def start_session(service: Service, caller: Caller, request: Request) -> Answer:
    """A new session, or the next stream of one that has ended. The audio comes from a carrier."""
    name: str = request["SessionName"]
    with (
        telling_refusal(service, caller, request["DomainId"], name, stream_refused_event),
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
    ):
        token = client_token(service, connection, caller, "StartSession", request)
        if token.found is None:
            session_id = _start(service, connection, domain, vault, request)
            token.keep(service, connection, session_id)
        else:
            session_id = token.found
        session = require_session(service, connection, domain.domain_id, session_id)
        answer = {"Session": _member(connection, domain, vault, session)}
    service.live.notice(session_id)
    if session.risk_threshold is not None:  # so that the first result need not wait for it
        service.fraud_indexes.prepare(service.database.read, domain, vault)
    return answer


@operation
def update_session(service: Service, caller: Caller, request: Request) -> Answer:
    """Members that are absent stay as they are; a configuration switches on what was off."""
    asked: str = request["SessionNameOrId"]
    with (
        telling_refusal(service, caller, request["DomainId"], asked, update_refused_event),
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
    ):
        session = require_session(service, connection, domain.domain_id, asked)
        _change(service, connection, domain, vault, session, request)
        session = require_session(service, connection, domain.domain_id, session.session_id)
        service.outbox.put(connection, [update_session_event(domain, session)], service.clock())
        answer = {"Session": _member(connection, domain, vault, session)}
    service.live.notice(session.session_id)
    return answer


@operation
def describe_session(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        session = require_session(service, connection, domain.domain_id, request["SessionNameOrId"])
        return {"Session": _member(connection, domain, vault, session)}


@operation
def list_sessions(service: Service, caller: Caller, request: Request) -> Answer:
    """Oldest first; `StreamingStatus` filters exactly."""
    status, now = request.get("StreamingStatus"), service.clock()
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        items, next_token = paged(
            service,
            request,
            ("ListSessions", domain.domain_id, status or ""),
            lambda after, limit: sessions.page(connection, domain.domain_id, status, after, limit, now),
            lambda session: (session.created_at, session.session_id),
        )
        return {
            "SessionSummaries": [_summary(connection, domain, vault, session) for session in items],
            "NextToken": next_token,
        }


@operation
def enroll_by_session(service: Service, caller: Caller, request: Request) -> Answer:
    """Ask for the session's speaker to be enrolled from its audio, once a session.

    Whoever listens to the stream makes the voiceprint; what was not enough when a stream ended begins anew
    with the next one.
    """
    asked: str = request["SessionNameOrId"]
    with (
        telling_refusal(service, caller, request["DomainId"], asked, session_enrollment_refused_event),
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
    ):
        session = require_session(service, connection, domain.domain_id, asked)
        if session.speaker_id is None:
            raise Conflict("SPEAKER_NOT_SET")
        speaker = speakers.find(connection, vault, domain.domain_id, session.speaker_id)
        if speaker is None:
            raise ResourceNotFound("SPEAKER", "The session's speaker has been deleted; set another one.")
        if speaker.status == "OPTED_OUT":
            raise Conflict("SPEAKER_OPTED_OUT")
        if session.enrollment_status is not None:
            raise Conflict("ENROLLMENT_ALREADY_EXISTS")
        now = service.clock()
        sessions.set_enrollment(connection, session.session_id, NOT_ENOUGH_SPEECH, None, now)
        service.outbox.put(connection, [session_enrollment_event(domain, session)], now)
    service.live.notice(session.session_id)
    return {"Status": NOT_ENOUGH_SPEECH}


@operation
def end_stream(service: Service, caller: Caller, request: Request) -> Answer:
    """End the stream; one that has ended already stays as it is."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        session = require_session(service, connection, domain.domain_id, request["SessionNameOrId"])
        if session.active:
            now = service.clock()
            until = now + timedelta(hours=service.settings.live.keep_h)
            sessions.end_stream(
                connection, session.session_id, session.stream, EndReason.REQUESTED, now, until
            )
            session = require_session(service, connection, domain.domain_id, session.session_id)
            service.outbox.put(connection, [stream_event(connection, domain, session)], now)
        answer = {"Session": _member(connection, domain, vault, session)}
    service.live.notice(session.session_id)
    return answer


def fail_enrollments(
    service: Service, connection: Connection, domain: Domain, speaker_ids: Sequence[str], message: str
) -> list[str]:
    """End what sessions do to enroll speakers who are not to be enrolled any more; the sessions' ids, to be
    noticed after the transaction."""
    now = service.clock()
    ended = sessions.fail_enrollments(connection, domain.domain_id, speaker_ids, message, now)
    told = [
        speaker_event(
            domain,
            "ENROLL_SPEAKER",
            speaker_id=session.speaker_id,
            error=ErrorInfo.of_code(409, message),
            source="SESSION",
            source_id=session.session_id,
            contact_arn=session.contact_arn,
        )
        for session in ended
    ]
    service.outbox.put(connection, told, now)
    return [session.session_id for session in ended]


def require_session(service: Service, connection: Connection, domain_id: str, name_or_id: str) -> Session:
    session = sessions.find(connection, domain_id, name_or_id, service.clock())
    if session is None:
        raise ResourceNotFound("SESSION")
    return session


def _start(service: Service, connection: Connection, domain: Domain, vault: Vault, request: Request) -> str:
    """A stream that waits for its audio; the id of its session."""
    now, live = service.clock(), service.settings.live
    known = sessions.find(connection, domain.domain_id, request["SessionName"], now)
    speaker_id = None
    if "SpeakerId" in request:
        speaker_id = _speaker_id(service, connection, domain, vault, request["SpeakerId"])
    begun = begin_stream(
        connection,
        vault,
        domain,
        name=request["SessionName"],
        speaker_id=speaker_id,
        setup=set_up(default_setup(live) if known is None else known.setup, default_setup(live), request),
        quota=service.settings.quotas.active_sessions_per_domain,
        now=now,
        wait=timedelta(seconds=live.idle_s),
        contact_arn=request.get("ContactArn"),
    )
    return begun.session_id


def _change(
    service: Service,
    connection: Connection,
    domain: Domain,
    vault: Vault,
    session: Session,
    request: Request,
) -> None:
    speaker_id = session.speaker_id
    if "SpeakerId" in request:
        speaker_id = _speaker_id(service, connection, domain, vault, request["SpeakerId"])
        check_speaker(session, speaker_id)
    sessions.set_up(
        connection,
        session.session_id,
        speaker_id=speaker_id,
        setup=set_up(session.setup, default_setup(service.settings.live), request),
        now=service.clock(),
        contact_arn=request.get("ContactArn"),
    )


def _speaker_id(
    service: Service, connection: Connection, domain: Domain, vault: Vault, speaker_id: str
) -> str:
    quota = service.settings.quotas.speakers_per_domain
    return require_speaker(connection, vault, domain, speaker_id, quota, service.clock()).speaker_id


def telling_refusal(
    service: Service,
    caller: Caller,
    domain_id: str,
    asked: str,
    told: Callable[[EventDomain, Asked, ErrorInfo], Event],
) -> AbstractContextManager[None]:
    """Tell of a refusal about the session `asked`, a name or id; see `Service.telling_failure`."""

    def event(connection: Connection, domain: EventDomain, error: ErrorInfo) -> Event:
        found = None
        if isinstance(domain, Domain):  # else the sessions are another account's
            found = sessions.find(connection, domain_id, asked, service.clock())
        return told(domain, Asked.of(asked, found), error)

    return service.telling_failure(caller, domain_id, event)


def _summary(connection: Connection, domain: Domain, vault: Vault, session: Session) -> dict[str, Any]:
    speaker = None
    if session.speaker_id is not None:
        speaker = speakers.find(connection, vault, domain.domain_id, session.speaker_id)
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
    return {
        **_summary(connection, domain, vault, session),
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
        "StreamingConfiguration": {
            "AuthenticationMinimumSpeechInSeconds": math.ceil(session.authentication_speech_s)
        },
    }
