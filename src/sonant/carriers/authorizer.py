"""Authorize streams: the signature of a request, the right `sonant:StreamAudio` on the domain, and the audit
record of every stream that was opened or refused.

Everything here asks the store: call it in a thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from sonant.audit.record import AuditedOperation
from sonant.audit.redaction import HIDDEN
from sonant.carriers.relay import OpenStream
from sonant.carriers.request import StreamParameters, StreamRequest
from sonant.errors import DatabaseUnavailable, IntegrityFault, InternalServer, SealBroken, WireError
from sonant.gateway.authorization import authorize
from sonant.gateway.models import unmodelled
from sonant.gateway.recording import Recorder
from sonant.gateway.request_log import log_outcome
from sonant.gateway.signature import SignedRequest, Verifier
from sonant.operations.service import Caller, Service
from sonant.sessions.calls import Call, EndReason, StreamGrant
from sonant.sessions.stream import Stream
from sonant.storage.repositories import domains
from sonant.storage.repositories.access import Principal

log = logging.getLogger(__name__)

#: The operation's name in policies and in the audit trail; the service model has no streams.
STREAM_AUDIO = unmodelled("StreamAudio")
#: Names of the streams that are no carrier's, in metrics and logs.
NATIVE, UPLOAD = "websocket", "upload"
T = TypeVar("T")


def _audit_members(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name[0].lower() + name[1:]: HIDDEN if name == "CustomerSpeakerId" else value
        for name, value in parameters.items()
    }


AUDITED_STREAMS = {
    STREAM_AUDIO.target: AuditedOperation(
        name=STREAM_AUDIO.name, read_only=False, request=_audit_members, response=_audit_members
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedStream:
    """A stream that was opened for a signed request."""

    stream: Stream
    parameters: StreamParameters
    account_id: str


class StreamAuthorizer:
    """Opens streams for authorized requests and records them in the audit trail."""

    def __init__(
        self,
        service: Service,
        verifier: Verifier,
        open_stream: OpenStream,
        check: Callable[[object], dict[str, Any]],
        recorder: Recorder | None,
    ) -> None:
        """`check` is a compiled input shape with DomainId and SessionNameOrId."""
        self._service, self._verifier, self._open_stream = service, verifier, open_stream
        self._check, self._recorder = check, recorder

    @property
    def clock(self) -> Callable[[], datetime]:
        """The service's clock."""
        return self._service.clock

    def open_signed(
        self,
        request: StreamRequest,
        admit: Callable[[str], None],
        identified: Callable[[], None],
        declared_sha256: bytes | None = None,
    ) -> OpenedStream:
        """Verify a signed request and open its stream.

        `identified` is called once the caller is known: from then on every outcome is recorded here, before
        it the caller of this function does it. `admit` is called with the account, and may raise. Raises
        WireError.
        """
        entry = _AuditEntry(request=request, carrier=NATIVE if declared_sha256 is None else UPLOAD)

        def open_it() -> OpenedStream:
            credential, region, _ = self._verifier.verify(
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
            entry.caller = caller = Caller(principal=credential.principal, region=region)
            entry.access_key_id = credential.access_key_id
            identified()
            parameters = StreamParameters.parse(request.parameters(), self._check)
            entry.parameters = {
                "DomainId": parameters.domain_id,
                "SessionNameOrId": parameters.session,
            }
            self._authorize(request, caller, entry.parameters)
            admit(caller.account_id)
            call = Call(
                account_id=caller.account_id,
                region=caller.region,
                domain_id=parameters.domain_id,
                session=parameters.session,
                grant=_grant(request, parameters),
            )
            stream = entry.stream = self._open(call)
            return OpenedStream(stream=stream, parameters=parameters, account_id=caller.account_id)

        return self._audited(entry, open_it)

    def carrier_opener(self, name: str, account_id: str, request: StreamRequest) -> OpenStream:
        """Return the function that opens streams for an authenticated carrier's connection."""
        arn = f"arn:aws:iam::{account_id}:carrier/{name}"
        caller = Caller(
            principal=Principal(arn=arn, account_id=account_id, policies=(), tags={}),
            region=self._service.settings.region,
        )
        return partial(self._open_for_carrier, name, request, caller)

    def record_refusal(
        self,
        request: StreamRequest,
        carrier: str,
        reason: str,
        error: WireError,
        summed: tuple[int, datetime] | None,
    ) -> None:
        """Record a connection that was refused before a stream could be opened for it."""
        if self._recorder is None:
            return
        try:
            self._recorder.record_refusal(
                STREAM_AUDIO,
                request_id=request.request_id,
                source_ip=request.source_ip,
                headers=request.headers,
                query=request.query,
                error=error,
                details={"carrier": carrier, "reason": reason},
                summed=summed,
            )
        except WireError as fault:
            log.error("a refused connection could not be recorded: %s", fault.message or fault.code)

    def count_refusal(self, carrier: str, reason: str) -> None:
        """Count a refused stream in the metrics."""
        if self._recorder is not None:
            self._recorder.count_refusal(carrier, reason)

    def _open_for_carrier(self, name: str, request: StreamRequest, caller: Caller, call: Call) -> Stream:
        entry = _AuditEntry(request=request, carrier=name, caller=caller)
        entry.parameters = {"DomainId": call.domain_id, "SessionNameOrId": call.session}
        if call.speaker_id is not None:
            entry.parameters["CustomerSpeakerId"] = call.speaker_id

        def open_it() -> Stream:
            self._check({"DomainId": call.domain_id, "SessionNameOrId": call.session})
            # Carriers name no Region.
            with self._service.database.read() as connection:
                region = domains.region_of(connection, call.domain_id) or caller.region
            entry.caller = replace(caller, region=region)
            stream = entry.stream = self._open(replace(call, region=region))
            return stream

        try:
            return self._audited(entry, open_it)
        except WireError as error:
            address, why = request.source_ip or "an unknown address", error.message or error.code
            log.warning("a call of %s from %s was refused: %s", name, address, why)
            raise

    def _authorize(self, request: StreamRequest, caller: Caller, parameters: dict[str, Any]) -> None:
        service = self._service
        authorized = authorize(
            STREAM_AUDIO,
            parameters,
            caller,
            service,
            source_ip=request.source_ip or None,
            secure=request.secure,
            now=service.clock(),
        )
        with service.database.read() as connection:
            domain = service.require_domain(connection, authorized, parameters["DomainId"])
        authorized.require("kms:Decrypt", domain.kms_key_arn, domain_arn=domain.arn)

    def _open(self, call: Call) -> Stream:
        if self._recorder is not None:
            self._recorder.require(STREAM_AUDIO)
        return self._open_stream(call)

    def _audited(self, entry: _AuditEntry, open_it: Callable[[], T]) -> T:
        """Open a stream and record the outcome. Raises WireError."""
        started_s = time.perf_counter()
        error: WireError | None = None
        result: T | None = None
        try:
            result = open_it()
        except WireError as fault:
            error = fault
        except (DatabaseUnavailable, IntegrityFault, SealBroken) as fault:
            log.error("request %s failed: %s", entry.request.request_id, fault)
            error = InternalServer()
        except Exception:
            log.exception("request %s failed", entry.request.request_id)
            error = InternalServer()
        try:
            self._record(entry, error, time.perf_counter() - started_s)
        except WireError as fault:
            error = fault
        if error is not None or result is None:
            if entry.stream is not None:
                entry.stream.end(EndReason.SERVICE_STOPPED)
            raise error or InternalServer()
        return result

    def _record(self, entry: _AuditEntry, error: WireError | None, seconds: float) -> None:
        log_outcome(
            entry.request.request_id,
            STREAM_AUDIO.name,
            error,
            seconds,
            caller=entry.caller,
            source_ip=entry.request.source_ip,
            headers=entry.request.headers,
            # Of a request that was refused, what it names may be anything.
            domain=None if entry.stream is None else entry.parameters["DomainId"],
            session=None if entry.stream is None else entry.stream.session_id,
        )
        if self._recorder is None:
            return
        self._recorder.measure(STREAM_AUDIO, seconds, error)
        if entry.caller is None:
            return  # see `open_signed`
        if error is not None:
            self._recorder.count_refusal(entry.carrier, error.code)
        self._recorder.record(
            STREAM_AUDIO,
            request_id=entry.request.request_id,
            source_ip=entry.request.source_ip,
            headers=entry.request.headers,
            query=entry.request.query,
            caller=entry.caller,
            access_key_id=entry.access_key_id,
            parameters=entry.parameters,
            result=None if entry.stream is None else {"SessionId": entry.stream.session_id},
            error=error,
        )


def _grant(request: StreamRequest, parameters: StreamParameters) -> StreamGrant | None:
    """Return what a presigned URL is good for: one stream. A signature in headers lasts for minutes only."""
    signature = request.query_signature
    if signature is None:
        return None
    return StreamGrant.of("presigned", signature, parameters.stream_number)


@dataclass(slots=True, kw_only=True)
class _AuditEntry:
    """What is known of a request when its processing ends."""

    request: StreamRequest
    carrier: str
    """Its name in metrics and logs."""
    caller: Caller | None = None
    access_key_id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    stream: Stream | None = None
