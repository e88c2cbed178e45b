"""Limits of connections on real sockets: their number, slow clients, and the Host header."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import pytest
from limited_server import head_of, is_closed, limited_server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from waiting import PATIENCE_S, wait_until
from websockets.sync.client import connect

from sonant.gateway import http_connection
from sonant.gateway.app import unless_aborted
from sonant.gateway.connections import Loss

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW_BODY = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx"
LARGE = 32 * 1024 * 1024


async def _answer(request: Request) -> Response:
    await request.body()
    return Response(b"answered")


async def _large(_request: Request) -> Response:
    return Response(bytes(LARGE))


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_bytes():
        await websocket.send_bytes(message)


APP = Starlette(
    routes=[
        Route("/", _answer, methods=["GET", "POST"]),
        Route("/large", _large),
        WebSocketRoute("/echo", _echo),
    ]
)


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that ends the time of all that clients do."""

    def end() -> None:
        monkeypatch.setattr(http_connection, "HEAD_TIME_S", 0.0)
        monkeypatch.setattr(http_connection, "BODY_TIME_S", 0.0)

    return end


HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.mark.parametrize(
    "handshake",
    [
        HANDSHAKE + b"".join(b"x-%d: y\r\n" % number for number in range(300)),
        HANDSHAKE + b"x: " + b"y" * 9000 + b"\r\n",
        HANDSHAKE + b"Sec-WebSocket-Protocol: \xff, ,,a b\r\n",
        HANDSHAKE.replace(b"13", b"12"),
        HANDSHAKE.replace(b"x3JJHMbDL1EzLkh9GBhXDw==", b"x"),
        HANDSHAKE + b"Host: other\r\n",
    ],
)
def test_a_handshake_that_is_none_is_answered_and_noted(handshake: bytes) -> None:
    noted: list[tuple[str, str]] = []
    with limited_server(APP).running() as server, server.connect() as hostile:
        server.note_refused(lambda scope, why: noted.append((scope["path"], why)))
        hostile.sendall(handshake + b"\r\n")
        assert head_of(hostile).startswith(b"HTTP/1.1 400 ")
        assert is_closed(hostile)
        wait_until("its place is free", lambda: server.table.open == 0)
    ((path, why),) = noted
    assert path == "/echo" and why


def test_a_refusal_by_the_app_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    with caplog.at_level(logging.WARNING), limited_server(refuse).running() as server:
        with server.connect() as client:
            client.sendall(HANDSHAKE + b"\r\n")
            assert head_of(client).startswith(b"HTTP/1.1 403 ")
        wait_until("its place is free", lambda: server.table.open == 0)
    assert not caplog.records


def test_silent_connections_make_room_for_one_that_asks() -> None:
    with limited_server(APP, most=20).running() as server, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(100)]
        honest = stack.enter_context(server.connect())
        honest.sendall(GET)
        assert head_of(honest).startswith(b"HTTP/1.1 200 ")
        assert all(is_closed(one) for one in silent[:81])
        assert server.table.open == 20
        assert server.table.losses[Loss.DROPPED] == 81


def test_slow_bodies_make_room_for_one_that_asks() -> None:
    with limited_server(APP, most=5).running() as server, contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(server.connect()).sendall(SLOW_BODY)
        honest = stack.enter_context(server.connect())
        for _ in range(3):  # and it keeps its connection
            honest.sendall(GET)
            received = b""
            while not received.endswith(b"answered"):
                received += honest.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 ")


def test_other_addresses_have_room_beside_a_greedy_one() -> None:
    with limited_server(APP, most=10).running() as server, contextlib.ExitStack() as stack:
        honest = stack.enter_context(server.connect("127.0.0.2"))
        for _ in range(50):
            stack.enter_context(server.connect())
        wait_until("all have come", lambda: len(server.made) == 51)
        honest.sendall(GET)
        assert head_of(honest).startswith(b"HTTP/1.1 200 ")


def test_a_websocket_counts_until_it_ends_and_makes_no_room() -> None:
    with limited_server(APP, most=1).running() as server:
        with connect(f"ws://127.0.0.1:{server.port}/echo", proxy=None) as call:
            call.send(b"there")
            assert call.recv(timeout=PATIENCE_S) == b"there"
            with server.connect() as refused:
                assert head_of(refused).startswith(b"HTTP/1.1 503 ")
            call.send(b"still there")
            assert call.recv(timeout=PATIENCE_S) == b"still there"
        wait_until("its place is free", lambda: server.table.open == 0)
        with server.connect() as honest:
            honest.sendall(GET)
            assert head_of(honest).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("begin", [b"", b"GET / HT", GET[:-2], SLOW_BODY])
def test_a_slow_client_is_closed(begin: bytes, no_time: Any) -> None:
    with limited_server(APP).running() as server, server.connect() as slow:
        slow.sendall(begin)
        wait_until("it is there", lambda: server.made)
        no_time()

        def closed() -> bool:
            server.check_times()  # its bytes may come after the first look
            return server.table.losses[Loss.TOO_SLOW] == 1

        wait_until("its time is over", closed)
        assert is_closed(slow)
        assert server.table.open == 0


def test_a_client_that_does_not_read_is_closed(no_time: Any) -> None:
    with limited_server(APP).running() as server, server.connect() as deaf:
        deaf.sendall(GET.replace(b"/ ", b"/large ", 1))
        wait_until("it is not read", lambda: server.made and server.made[0].flow.write_paused)
        no_time()
        server.check_times()
        wait_until("its time is over", lambda: server.table.open == 0)
        assert server.table.losses[Loss.TOO_SLOW] == 1


def test_a_client_that_leaves_is_counted_and_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await unless_aborted(APP, scope, receive, send)

    with caplog.at_level(logging.INFO), limited_server(app).running() as server:
        for _ in range(10):
            with server.connect() as leaving:
                leaving.sendall(SLOW_BODY)
        wait_until("all are counted", lambda: server.table.losses[Loss.ABORTED] == 10)
    assert [record for record in caplog.records if record.exc_info] == []
    assert len([line for line in caplog.messages if "lost" in line]) == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", b"400"),
        (
            b"GET /echo HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nHost: a\r\nHost: b\r\n"
            b"Sec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            b"400",
        ),
    ],
)
def test_a_request_has_one_host(head: bytes, status: bytes) -> None:
    with limited_server(APP).running() as server, server.connect() as connection:
        connection.sendall(head)
        assert head_of(connection).split()[1] == status
