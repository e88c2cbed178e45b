"""The log of requests: one line each, with ids, outcome and duration; never parameters or results."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sonant.errors import WireError
from sonant.gateway.request_context import RequestContext
from sonant.logs import note
from sonant.operations.service import Caller

log = logging.getLogger(__name__)

#: W3C Trace Context, version 00 and later ones that begin like it: trace id, id of the caller's span, flags.
_TRACE_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLog:
    """Logs requests: all that failed, and a share of those that succeeded."""

    share: float
    """Of the requests that succeed, from 0 to 1."""
    draw: Callable[[], float] = random.random
    """Draws a number from 0 to 1, for the choice."""

    def write(self, request: RequestContext, seconds: float) -> None:
        """Log a request that has its answer, unless it is one of those that are left out.

        A request that an open page repeats by itself is logged only when it fails.
        """
        if request.error is None and (request.polled or self.draw() >= self.share):
            return
        log_outcome(
            request.request_id,
            None if request.operation is None else request.operation.model.name,
            request.error,
            seconds,
            caller=request.caller,
            source_ip=request.source_ip,
            headers=request.headers,
            own_trace_id=None if request.span is None else request.span.trace_id,
            **resources_of(request),
        )


def log_outcome(
    request_id: str,
    operation: str | None,
    error: WireError | None,
    seconds: float,
    *,
    caller: Caller | None,
    source_ip: str,
    headers: Sequence[tuple[bytes, bytes]],
    own_trace_id: str | None = None,
    **resources: str | None,
) -> None:
    """Write a request's line, as an error when it failed in the service; `resources` are generated ids.

    `own_trace_id` is the trace of the request's own span, which is the caller's if it sent one.
    """
    failed, trace = error is not None and error.http_status >= 500, trace_of(headers)
    note(
        log,
        logging.ERROR if failed else logging.INFO,
        "request",
        request_id=request_id,
        operation=operation,
        status=200 if error is None else error.http_status,
        error=None if error is None else error.code,
        ms=round(1000 * seconds, 1),
        account=None if caller is None else caller.account_id,
        region=None if caller is None else caller.region,
        principal=None if caller is None else caller.principal.arn,
        source_ip=source_ip,
        trace_id=own_trace_id if trace is None else trace[0],
        parent_span_id=None if trace is None else trace[1],
        **resources,
    )


def trace_of(headers: Sequence[tuple[bytes, bytes]]) -> tuple[str, str] | None:
    """Read the trace id and the caller's span id from the header `traceparent`; None without a valid one."""
    value = next((value for name, value in headers if name == b"traceparent"), b"")
    found = _TRACE_PARENT.fullmatch(value)
    if found is None or found[1] == _NO_TRACE or found[2] == _NO_SPAN:
        return None
    return found[1].decode(), found[2].decode()


def resources_of(request: RequestContext) -> dict[str, Any]:
    """Give the generated ids of what the request is about. Its other members may be the customer's own."""
    result = request.result or {}
    return {
        "domain": request.parameters.get("DomainId"),
        "job": (result.get("Job") or {}).get("JobId"),
        "session": (result.get("Session") or {}).get("SessionId"),
    }
