"""Where calls come in: `/stream` and its siblings, as WebSockets and as an upload.

What is refused before a WebSocket is accepted is an HTTP answer in the form of all others; later faults are
close codes with a reason. Streams need a service that can listen; `app` makes one when the first call comes.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from socket import socket
from typing import Any

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from sonant.carriers.audiosocket_server import AudioSocketServer
from sonant.carriers.authorizer import OpenedStream, StreamAuthorizer
from sonant.carriers.connection import carry
from sonant.carriers.limits import ConnectionLimiter
from sonant.carriers.own import OwnAdapter
from sonant.carriers.registry import Carrier, carriers
from sonant.carriers.request import StreamRequest
from sonant.carriers.uploads import Upload
from sonant.errors import InternalServer, WireError
from sonant.gateway.protocol import error_body, error_content_type
from sonant.gateway.thread_pool import ThreadPool
from sonant.sessions.calls import EndReason
from sonant.settings import Settings

log = logging.getLogger(__name__)

PATH = "/stream"
#: Calls that may wait for one of them; more are told to come back.
_MOST_WAITING = 256


class Streams:
    """The endpoints of streams, as ASGI, and the port of AudioSocket."""

    def __init__(
        self, settings: Settings, gate: StreamAuthorizer, audiosocket: socket | None = None, *, threads: int
    ) -> None:
        """`threads` verify and open. Raises SetupError for carriers that are not set up safely."""
        self._settings, self._gate = settings, gate
        self._carriers = carriers(settings, gate.clock)
        self._places = ConnectionLimiter(settings.live.max_streams, settings.live.max_streams_per_account)
        self._threads = ThreadPool(threads, "stream", most_waiting=_MOST_WAITING)
        self._audiosocket = audiosocket

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """AudioSocket is served for as long as the app is."""
        if self._audiosocket is None:
            yield
            return
        intake_for = partial(self._gate.for_carrier, "audiosocket", self._settings.account)
        server = AudioSocketServer(
            self._audiosocket, self._settings, intake_for, self._places, self._threads.executor
        )
        await server.start()
        try:
            yield
        finally:
            await server.stop()

    def routes(self) -> list[BaseRoute]:
        found: list[BaseRoute] = [
            WebSocketRoute(PATH, _Endpoint(self._own)),
            Route(PATH, _Endpoint(self._upload), methods=["POST"]),
        ]
        for carrier in self._carriers:
            found.append(WebSocketRoute(f"{PATH}/{carrier.name}", _Endpoint(self._of_carrier(carrier))))
        return found

    def close(self) -> None:
        self._threads.close()

    async def _own(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_of(scope)
        await receive()  # websocket.connect
        try:
            with self._places.visit() as place:
                begun = await self._threads.run(lambda: self._gate.open_signed(request, place.name))
                try:
                    await send({"type": "websocket.accept"})
                except BaseException:
                    begun.stream.end(EndReason.DISCONNECTED)
                    raise
                await carry(
                    WebSocketConnection(receive, send),
                    OwnAdapter(begun.asked.form),
                    _NO_INTAKE,
                    threads=self._threads.executor,
                    paced=True,
                    stream=begun.stream,
                )
        except WireError as error:
            await refuse(send, error, request.request_id)

    def _of_carrier(self, carrier: Carrier) -> Callable[[Scope, Receive, Send], Any]:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            request = request_of(scope)
            await receive()  # websocket.connect
            try:
                with self._places.visit() as place:
                    adapter = carrier.greet(request)
                    place.name(self._settings.account)
                    wanted = carrier.subprotocol
                    offered = wanted is not None and wanted in scope.get("subprotocols", ())
                    await send({"type": "websocket.accept", "subprotocol": wanted if offered else None})
                    await carry(
                        WebSocketConnection(receive, send),
                        adapter,
                        self._gate.for_carrier(carrier.name, self._settings.account, request),
                        threads=self._threads.executor,
                    )
            except WireError as error:
                await refuse(send, error, request.request_id, carrier.challenge)

        return serve

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_of(scope)
        try:
            with self._places.visit() as place:

                def begin(asked: StreamRequest, declared: bytes) -> Awaitable[OpenedStream]:
                    return self._threads.run(lambda: self._gate.open_signed(asked, place.name, declared))

                body = await Upload(begin, self._settings, self._threads.executor).take(request, receive)
        except WireError as error:
            await answer_error(send, error, request.request_id)
        except Exception:  # a fault of ours; the caller gets the id to report it by
            log.exception("request %s failed", request.request_id)
            await answer_error(send, InternalServer(), request.request_id)
        else:
            await answer(send, 200, "application/json", body, request.request_id)


class _NoIntake:
    """For connections whose stream is open already."""

    def open(self, call: object) -> Any:
        raise InternalServer


_NO_INTAKE = _NoIntake()


class _Endpoint:
    """Starlette takes an object for ASGI, and a function for something of its own."""

    def __init__(self, serve: Callable[[Scope, Receive, Send], Any]) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)


class WebSocketConnection:
    """An accepted WebSocket; see `carrying.Connection`."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send

    async def receive(self) -> str | bytes | EndReason:
        message = await self._receive()
        if message["type"] == "websocket.receive":
            data = message.get("bytes")
            return bytes(data) if data is not None else str(message["text"])
        return reason_of(message)

    async def send(self, message: str | bytes) -> None:
        part = {"text": message} if isinstance(message, str) else {"bytes": message}
        await self._send({"type": "websocket.send", **part})

    async def close(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})


def reason_of(message: Message) -> EndReason:
    """Why a WebSocket was disconnected."""
    code = message.get("code", 1005)
    if code in (1000, 1001) or (code == 1005 and "reason" in message):  # a close frame without a code
        return EndReason.CALL_ENDED
    if code in (1002, 1003, 1007, 1009):
        return EndReason.MALFORMED
    return EndReason.SERVICE_STOPPED if code == 1012 else EndReason.DISCONNECTED


def request_of(scope: Scope) -> StreamRequest:
    return StreamRequest(
        method=scope.get("method", "GET"),
        raw_path=(scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0],
        query=scope["query_string"],
        headers=[(name.lower(), value) for name, value in scope["headers"]],
        source_ip=(scope.get("client") or ("",))[0],
        secure=scope["scheme"] in ("https", "wss"),
    )


def _headers(content_type: str, body: bytes, request_id: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-amzn-requestid", request_id.encode()),
    ]


async def refuse(send: Send, error: WireError, request_id: str, challenge: bytes | None = None) -> None:
    """Answer a WebSocket's request with an HTTP error."""
    body = error_body(error)
    headers = _headers(error_content_type(error), body, request_id)
    status = error.http_status
    if challenge is not None and status == 403:
        status, headers = 401, [*headers, (b"www-authenticate", challenge)]
    try:
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    except OSError:
        pass  # it has gone


async def answer(send: Send, status: int, content_type: str, body: bytes, request_id: str) -> None:
    headers = _headers(content_type, body, request_id)
    if status != 200:
        headers.append((b"connection", b"close"))  # what is left of the body is of no use
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_error(send: Send, error: WireError, request_id: str) -> None:
    await answer(send, error.http_status, error_content_type(error), error_body(error), request_id)
