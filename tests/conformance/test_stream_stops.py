"""Streams when the service stops, and their connections beside slow HTTP ones."""

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
from aws_servers import free_port
from carried_calls import audiosocket, messages_until_closed, opened, stream_url
from service_process import NO_JOBS, running
from waiting import PATIENCE_S, wait_until
from websockets.sync.client import connect

from sonant.cli.serve import MAX_MESSAGE_BYTES, websocket_connection
from sonant.gateway import http_connection

FRAME = bytes(320)


def test_stopping_service_informs_carriers_and_stores_the_reason(
    tmp_path: Any,
) -> None:
    data, port, name, call = tmp_path / "data", free_port(), str(uuid.uuid4()), uuid.uuid4()
    with running(data, **NO_JOBS) as service:
        domain = service.domain()
    with running(data, LIVE_DOMAIN=domain, LIVE_AUDIOSOCKET_PORT=str(port), **NO_JOBS) as service:
        own = service.own_client()
        own.start_session(DomainId=domain, SessionName=name)
        url = stream_url(service, {"DomainId": domain, "SessionNameOrId": name})
        with opened(url) as socket_, audiosocket(port, call.bytes) as line:
            assert json.loads(socket_.recv(timeout=PATIENCE_S))["type"] == "begun"
            socket_.send(FRAME)
            line.sendall(b"\x10\x01\x40" + FRAME)
            ongoing = {"DomainId": domain, "StreamingStatus": "ONGOING"}
            wait_until("both are ongoing", lambda: len(own.list_sessions(**ongoing)["SessionSummaries"]) == 2)
            service.process.send_signal(signal.SIGTERM)
            assert messages_until_closed(socket_)[1] == 1012
            assert line.recv(16) == b"\0\0\0"
            assert service.process.wait(PATIENCE_S) == 0
    with running(data, **NO_JOBS) as service:
        found = service.own_client().list_sessions(DomainId=domain)["SessionSummaries"]
        assert {(one["StreamingStatus"], one["StreamEndReason"]) for one in found} == {
            ("ENDED", "SERVICE_STOPPED")
        }
        assert len(found) == 2


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server with the service's connections: its port, and a function that ends the time for heads."""
    made: list[http_connection.BoundedConnection] = []

    class Listed(http_connection.BoundedConnection):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            made.append(self)

    def end_head_time() -> None:
        monkeypatch.setattr(http_connection, "HEAD_TIME_S", 0.0)
        for one in made:
            one.loop.call_soon_threadsafe(one.check_time)

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
                http=Listed,
                ws=websocket_connection,  # type: ignore[arg-type]
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                lifespan="off",
                log_level="warning",
            )
        )
        serving = thread.submit(asyncio.run, server.serve([listener]))
        yield listener.getsockname()[1], end_head_time
        server.should_exit = True
        serving.result(PATIENCE_S)


def test_websocket_outlives_the_request_time_limit(echo: Any) -> None:
    port, end_head_time = echo
    with (
        connect(f"ws://127.0.0.1:{port}/", proxy=None) as connection,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as silent,
    ):
        connection.send(b"both are there")
        assert connection.recv(timeout=PATIENCE_S) == b"both are there"
        end_head_time()
        assert silent.recv(1) == b""
        connection.send(b"still here")
        assert connection.recv(timeout=PATIENCE_S) == b"still here"


def test_messages_are_not_compressed(echo: Any) -> None:
    with connect(f"ws://127.0.0.1:{echo[0]}/", proxy=None) as connection:
        assert connection.protocol.extensions == []
