"""Records of API requests: the audit trail and the metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sonant.audit.record import AuditedOperation, Record
from sonant.audit.redaction import compile_redaction
from sonant.audit.trail import Trail
from sonant.errors import GatewayError, WireError
from sonant.gateway.models import Operation, ServiceModels
from sonant.metrics import CallMetrics
from sonant.operations.service import Caller

_KEY_IN_HEADER = re.compile(rb"Credential=([A-Za-z0-9_-]{1,128})/")
_KEY_IN_QUERY = re.compile(rb"X-Amz-Credential=([A-Za-z0-9_-]{1,128})(?:/|%2F)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """Records requests of known operations in the audit trail and the metrics; each may be absent."""

    audited: Mapping[str, AuditedOperation]
    """By target."""
    clock: Callable[[], datetime]
    trail: Trail | None = None
    calls: CallMetrics | None = None

    def require(self, operation: Operation) -> None:
        """Check before a change that it can be recorded. Raises InternalServer if it cannot."""
        if self.trail is not None and not operation.readonly:
            self.trail.require()

    def measure(self, operation: Operation, seconds: float, error: WireError | None) -> None:
        """Count a request and its duration in the metrics."""
        if self.calls is not None:
            self.calls.observe(operation.name, seconds, error)

    def count_refusal(self, carrier: str, reason: str) -> None:
        """Count a refused stream of a carrier in the metrics; `reason` is a fixed word."""
        if self.calls is not None:
            self.calls.count_refusal(carrier, reason)

    def record(
        self,
        operation: Operation,
        *,
        request_id: str,
        source_ip: str,
        headers: Sequence[tuple[bytes, bytes]],
        query: bytes,
        caller: Caller | None,
        access_key_id: str,
        parameters: Mapping[str, Any],
        result: Mapping[str, Any] | None,
        error: WireError | None,
        unchanged: bool = False,
        polled: bool = False,
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Add a request to the audit trail.

        `access_key_id` of an unknown caller is the claimed one; if empty it is read from the headers or the
        query. `unchanged`: the request changed nothing, although its operation may. `polled`: an open page
        repeats it by itself. `details` are further facts. Raises InternalServer when a required record cannot
        be written.
        """
        if self.trail is None:
            return
        if caller is None:
            if not isinstance(error, GatewayError):
                return  # an internal error before the caller was identified; it is in the log
            access_key_id = access_key_id or claimed_key(headers, query)
        arn = None if caller is None else caller.principal.arn
        self.trail.add(
            Record(
                operation=self.audited[operation.target],
                time=self.clock(),
                request_id=request_id,
                source_ip=source_ip,
                headers=headers,
                principal_arn=arn,
                account_id=None if caller is None else caller.account_id,
                access_key_id=access_key_id,
                region=None if caller is None else caller.region,
                parameters=parameters,
                response=result,
                error=error,
                unchanged=unchanged,
                polled=polled,
                details=details or {},
            )
        )

    def record_refusal(
        self,
        operation: Operation,
        *,
        request_id: str,
        source_ip: str,
        headers: Sequence[tuple[bytes, bytes]],
        query: bytes,
        error: WireError,
        details: Mapping[str, str],
        summed: tuple[int, datetime] | None,
    ) -> None:
        """Add a connection that was refused before its caller was known, or the sum of several, with their
        number and the time of the first. Raises InternalServer when it cannot be recorded."""
        if self.trail is None:
            return
        self.trail.add(
            Record(
                operation=self.audited[operation.target],
                time=self.clock(),
                request_id=request_id,
                source_ip=source_ip,
                headers=headers,
                principal_arn=None,
                account_id=None,
                access_key_id=claimed_key(headers, query),
                parameters={},
                response=None,
                error=error,
                details=details,
                summed=summed,
            )
        )


def audited_operations(models: ServiceModels) -> dict[str, AuditedOperation]:
    """Compile all operations for the audit trail, by target."""
    return {target: _audited(operation) for target, operation in models.operations.items()}


def claimed_key(headers: Sequence[tuple[bytes, bytes]], query: bytes) -> str:
    """Return the access key id that a request names, unverified; empty if it names none."""
    authorization = next((value for name, value in headers if name == b"authorization"), b"")
    found = _KEY_IN_HEADER.search(authorization[:1024]) or _KEY_IN_QUERY.search(query[:16384])
    return "" if found is None else found[1].decode("ascii")


def _audited(operation: Operation) -> AuditedOperation:
    return AuditedOperation(
        name=operation.name,
        read_only=operation.readonly,
        request=_view(operation.input_shape),
        response=_view(operation.output_shape),
    )


def _view(shape: Any) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    return (lambda _value: {}) if shape is None else compile_redaction(shape)
