"""How far a new carrier reaches: what stands here as `ChatAdapter` and `carrier` is its whole module."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from waiting import PATIENCE_S, wait_until

from sonant.carriers.carrier import Audio, End, Open, WebSocketCarrier, check_password
from sonant.carriers.endpoints import PATH, StreamEndpoints
from sonant.carriers.registry import CARRIERS
from sonant.errors import AccessDenied
from sonant.sessions.calls import Call, EndReason, StreamFault
from sonant.sessions.stream import Stream
from sonant.settings import Live, Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSWORD = "a password of some length"

# --- the module of a carrier


class ChatAdapter:
    """Text messages `call NAME` and `bye`; binary messages of 16-bit samples at 8 kHz."""

    def __init__(self, account_id: str, domain_id: str) -> None:
        self._account_id, self._domain_id = account_id, domain_id

    def receive(self, message: str | bytes) -> list[Any]:
        if isinstance(message, bytes):
            return [Audio(np.frombuffer(message, "<i2").astype(np.int16), 8000)]
        if message == "bye":
            return [End(EndReason.CALL_ENDED)]
        command, _, name = message.partition(" ")
        if command != "call":
            raise StreamFault("a text message is not `call` or `bye`")
        return [Open(Call(account_id=self._account_id, domain_id=self._domain_id, session=name, create=True))]

    def opened(self, session_id: str) -> list[Any]:
        return []

    def refused(self, message: str) -> list[Any]:
        return [End(EndReason.NEVER_BEGAN)]

    def ended(self, reason: EndReason) -> list[Any]:
        return [End(reason)]


def carrier(settings: Settings) -> WebSocketCarrier | None:
    check_password("live.chat_password", PASSWORD)

    def authenticate(request):
        if request.header(b"x-password") == b"a bug":
            raise ValueError("a bug")
        if request.header(b"x-password") != PASSWORD.encode():
            raise AccessDenied("The password is not the one that was set.")
        return ChatAdapter(settings.account, settings.live.domain)

    return WebSocketCarrier(authenticate=authenticate)


# --- its line in the registry, and a call over it


@pytest.fixture
def opened() -> list[Any]:
    """What was opened: carrier's name, call and stream."""
    return []


@pytest.fixture
def recorded() -> list[Any]:
    """Refusals in the audit trail: address, carrier, reason and error."""
    return []


@pytest.fixture
def endpoints(monkeypatch, opened, recorded):
    monkeypatch.setitem(CARRIERS, "chat", carrier)

    def opener(name, _account_id, _request):
        def open_stream(call):
            stream = Stream("id#" + "s" * 22, lambda: NOON, lambda: None)
            opened.append((name, call, stream))
            return stream

        return open_stream

    def record_refusal(request, name, reason, error, _summed):
        recorded.append((request.source_ip, name, reason, error.message))

    authorizer: Any = SimpleNamespace(
        clock=lambda: NOON,
        carrier_opener=opener,
        record_refusal=record_refusal,
        count_refusal=lambda _carrier, _reason: None,
    )
    made = StreamEndpoints(Settings(live=Live(domain="d" * 22)), authorizer, threads=1)
    yield made
    made.close()


def connect(endpoints, password, *messages, path=f"{PATH}/chat"):
    """Open the carrier's WebSocket and send messages; return what the service sent."""
    paths = (path, "/{path:path}")
    route, *_ = [one for one in endpoints.routes() if one.path in paths]
    scope = {
        "type": "websocket", "scheme": "ws", "path": path, "query_string": b"", "client": ("192.0.2.7", 4711),
        "headers": [(b"X-Password", password.encode())],
    }  # fmt: skip
    incoming: list[Any] = [{"type": "websocket.connect"}]
    incoming += [
        {"type": "websocket.receive", "bytes" if isinstance(one, bytes) else "text": one} for one in messages
    ]
    sent: list[Any] = []

    async def receive():
        return incoming.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(asyncio.wait_for(route.endpoint(scope, receive, send), PATIENCE_S))
    return sent


def test_call_of_a_new_carrier_reaches_a_stream(endpoints, opened):
    sent = connect(endpoints, PASSWORD, "call call-1", b"\1\0\2\0", "bye")
    ((name, call, stream),) = opened
    assert (name, call.session, call.domain_id) == ("chat", "call-1", "d" * 22)
    assert stream.take().tolist() == [1, 2]
    assert stream.end_reason == EndReason.CALL_ENDED
    assert [one["type"] for one in sent] == ["websocket.accept", "websocket.close"]


def test_wrong_password_gets_an_http_error_and_is_recorded(endpoints, opened, recorded):
    start, _body = connect(endpoints, "wrong")
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert opened == []
    wait_until("it is recorded", lambda: recorded)
    assert recorded == [("192.0.2.7", "chat", "AUTHENTICATION", "The password is not the one that was set.")]


def test_fault_before_the_call_is_named_is_recorded(endpoints, recorded):
    *_, close = connect(endpoints, PASSWORD, "hello")
    assert close["code"] == 1002
    wait_until("it is recorded", lambda: recorded)
    assert recorded == [("192.0.2.7", "chat", "PROTOCOL", "a text message is not `call` or `bye`")]


def test_carrier_that_fails_gets_an_error_and_is_recorded(endpoints, opened, recorded, caplog):
    start, _body = connect(endpoints, "a bug")
    assert start["status"] == 500
    wait_until("it is recorded", lambda: recorded)
    assert recorded == [("192.0.2.7", "chat", "FAILED", None)]
    assert opened == []


@pytest.mark.parametrize(
    ("path", "carrier"), [("/stream", "websocket"), ("/stream/chat", "chat"), ("/elsewhere", "")]
)
def test_handshake_that_is_none_is_recorded(endpoints, recorded, path, carrier):
    scope = {
        "type": "http", "scheme": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": b"", "client": ("192.0.2.7", 4711), "headers": [],
    }  # fmt: skip

    async def note():
        endpoints.note_handshake(scope, "it is none")

    asyncio.run(note())
    wait_until("it is recorded", lambda: recorded)
    ((address, name, reason, message),) = recorded
    assert (address, name, reason) == ("192.0.2.7", carrier, "PARAMETERS")
    assert message == "The request for a WebSocket cannot be used: it is none."


@pytest.mark.parametrize(
    ("path", "carrier", "told"),
    [
        ("/stream/twilio", "twilio", "The carrier twilio is not configured"),
        ("/stream/nobody", "", "There is no stream at this path"),
        ("/ws", "", "There is no stream at this path"),
    ],
)
def test_unknown_path_is_not_found_and_recorded(endpoints, recorded, path, carrier, told):
    start, body = connect(endpoints, PASSWORD, path=path)
    assert start["status"] == 404
    assert body["body"] == b"<UnknownOperationException/>\n", "as AWS's front end answers"
    wait_until("it is recorded", lambda: recorded)
    ((address, name, reason, message),) = recorded
    assert (address, name, reason) == ("192.0.2.7", carrier, "UNKNOWN_PATH")
    assert message.startswith(told)


def test_protocol_violation_closes_the_websocket(endpoints, opened):
    *_, close = connect(endpoints, PASSWORD, "hello")
    assert (close["code"], close["reason"]) == (1002, "a text message is not `call` or `bye`")
