"""Dead WebSockets end within seconds; those that send, or that the service does not read, are not blamed."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from limited_server import LimitedServer
from waiting import PATIENCE_S, wait_until
from websockets.sync.client import connect

from sonant.gateway.connections import UNLIMITED
from sonant.gateway.keepalive import PING_AFTER_S, PONG_WITHIN_S, keep_alive
from sonant.gateway.websocket_connection import WebSocketConnection


class Timers:
    """A loop whose clock is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.waiting: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, seconds: float, task: Any) -> Any:
        entry = (self.now_s + seconds, task)
        self.waiting.append(entry)
        return SimpleNamespace(cancel=lambda: self.waiting.remove(entry) if entry in self.waiting else None)

    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while due := sorted((one for one in self.waiting if one[0] <= end_s), key=lambda one: one[0]):
            self.now_s, task = due[0]
            self.waiting.remove(due[0])
            task()
        self.now_s = end_s


class Line:
    """A WebSocket that is open; its other side is the test."""

    def __init__(self) -> None:
        self.loop, self.pings, self.aborted = Timers(), 0, False
        connection = self.connection = WebSocketConnection.__new__(WebSocketConnection)
        connection.loop = self.loop  # type: ignore[assignment]  # a stand-in
        connection.ping_interval, connection.ping_timeout = PING_AFTER_S, PONG_WITHIN_S
        connection.ping_timer = connection.pong_timer = connection.pending_ping_payload = None
        connection.ping_sent_at = connection.last_ping_rtt = 0.0
        connection.close_sent = connection.read_paused = False
        connection.handshake_initiated = True
        connection.logger = SimpleNamespace(level=100)  # type: ignore[assignment]
        connection.conn = SimpleNamespace(  # type: ignore[assignment]
            send_ping=self._ping, data_to_send=lambda: [b""], fail=lambda *_: None,
            receive_data=lambda _: None, parser_exc=None, events_received=list,
        )  # fmt: skip
        connection.transport = SimpleNamespace(  # type: ignore[assignment]
            write=lambda _: None, close=lambda: None, is_closing=lambda: self.aborted, abort=self._abort
        )
        connection.start_keepalive()

    def _ping(self, payload: bytes) -> None:
        self.pings, self.payload = self.pings + 1, payload

    def _abort(self) -> None:
        self.aborted = True

    def pong(self) -> None:
        self.connection.data_received(b"pong")
        self.connection.handle_pong(SimpleNamespace(data=self.payload))  # type: ignore[arg-type]


@pytest.fixture
def line() -> Line:
    return Line()


def test_silent_connection_is_closed_within_seconds(line: Line) -> None:
    line.loop.advance(PING_AFTER_S + PONG_WITHIN_S - 0.1)
    assert (line.pings, line.aborted) == (1, False)
    line.loop.advance(0.2)
    assert line.aborted
    assert PING_AFTER_S + PONG_WITHIN_S <= 10.0


def test_paused_call_that_answers_pings_stays_open(line: Line) -> None:
    for _ in range(200):
        line.loop.advance(PING_AFTER_S)
        if line.connection.pending_ping_payload is not None:
            line.pong()
    assert not line.aborted
    assert line.pings > 100


def test_connection_that_sends_audio_is_not_pinged(line: Line) -> None:
    for _ in range(1000):
        line.loop.advance(0.1)
        line.connection.data_received(b"audio")
    assert (line.pings, line.aborted) == (0, False)


def test_pong_behind_audio_is_not_missed(line: Line) -> None:
    line.loop.advance(PING_AFTER_S)
    assert line.pings == 1
    for _ in range(10):
        line.loop.advance(1.0)
        line.connection.data_received(b"audio that was sent before the pong")
    assert not line.aborted
    line.loop.advance(PING_AFTER_S + PONG_WITHIN_S)
    assert line.aborted, "then nothing came any more"


def test_connection_that_the_service_does_not_read_is_not_blamed(line: Line) -> None:
    line.connection.read_paused = True
    line.loop.advance(60.0)
    assert not line.aborted
    line.connection.read_paused = False
    line.loop.advance(PING_AFTER_S + PONG_WITHIN_S)
    assert line.aborted


def test_accepted_connections_are_probed_by_tcp() -> None:
    with socket.socket() as listener, socket.socket() as client:
        keep_alive(listener)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle_s = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            every_s = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            probes = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            assert idle_s + every_s * probes <= 10


def test_client_that_vanished_ends_its_connection() -> None:
    """On a real server, with a client that holds the connection open and answers nothing."""
    ended: list[Any] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            pass
        ended.append(message)

    server = LimitedServer(app, UNLIMITED, ping_s=0.05)
    with server.running(), connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as live:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as dead:
            dead.sendall(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            wait_until("the dead one has ended", lambda: ended, PATIENCE_S)
        assert len(ended) == 1
        live.ping().wait(PATIENCE_S)  # the one that answers is open
