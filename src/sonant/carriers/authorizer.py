"""Who may bring audio: the signature of a request, the right `voiceid:StreamAudio` on the domain, and the
audit record of every stream that was begun or refused.

Everything here asks the store: call it in a thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from sonant.audit.record import AuditedOperation
from sonant.audit.redaction import HIDDEN
from sonant.carriers.parts import Stream, StreamOpener
from sonant.carriers.request import StreamParameters, StreamRequest
from sonant.errors import DatabaseUnavailable, InternalServer, WireError
from sonant.gateway.authorization import authorize
from sonant.gateway.models import unmodelled
from sonant.gateway.recording import Recorder
from sonant.gateway.signature import SignedRequest, Verifier
from sonant.operations.service import Caller, Service
from sonant.sessions.calls import Call, EndReason
from sonant.storage.repositories import domains
from sonant.storage.repositories.access import Principal

log = logging.getLogger(__name__)

#: Not in the service model, which has no streams: as policies and the audit trail know it.
STREAM_AUDIO = unmodelled("StreamAudio")
T = TypeVar("T")


def _shown(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name[0].lower() + name[1:]: HIDDEN if name == "CustomerSpeakerId" else value
        for name, value in parameters.items()
    }


AUDITED_STREAMS = {
    STREAM_AUDIO.target: AuditedOperation(
        name=STREAM_AUDIO.name, read_only=False, request=_shown, response=_shown
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedStream:
    """A stream that was opened for a signed request."""

    stream: Stream
    asked: StreamParameters
    account_id: str


class StreamAuthorizer:
    """Opens streams for those who may, and writes down who did."""

    def __init__(
        self,
        service: Service,
        verifier: Verifier,
        intake: StreamOpener,
        check: Callable[[object], dict[str, Any]],
        recorder: Recorder | None,
    ) -> None:
        """`check` is a compiled input shape with DomainId and SessionNameOrId."""
        self._service, self._verifier, self._intake = service, verifier, intake
        self._check, self._recorder = check, recorder

    @property
    def clock(self) -> Callable[[], datetime]:
        return self._service.clock

    def open_signed(
        self, request: StreamRequest, admit: Callable[[str], None], declared_sha256: bytes | None = None
    ) -> OpenedStream:
        """`admit` is asked for a place for the account when it is known. Raises WireError."""
        note = _Note(request=request)

        def begin() -> OpenedStream:
            credential, region = self._verifier.verify(
                SignedRequest(
                    method=request.method,
                    raw_path=request.raw_path,
                    query_string=request.query,
                    headers=request.headers,
                    body=b"",
                ),
                self._service.clock(),
                declared_sha256,
            )
            note.caller = caller = Caller(principal=credential.principal, region=region)
            note.access_key_id = credential.access_key_id
            asked = StreamParameters.parse(request.parameters(), self._check)
            note.parameters = {"DomainId": asked.domain_id, "SessionNameOrId": asked.session}
            self._authorize(request, caller, note.parameters)
            admit(caller.account_id)
            call = Call(
                account_id=caller.account_id,
                region=caller.region,
                domain_id=asked.domain_id,
                session=asked.session,
            )
            stream = note.stream = self._open(call)
            return OpenedStream(stream=stream, asked=asked, account_id=caller.account_id)

        return self._noting(note, begin)

    def for_carrier(self, name: str, account_id: str, request: StreamRequest) -> StreamOpener:
        """An intake for a carrier that has shown its password: it opens what its settings allow."""
        arn = f"arn:aws:iam::{account_id}:carrier/{name}"
        caller = Caller(
            principal=Principal(arn=arn, account_id=account_id, policies=(), tags={}),
            region=self._service.settings.region,
        )
        return _CarrierIntake(self, request, caller)

    def open_for(self, request: StreamRequest, caller: Caller, call: Call) -> Stream:
        note = _Note(request=request, caller=caller)
        note.parameters = {"DomainId": call.domain_id, "SessionNameOrId": call.session}
        if call.speaker_id is not None:
            note.parameters["CustomerSpeakerId"] = call.speaker_id

        def begin() -> Stream:
            self._check({"DomainId": call.domain_id, "SessionNameOrId": call.session})
            # Carriers name no Region.
            with self._service.database.read() as connection:
                region = domains.region_of(connection, call.domain_id) or caller.region
            note.caller = replace(caller, region=region)
            stream = note.stream = self._open(replace(call, region=region))
            return stream

        return self._noting(note, begin)

    def _authorize(self, request: StreamRequest, caller: Caller, parameters: dict[str, Any]) -> None:
        service = self._service
        known = authorize(
            STREAM_AUDIO,
            parameters,
            caller,
            service,
            source_ip=request.source_ip or None,
            secure=request.secure,
            now=service.clock(),
        )
        with service.database.read() as connection:
            domain = service.require_domain(connection, known, parameters["DomainId"])
        known.require("kms:Decrypt", domain.kms_key_arn)

    def _open(self, call: Call) -> Stream:
        if self._recorder is not None:
            self._recorder.require(STREAM_AUDIO)
        return self._intake.open(call)

    def _noting(self, note: _Note, begin: Callable[[], T]) -> T:
        """Do it, and write down how it ended. Raises WireError."""
        begun_s = time.perf_counter()
        error: WireError | None = None
        result: T | None = None
        try:
            result = begin()
        except WireError as fault:
            error = fault
        except DatabaseUnavailable as fault:
            log.error("request %s failed: %s", note.request.request_id, fault)
            error = InternalServer()
        except Exception:
            log.exception("request %s failed", note.request.request_id)
            error = InternalServer()
        try:
            self._record(note, error, time.perf_counter() - begun_s)
        except WireError as fault:
            error = fault
        if error is not None or result is None:
            if note.stream is not None:
                note.stream.end(EndReason.SERVICE_STOPPED)
            raise error or InternalServer()
        return result

    def _record(self, note: _Note, error: WireError | None, seconds: float) -> None:
        if self._recorder is None:
            return
        self._recorder.measure(STREAM_AUDIO, seconds, error)
        self._recorder.record(
            STREAM_AUDIO,
            request_id=note.request.request_id,
            source_ip=note.request.source_ip,
            headers=note.request.headers,
            query=note.request.query,
            caller=note.caller,
            access_key_id=note.access_key_id,
            parameters=note.parameters,
            result=None if note.stream is None else {"SessionId": note.stream.session_id},
            error=error,
        )


@dataclass(slots=True, kw_only=True)
class _Note:
    """What is known of a request, as far as it came."""

    request: StreamRequest
    caller: Caller | None = None
    access_key_id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    stream: Stream | None = None


@dataclass(frozen=True, slots=True)
class _CarrierIntake:
    gate: StreamAuthorizer
    request: StreamRequest
    caller: Caller

    def open(self, call: Call) -> Stream:
        return self.gate.open_for(self.request, self.caller, call)
