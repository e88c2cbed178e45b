"""A load generator for one small keep-alive request, repeated over several connections.

One process, one epoll loop, raw sockets: it costs some ten microseconds a request, so that a server in Python
is what is measured. Its own CPU time is reported, to show that it was not the bottleneck.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT_S = 10.0
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a run gave."""

    elapsed_s: float
    client_cpu_s: float
    latencies_s: list[float]
    """Of every answer."""

    def __add__(self, other: Load) -> Load:
        """Two runs as one."""
        return Load(
            elapsed_s=self.elapsed_s + other.elapsed_s,
            client_cpu_s=self.client_cpu_s + other.client_cpu_s,
            latencies_s=self.latencies_s + other.latencies_s,
        )

    @property
    def requests(self) -> int:
        return len(self.latencies_s)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.elapsed_s

    def percentile_ms(self, percent: int) -> float:
        """The latency that `percent` of the answers did not exceed."""
        return 1000 * sorted(self.latencies_s)[self.requests * percent // 100]


def request_bytes(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    parts = urlsplit(url)
    fields = {"host": parts.netloc, **{name.lower(): value for name, value in headers.items()}}
    fields["content-length"] = str(len(body))
    lines = [f"POST {parts.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("latin-1") + _HEAD_END + body


def run(url: str, request: bytes, *, connections: int, seconds: float) -> Load:
    """Send `request` over `connections` at once, each again as soon as it was answered.

    Raises RuntimeError for any answer but 200, or when the server stays silent.
    """
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 80)
    poller = select.epoll()
    open_: dict[int, _Connection] = {}

    def connect() -> None:
        connection = _Connection(socket.create_connection(address, TIMEOUT_S))
        open_[connection.socket.fileno()] = connection
        poller.register(connection.socket, select.EPOLLIN)
        connection.send(request)

    try:
        for _ in range(connections):
            connect()
        took: list[float] = []
        begun, cpu = time.perf_counter(), time.process_time()
        end = begun + seconds
        while (now := time.perf_counter()) < end:
            events = poller.poll(TIMEOUT_S)
            if not events:
                raise RuntimeError(f"{url} did not answer within {TIMEOUT_S:.0f} s")
            for number, _ in events:
                connection = open_[number]
                if not connection.receive():
                    continue
                took.append(time.perf_counter() - connection.sent_at)
                if connection.closes:
                    poller.unregister(number)
                    open_.pop(number).socket.close()
                    connect()
                else:
                    connection.send(request)
        elapsed, cpu = now - begun, time.process_time() - cpu
    finally:
        for connection in open_.values():
            connection.socket.close()
        poller.close()
    return Load(elapsed_s=elapsed, client_cpu_s=cpu, latencies_s=took)


class _Connection:
    """One connection with at most one request under way."""

    __slots__ = ("_had", "closes", "sent_at", "socket")

    def __init__(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connected
        self.sent_at = 0.0
        self.closes = False
        self._had = b""

    def send(self, request: bytes) -> None:
        self._had = b""
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what is there; whether the answer is complete."""
        piece = self.socket.recv(65536)
        self._had += piece
        head_end = self._had.find(_HEAD_END)
        if head_end < 0:
            if not piece:
                raise RuntimeError("the server closed a connection instead of answering")
            return False
        head = self._had[:head_end].lower()
        if head[9:12] != b"200":
            raise RuntimeError(f"the server answered {self._had[:500]!r}")
        self.closes = b"connection: close" in head
        at = head.index(b"content-length:") + 15
        length = int(head[at:].split(b"\r\n", 1)[0])
        return len(self._had) >= head_end + len(_HEAD_END) + length
