"""uvicorn's HTTP connection with limits on the size of headers and on the time they take.

Without limits, a client without credentials could fill the memory or hold connections open for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Twice what the signature check accepts, so that headers that are too large get its error response first.
MAX_HEAD_BYTES = 64 * 1024
#: Most time for a request line and headers, and for an idle connection.
HEAD_TIME_S = 30.0


class BoundedConnection(HttpToolsProtocol):
    """One client's connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._heads = 0
        self._in_head = False
        self._head_bytes = 0
        self._waiting_since: float | None = None
        """Since when it has waited for a request line, by the loop's clock; None while it does not."""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._timer = self.loop.call_later(HEAD_TIME_S, self.check_head_time)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
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
                return
        if self._waiting_since is None:
            self._waiting_since = self.loop.time()

    def on_message_begin(self) -> None:
        self._waiting_since = None
        self._heads += 1
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._waiting_since = None
        self._in_head = False
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection to the WebSocket protocol, which has limits of its own."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().handle_websocket_upgrade()

    def check_head_time(self) -> None:
        """Close the connection if it has waited too long for a head, else set the timer again.

        One timer that is set again costs less than one for each head.
        """
        if self._timer is None:  # closed, or another protocol's
            return
        self._timer.cancel()
        now = self.loop.time()
        if self.cycle is not None and not self.cycle.response_complete:
            self._waiting_since = now  # a request is in progress; its body has a time limit of its own
        since = now if self._waiting_since is None else self._waiting_since
        if now - since >= HEAD_TIME_S:
            self.transport.close()
        else:
            self._timer = self.loop.call_at(since + HEAD_TIME_S, self.check_head_time)
