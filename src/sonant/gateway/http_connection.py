"""uvicorn's HTTP connection with limits on their number, on the size of headers, and on the time of all that
a client does.

Without limits, a client without credentials could fill the memory or hold connections open for ever. The time
limits hold for every route, whatever its app does: for the request line and headers, for the body, for an
idle connection, and for a client that does not read its response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import unquote

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sonant.gateway.connections import UNLIMITED, ConnectionLimits, ConnectionTable, Loss

#: Twice what the signature check accepts, so that headers that are too large get its error response first.
MAX_HEAD_BYTES = 64 * 1024
#: Most time for a request line and headers, for an idle connection, and for a response not read.
HEAD_TIME_S = 30.0
#: Most time for a body, from its headers on. An app with a shorter limit answers first.
BODY_TIME_S = 35.0

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-type: text/plain\r\ncontent-length: 21\r\n\r\nToo many connections."
)
_BAD_HOST = b"A request must have one Host header."


class BoundedConnection(HttpToolsProtocol):
    """One client's connection."""

    table: ClassVar[ConnectionTable] = ConnectionTable(UNLIMITED)
    """Counts the connections of this class."""
    streamed: ClassVar[frozenset[tuple[str, str]]] = frozenset()
    """Methods and paths whose bodies last as long as a call. Their apps limit them."""
    note_refused: ClassVar[Callable[[Scope, str], None] | None] = None
    """Called with a request for a WebSocket that reaches no app, and why."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._heads = 0
        self._in_head = False
        self._head_bytes = 0
        self._since: float | None = None
        """Since when it has waited for its client, by the loop's clock; None while it does not."""
        self._in_body = False
        self._dropped = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = "" if self.client is None else self.client[0]
        descriptor = transport.get_extra_info("socket").fileno()
        if not self.table.admit(self, address, descriptor):
            transport.write(_BUSY)
            transport.close()
            return
        self._since = self.loop.time()
        self._timer = self.loop.call_later(HEAD_TIME_S, self.check_time)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.table.closed(self)
        answering = self.cycle is not None and not self.cycle.response_complete
        if not self._dropped and (self._in_body or answering):
            self.table.note(Loss.ABORTED)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._heads if self._in_head else None
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._heads == before:  # all of the data belongs to one head
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        self._heads += 1
        self._in_head = True
        self._head_bytes = 0
        self._since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._has_one_host():
            super().on_headers_complete()
        else:
            app, self.app = self.app, _refuse_host
            super().on_headers_complete()
            self.app = app
        if (self.scope["method"], self.scope.get("path", "")) in self.streamed:
            self._since = None
            self.table.busy(self)
        else:
            self._in_body, self._since = True, self.loop.time()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False
        if self.cycle is not None and self.cycle.response_complete:  # it was answered before its end
            self._since = self.loop.time()
        else:
            self._since = None
            self.table.busy(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_body:
            self._since = self.loop.time()
        self.table.waits(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._since = self.loop.time()
        self.table.waits(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.cycle is not None and not self.cycle.response_complete:
            self._since = None
            self.table.busy(self)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection to the WebSocket protocol, which has limits of its own."""
        self._stop_timer()
        self._in_body, self._since = False, None
        if not self._has_one_host():
            self._note_refused("it has no Host header, or several")
            self.send_400_response(_BAD_HOST.decode())
            return
        self.table.busy(self)
        super().handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        if isinstance(protocol, CountedUpgrade):
            protocol.on_lost = self._upgrade_lost
            if protocol.refused:
                self._note_refused(protocol.refused)

    def _note_refused(self, why: str) -> None:
        tell = type(self).note_refused
        if tell is not None:
            raw_path, _, query = self.url.partition(b"?")
            path = unquote(raw_path.decode("latin-1"))
            tell({**self.scope, "path": path, "raw_path": raw_path, "query_string": query}, why)

    def drop(self) -> None:
        """Close the connection at once, whatever is still to be written."""
        self._stop_timer()
        self._dropped = True
        self.transport.abort()

    def check_time(self) -> None:
        """Close the connection if it has waited too long for its client, else set the timer again.

        One timer that is set again costs less than one for each head.
        """
        if self._timer is None:  # closed, or another protocol's
            return
        self._timer.cancel()
        now = self.loop.time()
        since = now if self._since is None or self._waits_for_app() else self._since
        limit_s = BODY_TIME_S if self._in_body else HEAD_TIME_S
        if now - since >= limit_s:
            if self._in_body or self._in_head or self._heads == 0 or self.flow.write_paused:
                self.table.note(Loss.TOO_SLOW)
            self.drop()
        else:
            self._timer = self.loop.call_at(since + limit_s, self.check_time)

    def _waits_for_app(self) -> bool:
        """Whether a response is being made, so that what comes behind its request waits for the service."""
        if self.pipeline:
            return True
        answering = self.cycle is not None and not self.cycle.response_complete
        return answering and not self._in_body and not self.flow.write_paused

    def _has_one_host(self) -> bool:
        """Whether there is one Host header (RFC 9112, section 3.2); HTTP/1.0 needs none."""
        hosts = [name for name, _ in self.headers if name == b"host"]
        return len(hosts) == 1 or (not hosts and self.parser.get_http_version() == "1.0")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _upgrade_lost(self) -> None:
        self.table.closed(self)


class CountedUpgrade:
    """A WebSocket whose end the connection that it was is told of."""

    on_lost: Any = None
    """Called at its end."""
    refused = ""
    """Why the handshake was refused, in words that repeat nothing of it; empty while it was not."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end on."""
        super().connection_lost(exc)  # type: ignore[misc]  # of the protocol that this is mixed into
        if self.on_lost is not None:
            self.on_lost()


def connection_class(
    limits: ConnectionLimits, streamed: frozenset[tuple[str, str]]
) -> type[BoundedConnection]:
    """Make a class of connections that are counted together."""
    named = {"table": ConnectionTable(limits), "streamed": streamed}
    return type("LimitedConnection", (BoundedConnection,), named)


async def _refuse_host(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(_BAD_HOST)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": _BAD_HOST})
