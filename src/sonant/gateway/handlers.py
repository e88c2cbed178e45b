"""The handlers of a request, one for each step between its bytes and the bytes of its response.

A handler reads and completes the RequestContext. It raises a WireError to refuse the request, and returns an
ExecutorKind when the handlers after it must run in those threads, or an AccountTurn when they must wait for
the account's turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sonant.errors import Misdirected, UnknownOperation, UnknownRoute, WireError
from sonant.gateway.authorization import authorize
from sonant.gateway.callers import AccountTurn
from sonant.gateway.misdirected import misdirected
from sonant.gateway.protocol import parse_body
from sonant.gateway.request_context import GatewayParts, RequestContext
from sonant.gateway.signature import SignedRequest
from sonant.operations.registry import ExecutorKind
from sonant.operations.service import Caller

Handler = Callable[[GatewayParts, RequestContext], ExecutorKind | AccountTurn | None]

_JSON_TYPES = frozenset((b"application/x-amz-json-1.0", b"application/json"))


def check_route(parts: GatewayParts, request: RequestContext) -> None:
    """Accept only POST of JSON to `/`."""
    content_type = (request.header(b"content-type") or b"").split(b";")[0].strip().lower()
    calls = request.method == "POST" and content_type in _JSON_TYPES
    if calls and request.path == b"/":
        return
    if calls and request.target in parts.operations:
        raise UnknownRoute(
            "The API is at the path / of its host: neither the endpoint nor a proxy may put another before it"
        )
    raise misdirected_error(request) or UnknownRoute()


def enter_executor(parts: GatewayParts, request: RequestContext) -> ExecutorKind:
    """Leave the event loop for the threads of the operation that the target names, if there is one.

    The name is not verified yet: it decides about threads only.
    """
    operation = parts.operations.get(request.target)
    return ExecutorKind.WRITE if operation is None else operation.executor


def decode_body(_parts: GatewayParts, request: RequestContext) -> None:
    """Parse the body's JSON."""
    request.document = parse_body(request.body)


def find_operation(parts: GatewayParts, request: RequestContext) -> None:
    """Find the operation that the target names."""
    operation = parts.operations.get(request.target)
    if operation is None:
        raise misdirected_error(request) or UnknownOperation()
    request.operation = operation
    request.unchanged = operation.model.readonly or operation.read_first is not None


def verify_signature(parts: GatewayParts, request: RequestContext) -> None:
    """Identify the caller by the request's signature."""
    signed = SignedRequest(
        method=request.method,
        raw_path=request.path,
        query_string=request.query,
        headers=request.headers,
        body=request.body,
    )
    credential, region, signature = parts.verifier.verify(signed, parts.service.clock())
    request.caller = Caller(principal=credential.principal, region=region, signature=signature)
    request.access_key_id = credential.access_key_id


def take_turn(parts: GatewayParts, request: RequestContext) -> AccountTurn:
    """Count the request for its account from now on: what follows may take long."""
    _, caller = request.identified
    return parts.callers.turn(request.access_key_id, caller.account_id)


def throttle(parts: GatewayParts, request: RequestContext) -> None:
    """Count the request against the rate of its account and operation."""
    operation, caller = request.identified
    parts.throttle.take(caller.account_id, operation.model.name, caller.region)


def parse_parameters(_parts: GatewayParts, request: RequestContext) -> None:
    """Check the document against the operation's input shape."""
    operation, _ = request.identified
    request.parameters = operation.parse(request.document)


def authorize_caller(parts: GatewayParts, request: RequestContext) -> None:
    """Require that the caller's policies allow the operation on its resource."""
    operation, caller = request.identified
    request.caller = authorize(
        operation.model,
        request.parameters,
        caller,
        parts.service,
        source_ip=request.source_ip or None,
        secure=request.secure,
        now=parts.service.clock(),
    )


def require_audit_trail(parts: GatewayParts, request: RequestContext) -> None:
    """Refuse a change that could not be recorded, before it begins."""
    if parts.recorder is not None:
        operation, _ = request.identified
        parts.recorder.require(operation.model)


def read_first(parts: GatewayParts, request: RequestContext) -> ExecutorKind | None:
    """Answer by reading where an operation seldom changes anything; a change is made in other threads."""
    operation, caller = request.identified
    if operation.read_first is None:
        return None
    request.result = operation.read_first(parts.service, caller, request.parameters)
    request.unchanged = request.result is not None
    return None if request.unchanged else ExecutorKind.WRITE


def dispatch(parts: GatewayParts, request: RequestContext) -> None:
    """Call the operation's function, unless `read_first` had the answer."""
    operation, caller = request.identified
    if request.result is None:
        request.result = operation.function(parts.service, caller, request.parameters)


def serialize(_parts: GatewayParts, request: RequestContext) -> None:
    """Turn the result into the body of the response."""
    operation, _ = request.identified
    request.answer = operation.serialize(request.result)


def record(parts: GatewayParts, request: RequestContext) -> None:
    """Write the request to the audit trail and the metrics, whether it succeeded or failed.

    A change waits here until its record is on the disk. Requests of unknown operations leave no record.
    """
    if parts.recorder is None or request.operation is None:
        return
    model = request.operation.model
    try:
        parts.recorder.record(
            model,
            request_id=request.request_id,
            source_ip=request.source_ip,
            headers=request.headers,
            query=request.query,
            caller=request.caller,
            access_key_id=request.access_key_id,
            parameters=request.parameters,
            result=request.result,
            error=request.error,
            unchanged=request.unchanged,
            polled=request.polled,
        )
    except WireError as error:
        request.error = error
    parts.recorder.measure(model, time.perf_counter() - request.received_s, request.error)


def log_request(parts: GatewayParts, request: RequestContext) -> None:
    """Write the request's line in the log."""
    if parts.log_request is not None:
        parts.log_request(request, time.perf_counter() - request.received_s)


def misdirected_error(request: RequestContext) -> Misdirected | None:
    """Return the error for a request that is meant for another AWS service; None for any other request."""
    return misdirected(request.headers, request.query, request.body)
