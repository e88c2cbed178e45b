"""TCP ports that carriers connect to."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from sonant.carriers.carrier import TcpCarrier
from sonant.carriers.limits import ConnectionLimiter
from sonant.carriers.refusals import RefusalReason
from sonant.carriers.relay import ConnectionBounds, NoteRefusal, OpenStream, relay
from sonant.errors import SetupError, Throttling, WireError
from sonant.gateway.connections import UNLIMITED, ConnectionTable
from sonant.gateway.keepalive import keep_alive
from sonant.sessions.calls import EndReason

log = logging.getLogger(__name__)

#: Bytes read at once: half a second of 20 ms packets, so that the limit of messages a second bounds bytes.
_READ_BYTES = 4096
#: Over TCP the call is named at once.
_BOUNDS = ConnectionBounds(open_s=5.0)


@dataclass(frozen=True, slots=True)
class TcpCaller:
    """What is done for the other side of one connection."""

    open_stream: OpenStream
    note_refusal: NoteRefusal


class TcpServer:
    """Takes a carrier's connections while the app runs."""

    def __init__(
        self,
        carrier: TcpCarrier,
        host: str,
        account_id: str,
        caller_of: Callable[[str], TcpCaller],
        limiter: ConnectionLimiter,
        threads: Executor,
        connections: ConnectionTable | None = None,
    ) -> None:
        """Bind the port. `caller_of` gets the IP address of a connection; `connections` counts them. Raises
        SetupError."""
        self._connections = connections or ConnectionTable(UNLIMITED)
        self._carrier, self._account_id = carrier, account_id
        self._caller_of, self._limiter, self._threads = caller_of, limiter, threads
        self._socket = _bind(carrier, host)
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket, limit=_READ_BYTES)

    async def stop(self) -> None:
        """Close the port, end the calls, and wait until their carriers are informed."""
        if self._server is not None:
            self._server.close()
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)

    def close(self) -> None:
        """Close the port if the server was never started."""
        if self._server is None:
            self._socket.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        counted = _CountedWriter(writer)
        descriptor = writer.get_extra_info("socket").fileno()
        caller = self._caller_of(peer[0] if peer else "")
        if not self._connections.admit(counted, peer[0] if peer else "", descriptor):
            caller.note_refusal(RefusalReason.LIMIT, Throttling("There are too many connections."))
            writer.transport.abort()
            return
        self._connections.busy(counted)  # the relay limits what it may take
        task = asyncio.current_task()
        if task is not None:
            self._calls.add(task)
        try:
            with self._limiter.acquire() as slot:
                slot.assign(self._account_id)
                await relay(
                    TcpConnection(reader, writer),
                    self._carrier.make_adapter(),
                    threads=self._threads,
                    open_stream=caller.open_stream,
                    note_refusal=caller.note_refusal,
                    bounds=_BOUNDS,
                )
        except WireError as error:
            caller.note_refusal(RefusalReason.of(error), error)
        except asyncio.CancelledError:
            pass  # the service stops
        finally:
            self._connections.closed(counted)
            writer.close()
            if task is not None:
                self._calls.discard(task)


class _CountedWriter:
    """A connection for the table of connections."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def drop(self) -> None:
        self._writer.transport.abort()


class TcpConnection:
    """A TCP connection; see `relay.Connection`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def receive(self) -> bytes | EndReason:
        try:
            # AudioSocket's documentation treats a closed socket like a hang-up packet.
            return await self._reader.read(_READ_BYTES) or EndReason.CALL_ENDED
        except OSError:
            return EndReason.DISCONNECTED

    async def send(self, message: str | bytes) -> None:
        self._writer.write(message if isinstance(message, bytes) else message.encode())
        await self._writer.drain()

    async def close(self, _code: int, _reason: str) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def _bind(carrier: TcpCarrier, host: str) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, carrier.port))
    except (OSError, OverflowError, UnicodeError) as fault:
        bound.close()
        raise SetupError(
            f"cannot listen on {host}:{carrier.port} for {carrier.title}: "
            f"{getattr(fault, 'strerror', None) or str(fault).rstrip('.')}; set {carrier.port_setting}"
        ) from None
    keep_alive(bound)
    if not _is_loopback(host):
        log.warning(
            "%s has no password: anybody who reaches port %d can bring audio", carrier.title, carrier.port
        )
    return bound


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
