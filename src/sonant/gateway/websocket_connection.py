"""uvicorn's WebSocket connection with a keepalive that blames no connection that still sends, and with an
answer to every handshake.

uvicorn closes a connection whose pong is late. A pong may wait behind seconds of audio, and the service may
not read for a while: here, whatever arrives is a sign of life, and only silent connections are pinged.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from sonant.gateway.http_connection import CountedUpgrade

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class WebSocketConnection(CountedUpgrade, WebSocketsSansIOProtocol):
    """One client's WebSocket."""

    _received_at_s = 0.0
    """When data came last, by the loop's clock."""

    def data_received(self, data: bytes) -> None:
        """Take data, and note when."""
        self._received_at_s = self.loop.time()
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            # uvicorn neither answers nor closes here: the connection would stay for ever.
            self.refused = "its headers are too many, too long or malformed"
            self.transport.write(_BAD_REQUEST)
            self.transport.close()

    def handle_connect(self, event: Any) -> None:
        """Answer the handshake, and note when it is refused."""
        super().handle_connect(event)
        if self.response.status_code != 101:
            self.refused = "its handshake is not one of RFC 6455"

    async def send(self, message: Any) -> None:
        """Send a message of the app. A refusal in the form of an HTTP response ends the handshake; uvicorn
        would log it as an error."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True

    def send_keepalive_ping(self) -> None:
        """Ping a connection that has been silent; look again later at one that has not."""
        silent_s = self.loop.time() - self._received_at_s
        if self.ping_interval is None or silent_s >= self.ping_interval:
            super().send_keepalive_ping()
        else:
            self.ping_timer = self.loop.call_later(self.ping_interval - silent_s, self.send_keepalive_ping)

    def keepalive_timeout(self) -> None:
        """Close a connection that has sent nothing since the ping; go on with one that has, or that the
        service itself does not read now."""
        if self.read_paused or self._received_at_s > self.ping_sent_at:
            self.pong_timer = None
            self.schedule_ping()
            return
        super().keepalive_timeout()
        self.transport.abort()  # nobody reads what is still to be written
