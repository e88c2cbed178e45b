"""The gateway: takes every API request through one list of handlers, REQUEST_HANDLERS."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from sonant.errors import (
    DatabaseUnavailable,
    IntegrityFault,
    InternalServer,
    KeysUnreachable,
    ObjectsUnavailable,
    SealBroken,
    Throttling,
    WireError,
)
from sonant.gateway.batching import BatchingExecutor
from sonant.gateway.callers import AccountTurn
from sonant.gateway.handlers import (
    Handler,
    authorize_caller,
    check_route,
    decode_body,
    dispatch,
    enter_executor,
    find_operation,
    log_request,
    parse_parameters,
    read_first,
    record,
    require_audit_trail,
    serialize,
    take_turn,
    throttle,
    verify_signature,
)
from sonant.gateway.models import ServiceModels
from sonant.gateway.protocol import CONTENT_TYPE, error_body, error_content_type
from sonant.gateway.recording import Recorder
from sonant.gateway.request_context import GatewayParts, RequestContext, compile_operations
from sonant.gateway.request_log import RequestLog
from sonant.gateway.request_trace import begin_span, end_span
from sonant.gateway.signature import Verifier
from sonant.gateway.thread_pool import ThreadPool
from sonant.gateway.throttle import Throttle
from sonant.logs import facts
from sonant.operations.registry import ExecutorKind, RegisteredOperation
from sonant.operations.service import Caller, Service
from sonant.settings import Gateway as GatewaySettings
from sonant.traces import Tracer, current

log = logging.getLogger(__name__)

#: What happens to a request, in the order of AWS's own checks. Up to `enter_executor` handlers run on the
#: event loop and must not block; after it they run in the threads of the operation's executor.
REQUEST_HANDLERS: tuple[Handler, ...] = (
    check_route,
    enter_executor,
    decode_body,
    find_operation,
    verify_signature,
    throttle,
    take_turn,
    parse_parameters,
    authorize_caller,
    require_audit_trail,
    read_first,
    dispatch,
    serialize,
)
#: What happens at the end of every request, whether a handler failed or not.
FINAL_HANDLERS: tuple[Handler, ...] = (record, log_request, end_span)

#: Handlers of a request from inside the service, whose caller and document are known.
INTERNAL_HANDLERS: tuple[Handler, ...] = tuple(
    handler
    for handler in REQUEST_HANDLERS
    if handler not in (check_route, enter_executor, decode_body, verify_signature, take_turn)
)

#: Requests of one kind of long operations that may run or wait at once; further ones get ThrottlingException.
MOST_LONG = 32

#: Failures of what the service rests on: answered as internal failures, and logged in one sentence.
INTERNAL_FAILURES = (DatabaseUnavailable, IntegrityFault, KeysUnreachable, ObjectsUnavailable, SealBroken)

Response = tuple[int, str, bytes]
"""Status, content type and body."""

Executor = ThreadPool | BatchingExecutor


class Gateway:
    """Answers API requests."""

    def __init__(
        self,
        models: ServiceModels,
        operations: Mapping[str, RegisteredOperation],
        service: Service,
        verifier: Verifier,
        throttle: Throttle,
        limits: GatewaySettings,
        recorder: Recorder | None = None,
        long_threads: int = 2,
        request_log: RequestLog | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Start the executors. `long_threads` run operations that may take seconds."""
        self.parts = GatewayParts(
            operations=compile_operations(models, operations),
            service=service,
            verifier=verifier,
            throttle=throttle,
            recorder=recorder,
            log_request=None if request_log is None else request_log.write,
            tracer=tracer,
        )
        self.limits = limits
        begin, most = service.database.start_batch, limits.max_waiting
        pool = ThreadPool(limits.threads, "call", most_waiting=most, begin=begin)
        self._executors: Mapping[ExecutorKind, Executor] = {
            # SQLite reads are so short that several threads would only contend for Python's lock.
            ExecutorKind.READ: BatchingExecutor("reads", begin, most_waiting=most)
            if service.settings.embedded
            else pool,
            ExecutorKind.WRITE: pool,
            ExecutorKind.LONG: ThreadPool(long_threads, "long call", most_waiting=MOST_LONG, begin=begin),
            ExecutorKind.RECORDING: ThreadPool(
                limits.comparisons, "recording", most_waiting=MOST_LONG, begin=begin
            ),
        }

    async def respond(self, request: RequestContext) -> Response:
        """Answer a request whose body has been read; to be awaited on the event loop."""
        begin_span(self.parts, request)
        run = _Run(self.parts, request, REQUEST_HANDLERS, self._executors)
        try:
            executor = run.advance()
            while executor is not None:
                executor = await executor.run_for(run.caller, run.advance)
        except Throttling as error:  # too many requests wait for the executor
            request.error = error
            log_request(self.parts, request)
            end_span(self.parts, request)
        return _response(request)

    def call_internal(
        self,
        caller: Caller,
        access_key_id: str,
        operation: str,
        parameters: Mapping[str, Any],
        *,
        headers: Sequence[tuple[bytes, bytes]],
        source_ip: str,
        secure: bool,
        polled: bool = False,
    ) -> bytes:
        """Call an operation for a caller who is signed in, and return the body of the response.

        The call is throttled, authorized and recorded as every other, with the user agent of `headers`. It
        runs in the calling thread. `polled`: an open page repeats the call by itself.
        """
        target = next(name for name in self.parts.operations if name.endswith(f".{operation}"))
        request = RequestContext(
            method="POST",
            path=b"/",
            query=b"",
            headers=[
                *(pair for pair in headers if pair[0] == b"user-agent"),
                (b"x-amz-target", target.encode()),
            ],
            document=dict(parameters),
            caller=caller,
            access_key_id=access_key_id,
            source_ip=source_ip,
            secure=secure,
            polled=polled,
            received_s=time.perf_counter(),
        )
        self.parts.service.database.start_batch()
        begin_span(self.parts, request)
        run = _Run(self.parts, request, INTERNAL_HANDLERS, self._executors)
        while run.advance() is not None:
            pass  # whatever threads a handler asks for, this one may block
        return _response(request)[2]

    def close(self) -> None:
        """Let the requests that run come to their end, and end the threads."""
        for executor in dict.fromkeys(self._executors.values()):
            executor.close()


class _Run:
    """One request's way through a list of handlers, which may begin in one thread and end in another."""

    __slots__ = ("_executor", "_executors", "_parts", "_remaining", "_request", "caller")

    def __init__(
        self,
        parts: GatewayParts,
        request: RequestContext,
        handlers: Sequence[Handler],
        executors: Mapping[ExecutorKind, Executor],
    ) -> None:
        self._parts, self._request, self._executors = parts, request, executors
        self._remaining = iter(handlers)
        self._executor: Executor | None = None
        self.caller: Hashable = parts.callers.presumed(request)
        """Whose share of the executor the request takes."""

    def advance(self) -> Executor | None:
        """Run the remaining handlers. Returns None at the end, else the executor in which to go on."""
        span = self._request.span
        if span is None:
            return self._advance()
        with current(span):
            return self._advance()

    def _advance(self) -> Executor | None:
        with facts(request_id=self._request.request_id):
            executor = self._run(self._remaining)
            if executor is None:
                self._run(iter(FINAL_HANDLERS))
            return executor

    def _run(self, handlers: Iterator[Handler]) -> Executor | None:
        """Run handlers until one fails or asks for another executor. Only here exceptions become errors."""
        request = self._request
        try:
            for handler in handlers:
                step = handler(self._parts, request)
                if step is None:
                    continue
                if isinstance(step, AccountTurn):
                    self.caller = step
                    if self._executor is None or self._executor.switch(step):
                        continue
                    return self._executor
                if self._executors[step] is not self._executor:
                    self._executor = self._executors[step]
                    return self._executor
        except WireError as error:
            request.error = error
        except INTERNAL_FAILURES as fault:
            log.error("request %s failed: %s", request.request_id, fault)
            request.error = InternalServer()
        except Exception:  # a defect: the client gets the request's id to report it by
            log.exception("request %s failed", request.request_id)
            request.error = InternalServer()
        return None


def _response(request: RequestContext) -> Response:
    return (200, CONTENT_TYPE, request.answer) if request.error is None else error_response(request.error)


def error_response(error: WireError) -> Response:
    return error.http_status, error_content_type(error), error_body(error)
