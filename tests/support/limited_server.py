"""A uvicorn with the service's connections in a thread, and raw connections to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from waiting import PATIENCE_S

from sonant.cli.serve import MAX_MESSAGE_BYTES, websocket_connection
from sonant.gateway import http_connection
from sonant.gateway.connections import UNLIMITED, ConnectionLimits, ConnectionTable


class LimitedServer:
    """Serves an app; its connections can be told that their time is over."""

    def __init__(
        self,
        app: ASGIApp,
        limits: ConnectionLimits,
        streamed: frozenset[tuple[str, str]] = frozenset(),
        *,
        ping_s: float = 20.0,
    ) -> None:
        """WebSockets are pinged after `ping_s` seconds, and closed after as many more."""
        self.made: list[http_connection.BoundedConnection] = []
        """All connections, in the order in which they came."""
        made = self.made

        class Listed(http_connection.connection_class(limits, streamed)):  # type: ignore[misc]  # made here
            def connection_made(self, transport: Any) -> None:
                made.append(self)
                super().connection_made(transport)

        self._listed = Listed
        self.table: ConnectionTable = Listed.table
        self.port = 0
        self._config = uvicorn.Config(
            app,
            http=Listed,
            ws=websocket_connection,  # type: ignore[arg-type]  # called like the class it makes one of
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=ping_s,
            ws_ping_timeout=ping_s,
            lifespan="off",
            log_config=None,
            access_log=False,
        )

    @contextmanager
    def running(self) -> Iterator[LimitedServer]:
        """Serve within the context."""
        with socket.socket() as listener, ThreadPoolExecutor(1) as thread:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1024)
            self.port = listener.getsockname()[1]
            server = uvicorn.Server(self._config)
            serving = thread.submit(asyncio.run, self._serve(server, listener))
            try:
                yield self
            finally:
                server.should_exit = True
                serving.result(PATIENCE_S)

    async def _serve(self, server: uvicorn.Server, listener: socket.socket) -> None:
        asyncio.get_running_loop().set_exception_handler(self.table.on_loop_failure)
        await server.serve([listener])

    def note_refused(self, note: Callable[[Any, str], None]) -> None:
        """Call `note` with each request for a WebSocket that reaches no app, and why."""
        self._listed.note_refused = staticmethod(note)

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        """Open a connection from a loopback address."""
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=PATIENCE_S, source_address=(address, 0)
        )

    def check_times(self) -> None:
        """Have every connection look whether its time is over, now."""
        for one in self.made:
            one.loop.call_soon_threadsafe(one.check_time)


def limited_server(
    app: ASGIApp, *, most: int | None = None, streamed: frozenset[tuple[str, str]] = frozenset()
) -> LimitedServer:
    """A server with room for `most` connections, all of which may come from one address."""
    if most is None:
        return LimitedServer(app, UNLIMITED, streamed)
    limits = ConnectionLimits(most=most, most_per_address=most, highest_descriptor=1 << 30)
    return LimitedServer(app, limits, streamed)


def head_of(connection: socket.socket) -> bytes:
    """What comes up to the end of the head of a response; less when the connection ends before."""
    received = b""
    while b"\r\n\r\n" not in received and (piece := connection.recv(65536)):
        received += piece
    return received


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection, after whatever it sent; waits for it."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True
