"""The endpoints that calls come in by: `/stream` and its siblings as WebSockets, `/stream` as an upload, and
the TCP ports of carriers.

A WebSocket that is refused before it is accepted gets an HTTP error in the form of all others; later failures
are close codes with a reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from sonant.carriers.authorizer import NATIVE, UPLOAD, OpenedStream, StreamAuthorizer
from sonant.carriers.carrier import TcpCarrier, WebSocketCarrier
from sonant.carriers.limits import MAX_RECORDINGS, ConnectionLimiter
from sonant.carriers.native import NativeAdapter
from sonant.carriers.refusals import RefusalReason, Refusals, shown_carrier
from sonant.carriers.registry import CARRIERS, configured_carriers
from sonant.carriers.relay import relay
from sonant.carriers.request import StreamRequest
from sonant.carriers.servers import CarrierServer, ServerCarrier, ServerContext
from sonant.carriers.tcp import TcpCaller, TcpServer
from sonant.carriers.upload import Upload
from sonant.carriers.websocket import WebSocketConnection, refuse, response_headers
from sonant.errors import InternalServer, UnknownRoute, Validation, WireError
from sonant.gateway.connections import UNLIMITED, ConnectionTable
from sonant.gateway.protocol import error_body, error_content_type
from sonant.gateway.thread_pool import ThreadPool
from sonant.sessions.calls import EndReason
from sonant.settings import Settings

log = logging.getLogger(__name__)

PATH = "/stream"
#: Requests whose bodies last as long as a call; `upload` limits the silence in them and the call's length.
STREAMED = frozenset({("POST", PATH)})
#: Calls that may wait for a thread; further ones get ThrottlingException.
_MAX_WAITING = 256
#: Threads that decode uploads, beside those that open streams: a hostile recording holds up no call.
_UPLOAD_THREADS = 2

Serve = Callable[[Scope, Receive, Send], Awaitable[None]]


class StreamEndpoints:
    """The endpoints of streams, as ASGI routes and TCP servers."""

    def __init__(
        self,
        settings: Settings,
        authorizer: StreamAuthorizer,
        *,
        threads: int,
        connections: ConnectionTable | None = None,
    ) -> None:
        """`threads` verify requests and open streams. `connections` counts those to the TCP ports. Raises
        SetupError for carriers that are not set up safely, and for ports that are taken."""
        self._settings, self._authorizer = settings, authorizer
        self._connections = connections or ConnectionTable(UNLIMITED)
        self._limiter = ConnectionLimiter(settings.live.max_streams, settings.live.max_streams_per_account)
        self._threads = ThreadPool(threads, "stream", most_waiting=_MAX_WAITING)
        # One block of each recording in memory waits at most.
        self._decoders = ThreadPool(_UPLOAD_THREADS, "upload", most_waiting=MAX_RECORDINGS)
        self._routes: list[BaseRoute] = [
            WebSocketRoute(PATH, _Endpoint(self._serve_native)),
            Route(PATH, _Endpoint(self._serve_upload), methods=["POST"]),
        ]
        self._servers: list[CarrierServer] = []
        self._refusals = Refusals(
            authorizer.record_refusal,
            authorizer.count_refusal,
            self._threads.executor.executor_for(""),
            _call_later,
        )
        for name, carrier in configured_carriers(settings).items():
            match carrier:
                case WebSocketCarrier():
                    serve = partial(self._serve_carrier, name, carrier)
                    self._routes.append(WebSocketRoute(f"{PATH}/{name}", _Endpoint(serve)))
                case TcpCarrier():
                    self._servers.append(self._tcp_server(name, carrier))
                case ServerCarrier():
                    self._servers.append(carrier.make_server(self._context(name)))
        # After all others, the service's other WebSockets included.
        self._routes.append(WebSocketRoute("/{path:path}", _Endpoint(self._serve_unknown)))

    def note_handshake(self, scope: Scope, why: str) -> None:
        """Record a request for a WebSocket that could not be one, so that no route got it. To be called on
        the event loop; `why` repeats nothing of the request."""
        request, path = StreamRequest.from_scope(scope, self._authorizer.clock()), scope["path"]
        carrier = NATIVE if path == PATH else shown_carrier(path, CARRIERS)
        error = Validation(f"The request for a WebSocket cannot be used: {why}.")
        self._refusals.note(carrier, request, RefusalReason.PARAMETERS, error)

    def routes(self) -> list[BaseRoute]:
        """Return the ASGI routes."""
        return self._routes

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Serve the TCP ports while the app runs."""
        async with AsyncExitStack() as stack:
            for server in self._servers:
                await server.start()
                stack.push_async_callback(server.stop)
            try:
                yield
            finally:
                self._refusals.close()

    def close(self) -> None:
        """End the threads and close the ports."""
        self._threads.close()
        self._decoders.close()
        for server in self._servers:
            server.close()

    def _tcp_server(self, name: str, carrier: TcpCarrier) -> TcpServer:
        context = self._context(name)
        return TcpServer(
            carrier,
            self._settings.gateway.host,
            context.account_id,
            context.caller_of,
            context.limiter,
            context.threads,
            context.connections,
        )

    def _context(self, name: str) -> ServerContext:
        """Return what the server of a carrier gets."""
        account_id = self._settings.account

        def caller_of(source_ip: str) -> TcpCaller:
            request = StreamRequest(
                method="",
                raw_path=b"",
                query=b"",
                headers=(),
                source_ip=source_ip,
                secure=False,
                received_at=self._authorizer.clock(),
            )
            return TcpCaller(
                open_stream=self._authorizer.carrier_opener(name, account_id, request),
                note_refusal=partial(self._refusals.note, name, request),
            )

        return ServerContext(
            account_id=account_id,
            caller_of=caller_of,
            limiter=self._limiter,
            threads=self._threads.executor.executor_for(account_id),
            connections=self._connections,
        )

    async def _serve_native(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = StreamRequest.from_scope(scope, self._authorizer.clock())
        await receive()  # websocket.connect
        recorded = False

        def identified() -> None:
            nonlocal recorded
            recorded = True

        def open_signed(admit: Callable[[str], None]) -> OpenedStream:
            return self._authorizer.open_signed(request, admit, identified)

        try:
            with self._limiter.acquire() as slot:
                opened = await self._threads.run_for(request.source_ip, lambda: open_signed(slot.assign))
                try:
                    await send({"type": "websocket.accept"})
                except BaseException:
                    opened.stream.end(EndReason.DISCONNECTED)
                    raise
                await relay(
                    WebSocketConnection(receive, send),
                    NativeAdapter(opened.parameters.format),
                    threads=self._threads.executor.executor_for(opened.account_id),
                    stream=opened.stream,
                    paced=True,
                )
        except WireError as error:
            self._refusals.note(NATIVE, request, RefusalReason.of(error), error, recorded=recorded)
            await refuse(send, error, request.request_id)
        except OSError:
            pass  # the caller has closed the connection
        except Exception:  # noqa: BLE001 - logged and recorded there
            await self._fail(NATIVE, request, send, recorded=recorded)

    async def _serve_carrier(
        self, name: str, carrier: WebSocketCarrier, scope: Scope, receive: Receive, send: Send
    ) -> None:
        request = StreamRequest.from_scope(scope, self._authorizer.clock())
        account_id, protocol = self._settings.account, carrier.subprotocol
        await receive()  # websocket.connect
        try:
            with self._limiter.acquire() as slot:
                adapter = carrier.authenticate(request)
                slot.assign(account_id)
                offered = protocol is not None and protocol in scope.get("subprotocols", ())
                await send({"type": "websocket.accept", "subprotocol": protocol if offered else None})
                await relay(
                    WebSocketConnection(receive, send),
                    adapter,
                    threads=self._threads.executor.executor_for(account_id),
                    open_stream=self._authorizer.carrier_opener(name, account_id, request),
                    note_refusal=partial(self._refusals.note, name, request),
                )
        except WireError as error:
            self._refusals.note(name, request, RefusalReason.of(error), error)
            await refuse(send, error, request.request_id, carrier.challenge)
        except OSError:
            pass  # the carrier has closed the connection
        except Exception:  # noqa: BLE001 - logged and recorded there
            await self._fail(name, request, send)

    async def _fail(
        self, carrier: str, request: StreamRequest, send: Send, *, recorded: bool = False
    ) -> None:
        """Log the fault that is being handled, and answer a request for a WebSocket as operations do."""
        log.exception("request %s failed", request.request_id)
        error = InternalServer()
        self._refusals.note(carrier, request, RefusalReason.FAILED, error, recorded=recorded)
        await refuse(send, error, request.request_id)

    async def _serve_unknown(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = StreamRequest.from_scope(scope, self._authorizer.clock())
        await receive()  # websocket.connect
        carrier = shown_carrier(scope["path"], CARRIERS)
        error = UnknownRoute(
            f"The carrier {carrier} is not configured: see its settings in the group live."
            if carrier
            else f"There is no stream at this path. Paths are {PATH}, and {PATH}/NAME for each carrier."
        )
        self._refusals.note(carrier, request, RefusalReason.UNKNOWN_PATH, error)
        await refuse(send, UnknownRoute(), request.request_id)  # as every other path that is not known

    async def _serve_upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = StreamRequest.from_scope(scope, self._authorizer.clock())
        begun = recorded = False

        def identified() -> None:
            nonlocal recorded
            recorded = True

        def open_signed(admit: Callable[[str], None], declared: bytes) -> OpenedStream:
            nonlocal begun
            opened = self._authorizer.open_signed(request, admit, identified, declared)
            begun = True
            return opened

        try:
            with self._limiter.acquire() as slot:

                def open_stream(
                    request: StreamRequest, declared: bytes, recording: bool
                ) -> Awaitable[OpenedStream]:
                    admit = partial(slot.assign, recording=recording)
                    return self._threads.run_for(request.source_ip, lambda: open_signed(admit, declared))

                upload = Upload(open_stream, self._settings, self._decoders.executor.executor_for)
                body = await upload.process(request, receive)
        except WireError as error:
            if not begun:
                self._refusals.note(UPLOAD, request, RefusalReason.of(error), error, recorded=recorded)
            await _send_error(send, error, request.request_id)
        except Exception:  # the caller gets the id to report the failure by
            log.exception("request %s failed", request.request_id)
            if not begun:
                failed = InternalServer()
                self._refusals.note(UPLOAD, request, RefusalReason.FAILED, failed, recorded=recorded)
            await _send_error(send, InternalServer(), request.request_id)
        else:
            await _send(send, 200, "application/json", body, request.request_id)


class _Endpoint:
    """Wraps a function: Starlette treats an object as ASGI, but a function as a handler of its own kind."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)


def _call_later(seconds: float, task: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, task)


async def _send(send: Send, status: int, content_type: str, body: bytes, request_id: str) -> None:
    headers = response_headers(content_type, body, request_id)
    if status != 200:
        headers.append((b"connection", b"close"))  # the rest of the request's body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_error(send: Send, error: WireError, request_id: str) -> None:
    await _send(send, error.http_status, error_content_type(error), error_body(error), request_id)
