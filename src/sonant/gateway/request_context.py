"""What the gateway's handlers work on: one request, the operation that it calls, and the shared parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sonant.errors import WireError
from sonant.gateway.callers import VerifiedCallers
from sonant.gateway.models import Operation, ServiceModels
from sonant.gateway.protocol import compile_output
from sonant.gateway.recording import Recorder
from sonant.gateway.signature import Verifier
from sonant.gateway.throttle import Throttle
from sonant.gateway.validation import compile_input
from sonant.ids import new_uuid
from sonant.operations.registry import ExecutorKind, OperationFunction, RegisteredOperation
from sonant.operations.service import Caller, Service
from sonant.traces import Span, Tracer


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledOperation:
    """An operation with everything that is derived from its model and its registration, once."""

    model: Operation
    parse: Callable[[object], dict[str, Any]]
    """JSON document to checked parameters; see `compile_input`."""
    function: OperationFunction
    read_first: OperationFunction | None
    serialize: Callable[[Mapping[str, Any] | None], bytes]
    executor: ExecutorKind
    """Where its requests run first."""


@dataclass(slots=True)
class RequestContext:
    """One request on its way through the handlers: each reads what earlier ones set and adds its own."""

    method: str
    path: bytes
    """Still percent-encoded, without the query string."""
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    """Names in lower case."""
    body: bytes = b""
    source_ip: str = ""
    secure: bool = False
    """Whether it came over TLS."""
    received_s: float = 0.0
    """When the whole request had arrived, by the performance counter."""
    request_id: str = field(default_factory=new_uuid)
    document: object = None
    """The body's JSON."""
    operation: CompiledOperation | None = None
    caller: Caller | None = None
    access_key_id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    answer: bytes = b""
    """Body of the response to a request that succeeded."""
    error: WireError | None = None
    unchanged: bool = False
    """Whether it certainly changed nothing."""
    polled: bool = False
    """Whether an open page repeats it by itself."""
    span: Span | None = None
    """Its span, if there are traces."""

    def header(self, name: bytes) -> bytes | None:
        for known, value in self.headers:
            if known == name:
                return value
        return None

    @property
    def target(self) -> str:
        """The `X-Amz-Target` header, which names the operation; empty if absent."""
        return (self.header(b"x-amz-target") or b"").decode("latin-1")

    @property
    def identified(self) -> tuple[CompiledOperation, Caller]:
        """The operation and its caller, for handlers that come after both were found."""
        if self.operation is None or self.caller is None:
            raise RuntimeError("a handler needs the operation and the caller before they were found")
        return self.operation, self.caller


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParts:
    """What all requests share."""

    operations: Mapping[str, CompiledOperation]
    """By target."""
    service: Service
    verifier: Verifier
    throttle: Throttle
    recorder: Recorder | None = None
    log_request: Callable[[RequestContext, float], None] | None = None
    """Logs a request that has its answer, and the seconds that it took."""
    tracer: Tracer | None = None
    """Begins the spans of requests; None without traces."""
    callers: VerifiedCallers = field(default_factory=VerifiedCallers)


def compile_operations(
    models: ServiceModels, registered: Mapping[str, RegisteredOperation]
) -> dict[str, CompiledOperation]:
    """Compile those operations of the models that are registered, by target."""
    return {
        model.target: _compile(model, registered[model.name])
        for model in models.operations.values()
        if model.name in registered
    }


def _compile(model: Operation, registered: RegisteredOperation) -> CompiledOperation:
    reads = model.readonly or registered.read_first is not None
    return CompiledOperation(
        model=model,
        parse=compile_input(model.input_shape),
        function=registered.function,
        read_first=registered.read_first,
        serialize=compile_output(model.output_shape),
        executor=registered.executor or (ExecutorKind.READ if reads else ExecutorKind.WRITE),
    )
