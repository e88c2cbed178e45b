"""The span of each request: named by its operation, under the caller's own trace where there is one."""

from __future__ import annotations

from sonant.gateway.request_context import GatewayParts, RequestContext
from sonant.gateway.request_log import resources_of

_CONTEXT_HEADERS = (b"traceparent", b"tracestate")


def begin_span(parts: GatewayParts, request: RequestContext) -> None:
    """Begin the span of a request, if there are traces. It goes on with the trace of the headers."""
    if parts.tracer is None:
        return
    parent = {
        name.decode(): value.decode("latin-1") for name, value in request.headers if name in _CONTEXT_HEADERS
    }
    # No other text of the request becomes a name: anybody may have sent it.
    operation = parts.operations.get(request.target)
    name = "request" if operation is None else operation.model.name
    request.span = parts.tracer.begin(name, parent=parent, server=True)


def end_span(_parts: GatewayParts, request: RequestContext) -> None:
    """End the span of a request that has its answer. Only faults of the service count as failures."""
    span, error = request.span, request.error
    if span is None:
        return
    if span.recorded:
        span.describe(
            {
                "rpc.system": "aws-api",
                "rpc.method": None if request.operation is None else request.operation.model.name,
                "http.response.status_code": 200 if error is None else error.http_status,
                "cloud.region": None if request.caller is None else request.caller.region,
                "sonant.request_id": request.request_id,
                **{f"sonant.{name}_id": value for name, value in resources_of(request).items()},
            }
        )
    span.end(
        error="" if error is None else error.code,
        failed=error is not None and error.http_status >= 500,
    )
