"""HTTP connections that are kept, slow, broken or hostile, and do not disturb each other."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from service_process import ServiceProcess
from signed_http import answer_of, call, exchange, headers_for
from waiting import PATIENCE_S

from sonant.gateway.http_connection import HEAD_TIME_S

LIST = "VoiceID.ListDomains"


def raw_request(service: ServiceProcess, body: bytes = b"{}") -> bytes:
    headers = {**headers_for(service, LIST, body), "Content-Length": str(len(body))}
    lines = ["POST / HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


@contextlib.contextmanager
def connected(service: ServiceProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as connection:
        yield connection


def head_of(connection: socket.socket) -> bytes:
    """What comes until the end of a response's headers, or of the connection."""
    received = b""
    while b"\r\n\r\n" not in received and (piece := connection.recv(65536)):
        received += piece
    return received


def assert_serves(service: ServiceProcess) -> None:
    assert call(service, LIST).status == 200


def test_one_connection_carries_many_requests(service: ServiceProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    connection.connect()
    own = connection.sock
    for number in range(200):
        # Faults, too, leave the connection in step.
        body = (b"{}", b"nonsense", b'{"MaxResults": 0}', b"")[number % 4]
        connection.request("POST", "/", body=body, headers=headers_for(service, LIST, body))
        assert answer_of(connection).status == (200, 400, 400, 200)[number % 4]
        assert connection.sock is own
    connection.close()


def test_requests_in_one_packet_are_answered_in_order(service: ServiceProcess) -> None:
    bad = raw_request(service, b"nonsense")
    with connected(service) as connection:
        connection.sendall(raw_request(service) + bad + raw_request(service))
        received = b""
        while received.count(b"HTTP/1.1 ") < 3 or not received.endswith(b"}"):
            received += connection.recv(65536)
    statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"400", b"200"]


def test_a_request_may_come_byte_by_byte(service: ServiceProcess) -> None:
    with connected(service) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw_request(service):
            connection.sendall(bytes([byte]))
        assert head_of(connection).startswith(b"HTTP/1.1 200 ")


def test_missing_bodies_do_not_block_other_requests(service: ServiceProcess) -> None:
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(connected(service)) for _ in range(100)]  # more than there are threads
        for connection in waiting:
            connection.sendall(raw_request(service)[:-1])
        assert_serves(service)
        given_up, _, _ = select.select(waiting, [], [], 0)
        assert given_up == [], "it was answered while all of them waited"


def test_broken_connections_leave_nothing_behind(service: ServiceProcess) -> None:
    whole = raw_request(service)
    for length in (0, 1, 20, len(whole) // 2, len(whole) - 1, len(whole)):
        for _ in range(5):
            with connected(service) as connection:
                connection.sendall(whole[:length])
    assert_serves(service)
    assert service.process.poll() is None


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a plain port
        b"GARBAGE\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\n no name\r\n\r\n",
    ],
)
def test_other_protocols_are_refused(service: ServiceProcess, text: bytes) -> None:
    with connected(service) as connection:
        connection.sendall(text)
        with contextlib.suppress(ConnectionResetError):
            answer = head_of(connection)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert_serves(service)


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\n", b"X-Filler: " + b"x" * 1000 + b"\r\n"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nX-Filler: ", b"x" * 1000),
        (b"POST / HTTP/1.1\r\nHost: x\r\nX", b"x" * 1000),
        (b"POST /", b"x" * 1000),
    ],
)
def test_endless_headers_are_refused(service: ServiceProcess, begin: bytes, more: bytes) -> None:
    with connected(service) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(begin)
        for _ in range(1500):
            connection.sendall(more)
        answer = head_of(connection)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert_serves(service)


@pytest.mark.parametrize("count", [100, 101])
def test_too_many_headers_get_an_error_response(service: ServiceProcess, count: int) -> None:
    filler = {f"x-filler-{number}": "x" for number in range(count - 6)}
    headers = {**headers_for(service, LIST, b"{}", more=filler), "Content-Length": "2"}
    assert len(headers) == count
    answer = exchange(service, headers, b"{}")
    if count == 100:
        assert answer.status == 200
    else:
        assert (answer.status, answer.fault) == (400, "InvalidSignatureException")


@pytest.mark.slow
def test_idle_connections_are_closed_after_half_a_minute(service: ServiceProcess) -> None:
    assert HEAD_TIME_S == 30
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(service)) for _ in range(4)]
        whole = raw_request(service)
        for connection, text in zip(connections, (b"", b"\r\n", whole[:40], whole), strict=True):
            connection.settimeout(PATIENCE_S)
            connection.sendall(text)
        assert head_of(connections[3]).startswith(b"HTTP/1.1 200 ")
        for connection in connections:
            while connection.recv(65536):
                pass


def test_an_upgrade_to_a_websocket_is_refused(service: ServiceProcess) -> None:
    with connected(service) as connection:
        connection.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        status = head_of(connection).split(b"\r\n")[0]
        assert status.split()[1] in (b"400", b"403", b"404")
    assert_serves(service)


def test_expect_100_continue_is_answered_before_a_large_body(service: ServiceProcess) -> None:
    headers = {**headers_for(service, LIST), "Content-Length": str(1 << 30), "Expect": "100-continue"}
    lines = ["POST / HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    with connected(service) as connection:
        connection.sendall("\r\n".join(lines).encode())
        assert head_of(connection).startswith(b"HTTP/1.1 413 ")


def test_many_concurrent_requests_are_all_answered(service: ServiceProcess) -> None:
    with ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(lambda _: call(service, LIST).status, range(300)))
    assert statuses == [200] * 300
