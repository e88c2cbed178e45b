"""What becomes of streams when the service stops or the connection stays quiet."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvicorn
from carried_calls import audiosocket, opened, said_until_closed, stream_url
from service_process import running
from test_carriers import free_port
from waiting import PATIENCE_S, wait_until
from websockets.sync.client import connect

from sonant.cli.serve import MAX_MESSAGE_BYTES, websocket_connection
from sonant.gateway import http_connection

FRAME = bytes(320)


def test_a_service_that_stops_tells_its_carriers_and_says_so_afterwards(
    tmp_path: Any,
) -> None:
    data, port, name, call = tmp_path / "data", free_port(), str(uuid.uuid4()), uuid.uuid4()
    with running(data) as service:
        domain = service.domain()
    with running(data, LIVE_DOMAIN=domain, LIVE_AUDIOSOCKET_PORT=str(port)) as service:
        own = service.own_client()
        own.start_session(DomainId=domain, SessionName=name)
        url = stream_url(service, {"DomainId": domain, "SessionNameOrId": name})
        with opened(url) as socket_, audiosocket(port, call.bytes) as line:
            assert json.loads(socket_.recv(timeout=PATIENCE_S))["type"] == "begun"
            socket_.send(FRAME)
            line.sendall(b"\x10\x01\x40" + FRAME)
            ongoing = {"DomainId": domain, "StreamingStatus": "ONGOING"}
            wait_until("both are heard", lambda: len(own.list_sessions(**ongoing)["SessionSummaries"]) == 2)
            service.process.send_signal(signal.SIGTERM)
            assert said_until_closed(socket_)[1] == 1012
            assert line.recv(16) == b"\0\0\0"
            assert service.process.wait(PATIENCE_S) == 0
    with running(data) as service:
        found = service.own_client().list_sessions(DomainId=domain)["SessionSummaries"]
        assert {(one["StreamingStatus"], one["StreamEndReason"]) for one in found} == {
            ("ENDED", "SERVICE_STOPPED")
        }
        assert len(found) == 2


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server with the service's connections: its port, and what makes the time for heads be over."""
    made: list[http_connection.BoundedConnection] = []

    class Noted(http_connection.BoundedConnection):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            made.append(self)

    def over() -> None:
        monkeypatch.setattr(http_connection, "HEAD_TIME_S", 0.0)
        for one in made:
            one.loop.call_soon_threadsafe(one.check_head_time)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})

    with socket.socket() as listener, ThreadPoolExecutor(1) as thread:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=Noted,
                ws=websocket_connection,  # type: ignore[arg-type]
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                lifespan="off",
                log_level="warning",
            )
        )
        serving = thread.submit(asyncio.run, server.serve([listener]))
        yield listener.getsockname()[1], over
        server.should_exit = True
        serving.result(PATIENCE_S)


def test_a_websocket_outlives_the_time_that_a_request_may_take(echo: Any) -> None:
    port, over = echo
    with (
        connect(f"ws://127.0.0.1:{port}/", proxy=None) as connection,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as silent,
    ):
        connection.send(b"both are there")
        assert connection.recv(timeout=PATIENCE_S) == b"both are there"
        over()
        assert silent.recv(1) == b""
        connection.send(b"still here")
        assert connection.recv(timeout=PATIENCE_S) == b"still here"


def test_nothing_is_compressed(echo: Any) -> None:
    with connect(f"ws://127.0.0.1:{echo[0]}/", proxy=None) as connection:
        assert connection.protocol.extensions == []
