"""WebSocket connections of carriers, and the HTTP responses that refuse them."""

from __future__ import annotations

from starlette.types import Message, Receive, Send

from sonant.errors import WireError
from sonant.gateway.protocol import error_body, error_content_type
from sonant.sessions.calls import EndReason


class WebSocketConnection:
    """An accepted WebSocket; see `relay.Connection`."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send

    async def receive(self) -> str | bytes | EndReason:
        message = await self._receive()
        if message["type"] == "websocket.receive":
            data = message.get("bytes")
            return bytes(data) if data is not None else str(message["text"])
        return _end_reason(message)

    async def send(self, message: str | bytes) -> None:
        part = {"text": message} if isinstance(message, str) else {"bytes": message}
        await self._send({"type": "websocket.send", **part})

    async def close(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})


def _end_reason(disconnect: Message) -> EndReason:
    code = disconnect.get("code", 1005)
    if code in (1000, 1001) or (code == 1005 and "reason" in disconnect):  # a close frame without a code
        return EndReason.CALL_ENDED
    if code in (1002, 1003, 1007, 1009):
        return EndReason.MALFORMED
    return EndReason.SERVICE_STOPPED if code == 1012 else EndReason.DISCONNECTED


def response_headers(content_type: str, body: bytes, request_id: str) -> list[tuple[bytes, bytes]]:
    """Build the headers of an HTTP response."""
    return [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-amzn-requestid", request_id.encode()),
    ]


async def refuse(send: Send, error: WireError, request_id: str, challenge: bytes | None = None) -> None:
    """Answer the request for a WebSocket with an HTTP error."""
    body = error_body(error)
    headers = response_headers(error_content_type(error), body, request_id)
    status = error.http_status
    if challenge is not None and status == 403:
        status, headers = 401, [*headers, (b"www-authenticate", challenge)]
    try:
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    except OSError:
        pass  # the carrier has closed the connection
