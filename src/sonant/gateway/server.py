"""The front door: an ASGI app. A request's life is the list LIFE, read top to bottom."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from sonant.errors import (
    BodyTooLarge,
    DatabaseUnavailable,
    InternalServer,
    KeysUnreachable,
    Misdirected,
    ObjectsUnavailable,
    SerializationFault,
    Throttling,
    UnknownOperation,
    UnknownRoute,
    WireError,
)
from sonant.gateway.authorization import authorize
from sonant.gateway.batching import BatchingExecutor
from sonant.gateway.health import Health
from sonant.gateway.misdirected import misdirected
from sonant.gateway.models import Operation, ServiceModels
from sonant.gateway.protocol import CONTENT_TYPE, compile_output, error_body, error_content_type, parse_body
from sonant.gateway.recording import Recorder
from sonant.gateway.signature import SignedRequest, Verifier
from sonant.gateway.thread_pool import ThreadPool
from sonant.gateway.throttle import Throttle
from sonant.gateway.validation import compile_input
from sonant.ids import new_uuid
from sonant.operations import LONG, UNCHANGING
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.settings import Wire

log = logging.getLogger(__name__)

#: How long a client may take to send its body.
BODY_TIME_S = 30.0
#: Calls of long operations that may run or wait at once; further ones get ThrottlingException.
MOST_LONG = 32
_JSON_TYPES = frozenset((b"application/x-amz-json-1.0", b"application/json"))

Function = Callable[[Service, Caller, Request], Answer | None]
Response = tuple[int, str, bytes]
"""Status, content type and body."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """An operation with its parser, its functions and its serialiser."""

    operation: Operation
    parse: Callable[[object], dict[str, Any]]
    function: Function
    serialise: Callable[[Mapping[str, Any] | None], bytes]
    reading: Function | None
    """What answers a call by reading alone; for an operation that may change something None means that there
    is something to change."""


@dataclass(slots=True)
class Call:
    """One request on its way through the list."""

    method: str
    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    request_id: str = field(default_factory=new_uuid)
    document: object = None
    compiled: Compiled | None = None
    caller: Caller | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    answer: bytes = b""
    source_ip: str = ""
    secure: bool = False
    """Came over TLS."""
    access_key_id: str = ""
    error: WireError | None = None
    unchanged: bool = False
    """It could have changed something, and is known not to have."""
    begun_s: float = 0.0
    """When the request was whole, by the performance counter."""

    def header(self, name: bytes) -> bytes | None:
        for known, value in self.headers:
            if known == name:
                return value
        return None

    @property
    def known(self) -> tuple[Compiled, Caller]:
        if self.compiled is None or self.caller is None:
            raise RuntimeError("the steps of LIFE are out of order")
        return self.compiled, self.caller


class Gateway:
    """Answers the AWS endpoint. Everything that may block runs in `threads`, never on the event loop."""

    def __init__(
        self,
        models: ServiceModels,
        functions: Mapping[str, Function],
        service: Service,
        verifier: Verifier,
        throttle: Throttle,
        limits: Wire,
        recorder: Recorder | None = None,
        long_threads: int = 2,
    ) -> None:
        self.service, self.verifier, self.throttle, self.models = service, verifier, throttle, models
        self.recorder = recorder
        self.compiled = {
            operation.target: Compiled(
                operation,
                compile_input(operation.input_shape),
                functions[operation.name],
                compile_output(operation.output_shape),
                functions[operation.name] if operation.readonly else UNCHANGING.get(operation.name),
            )
            for operation in models.operations.values()
            if operation.name in functions
        }
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="call")
        self._long = ThreadPool(long_threads, "long call", most_waiting=MOST_LONG)
        # SQLite's reads are so short that several threads only pass Python's lock around: one does more.
        embedded = service.settings.embedded
        self._reader = (
            BatchingExecutor(self._live_short, "reads", service.database.start_batch) if embedded else None
        )
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(
            method=scope["method"],
            path=(scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0],
            query=scope["query_string"],
            headers=scope["headers"],
            body=b"",
            source_ip=(scope.get("client") or ("",))[0],
            secure=scope["scheme"] == "https",
        )
        try:
            call.body = await self._read_body(call, receive)
            call.begun_s = time.perf_counter()
            if self._waiting >= self._limits.max_waiting:
                raise Throttling("Rate exceeded")
            self._waiting += 1
            try:
                told, work = None, self._live_alone
                if self._reader is not None and self._reads(call):
                    told, work = await self._reader.run(call), self._go_on_alone
                elif self._is_long(call):
                    told = await self._long.run(work, call)
                if told is None:
                    loop = asyncio.get_running_loop()
                    told = await loop.run_in_executor(self._threads, work, call)
                status, content_type, body = told
            finally:
                self._waiting -= 1
        except BodyTooLarge as error:
            status, content_type, body = _told(_meant_for_others(call) or error)
        except WireError as error:
            status, content_type, body = _told(error)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", content_type.encode()),
                    (b"content-length", str(len(body)).encode()),
                    (b"x-amzn-requestid", call.request_id.encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})

    def live(self, call: Call) -> Response:
        """Take a call through LIFE and record how it ended."""
        return self._live_short(call) or self._go_on(call)

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
    ) -> bytes:
        """Answer a call of somebody who is known already, to whom everything else of LIFE applies."""
        target = next(name for name in self.compiled if name.endswith(f".{operation}"))
        call = Call(
            method="POST",
            path=b"/",
            query=b"",
            headers=[
                *(pair for pair in headers if pair[0] == b"user-agent"),
                (b"x-amz-target", target.encode()),
            ],
            body=b"",
            document=dict(parameters),
            caller=caller,
            access_key_id=access_key_id,
            source_ip=source_ip,
            secure=secure,
            begun_s=time.perf_counter(),
        )
        self.service.database.start_batch()
        self._walk(call, INTERNAL_HANDLERS)
        return self._end(call)[2]

    def _live_alone(self, call: Call) -> Response:
        self.service.database.start_batch()
        return self.live(call)

    def _live_short(self, call: Call) -> Response | None:
        """`live` as far as it takes no more than reading; None for a call that has come to its dispatch."""
        self._walk(call, (*REQUEST_HANDLERS[:-1], answer_reading))
        if call.error is None and not call.unchanged:
            return None
        if call.compiled is not None and call.compiled.reading is not None:
            call.unchanged = True
        return self._end(call)

    def _go_on(self, call: Call) -> Response:
        self._walk(call, REQUEST_HANDLERS[-1:])
        return self._end(call)

    def _go_on_alone(self, call: Call) -> Response:
        self.service.database.start_batch()
        return self._go_on(call)

    def _walk(self, call: Call, steps: Sequence[Step]) -> None:
        """Until one of the steps fails; the only place that turns an exception into an answer."""
        try:
            for step in steps:
                step(self, call)
        except WireError as error:
            call.error = error
        except (DatabaseUnavailable, KeysUnreachable, ObjectsUnavailable) as fault:
            log.error("request %s failed: %s", call.request_id, fault)
            call.error = InternalServer()
        except Exception:  # whatever went wrong is ours; the caller gets the id to report it by
            log.exception("request %s failed", call.request_id)
            call.error = InternalServer()

    def _end(self, call: Call) -> Response:
        self._walk(call, (record,))
        return (200, CONTENT_TYPE, call.answer) if call.error is None else _told(call.error)

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        self._long.close()
        if self._reader is not None:
            self._reader.close()

    def _reads(self, call: Call) -> bool:
        """Whether the call, as far as its unverified target says, as a rule changes nothing and takes no
        time."""
        compiled = self._asked(call)
        if compiled is None:
            return False
        return compiled.reading is not None and compiled.operation.name not in LONG

    def _asked(self, call: Call) -> Compiled | None:
        """The operation that an unverified target names."""
        target = call.header(b"x-amz-target")
        return self.compiled.get(target.decode("latin-1")) if target else None

    def _is_long(self, call: Call) -> bool:
        compiled = self._asked(call)
        return compiled is not None and compiled.operation.name in LONG

    async def _read_body(self, call: Call, receive: Receive) -> bytes:
        """The body, no larger than the limit and within the time allowed."""
        length = call.header(b"content-length")
        if length is not None and length.isdigit() and int(length[:20]) > self._limits.max_body_bytes:
            raise BodyTooLarge(f"The body is larger than {self._limits.max_body_bytes} bytes.")
        pieces, size = [], 0
        try:
            # Around all of it: a time limit costs more than taking in a body that is here already.
            async with asyncio.timeout(BODY_TIME_S):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise SerializationFault("The connection broke off in the middle of the body")
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > self._limits.max_body_bytes:
                        raise BodyTooLarge(f"The body is larger than {self._limits.max_body_bytes} bytes.")
                    if not message.get("more_body", False):
                        return b"".join(pieces)
        except TimeoutError:
            raise SerializationFault(f"The body did not arrive within {BODY_TIME_S:.0f} seconds") from None


def check_route(door: Gateway, call: Call) -> None:
    """POST of JSON to `/`, and nothing else."""
    content_type = (call.header(b"content-type") or b"").split(b";")[0].strip().lower()
    if call.method == "POST" and call.path == b"/" and content_type in _JSON_TYPES:
        return
    target = call.header(b"x-amz-target") or b""
    if call.method == "POST" and content_type in _JSON_TYPES and target.decode("latin-1") in door.compiled:
        raise UnknownRoute(
            "The API is at the path / of its host: neither the endpoint nor a proxy may put another before it"
        )
    raise _meant_for_others(call) or UnknownRoute()


def decode_body(_door: Gateway, call: Call) -> None:
    call.document = parse_body(call.body)


def find_operation(door: Gateway, call: Call) -> None:
    target = call.header(b"x-amz-target")
    call.compiled = None if target is None else door.compiled.get(target.decode("latin-1"))
    if call.compiled is None:
        raise _meant_for_others(call) or UnknownOperation()


def verify_signature(door: Gateway, call: Call) -> None:
    request = SignedRequest(
        method=call.method,
        raw_path=call.path,
        query_string=call.query,
        headers=call.headers,
        body=call.body,
    )
    credential, region = door.verifier.verify(request, door.service.clock())
    call.caller = Caller(principal=credential.principal, region=region)
    call.access_key_id = credential.access_key_id


def throttle(door: Gateway, call: Call) -> None:
    compiled, caller = call.known
    door.throttle.take(caller.account_id, compiled.operation.name, caller.region)


def parse_members(_door: Gateway, call: Call) -> None:
    compiled, _ = call.known
    call.parameters = compiled.parse(call.document)


def check_rights(door: Gateway, call: Call) -> None:
    compiled, caller = call.known
    call.caller = authorize(
        compiled.operation,
        call.parameters,
        caller,
        door.service,
        source_ip=call.source_ip or None,
        secure=call.secure,
        now=door.service.clock(),
    )


def require_record(door: Gateway, call: Call) -> None:
    """Begin nothing that could not be recorded."""
    if door.recorder is not None:
        door.recorder.require(call.known[0].operation)


def answer_reading(door: Gateway, call: Call) -> None:
    """A call that changes nothing comes to its end here."""
    compiled, caller = call.known
    if compiled.reading is None:
        return
    call.result = compiled.reading(door.service, caller, call.parameters)
    call.unchanged = compiled.operation.readonly or call.result is not None
    if call.unchanged:
        call.answer = compiled.serialise(call.result)


def dispatch(door: Gateway, call: Call) -> None:
    compiled, caller = call.known
    call.result = compiled.function(door.service, caller, call.parameters)
    call.answer = compiled.serialise(call.result)


def record(door: Gateway, call: Call) -> None:
    """After every call whose operation is known, however it ended; a change waits here for the disk."""
    if door.recorder is None or call.compiled is None:
        return
    operation = call.compiled.operation
    try:
        door.recorder.record(
            operation,
            request_id=call.request_id,
            source_ip=call.source_ip,
            headers=call.headers,
            query=call.query,
            caller=call.caller,
            access_key_id=call.access_key_id,
            parameters=call.parameters,
            result=call.result,
            error=call.error,
            unchanged=call.unchanged,
        )
    except WireError as error:
        call.error = error
    door.recorder.measure(operation, time.perf_counter() - call.begun_s, call.error)


Step = Callable[[Gateway, Call], None]

#: A request's life, in the order of AWS's own checks.
REQUEST_HANDLERS: tuple[Step, ...] = (
    check_route,
    decode_body,
    find_operation,
    verify_signature,
    throttle,
    parse_members,
    check_rights,
    require_record,
    dispatch,
)

#: The same for a caller who has proved already who it is.
INTERNAL_HANDLERS = tuple(
    step for step in REQUEST_HANDLERS if step not in (check_route, decode_body, verify_signature)
)


def _meant_for_others(call: Call) -> Misdirected | None:
    return misdirected(call.headers, call.query, call.body)


def _told(error: WireError) -> Response:
    return error.http_status, error_content_type(error), error_body(error)


def asgi_app(
    door: Gateway,
    *more: BaseRoute,
    health: Health,
    lifespan: Lifespan[Starlette] | None = None,
    console: tuple[tuple[str, ...], ASGIApp] | None = None,
) -> ASGIApp:
    """The whole service: Starlette's pages and WebSockets, and the AWS endpoint everywhere else.

    While `health` drains, every answer is the last on its connection. `console` is an app and the
    beginnings of the paths that are its own. The endpoint stands before Starlette, whose layers would cost
    each call as much as its own work.
    """

    routes: list[BaseRoute] = [*health.routes(), *more]
    pages = Starlette(routes=routes, lifespan=lifespan)
    taken = frozenset(
        (method, route.path) for route in routes if isinstance(route, Route) for method in route.methods or ()
    )

    prefixes, consoles = ((), door) if console is None else console

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if health.draining and scope["type"] == "http":
            send = _last_on_its_connection(send)
        if scope["type"] == "http" and scope["path"].startswith(prefixes):
            await consoles(scope, receive, send)
        elif scope["type"] == "http" and (scope["method"], scope["path"]) not in taken:
            await door(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return app


def _last_on_its_connection(send: Send) -> Send:
    """Have the connection closed after this answer: the next call is somebody else's."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"]
            message = {**message, "headers": [*headers, (b"connection", b"close")]}
        await send(message)

    return sending
