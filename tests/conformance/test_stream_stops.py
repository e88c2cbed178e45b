"""What becomes of streams when the service stops or the connection stays quiet."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvicorn
from carried_calls import audiosocket, opened, said_until_closed, stream_url
from service_process import running
from test_carriers import free_port
from websockets.sync.client import connect

from sonant.commands import connection as http_connection
from sonant.commands.serve import MAX_MESSAGE_BYTES, _websocket_connection

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
            assert json.loads(socket_.recv(timeout=20))["type"] == "begun"
            socket_.send(FRAME)
            line.sendall(b"\x10\x01\x40" + FRAME)
            deadline = time.monotonic() + 20
            while len(own.list_sessions(DomainId=domain, StreamingStatus="ONGOING")["SessionSummaries"]) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            begun = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            assert said_until_closed(socket_)[1] == 1012
            assert line.recv(16) == b"\0\0\0"
            service.process.wait(20)
            assert time.monotonic() - begun < 15
    with running(data) as service:
        found = service.own_client().list_sessions(DomainId=domain)["SessionSummaries"]
        assert {(one["StreamingStatus"], one["StreamEndReason"]) for one in found} == {
            ("ENDED", "SERVICE_STOPPED")
        }
        assert len(found) == 2


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server with the service's connections, whose heads must come within a third of a second."""
    monkeypatch.setattr(http_connection, "HEAD_TIME_S", 0.3)

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
                http=http_connection.BoundedConnection,
                ws=_websocket_connection,  # type: ignore[arg-type]
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                lifespan="off",
                log_level="warning",
            )
        )
        serving = thread.submit(asyncio.run, server.serve([listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        serving.result(10)


def test_a_websocket_outlives_the_time_that_a_request_may_take(echo: int) -> None:
    with connect(f"ws://127.0.0.1:{echo}/", proxy=None) as connection:
        for _ in range(3):
            time.sleep(0.4)
            connection.send(b"still here")
            assert connection.recv(timeout=5) == b"still here"


def test_nothing_is_compressed(echo: int) -> None:
    with connect(f"ws://127.0.0.1:{echo}/", proxy=None) as connection:
        assert connection.protocol.extensions == []
