"""The TCP port that Asterisk's AudioSocket connects to.

The protocol has no password, so the port is opened on the host that the service listens on, which is a
loopback address unless set otherwise. The UUID is the session's name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from concurrent.futures import Executor

from sonant.carriers.audiosocket import AudioSocketAdapter
from sonant.carriers.connection import Bounds, carry
from sonant.carriers.limits import ConnectionLimiter
from sonant.carriers.parts import StreamOpener
from sonant.carriers.request import StreamRequest
from sonant.errors import SetupError, WireError
from sonant.sessions.calls import EndReason
from sonant.settings import Settings

log = logging.getLogger(__name__)

#: Bytes read at once: half a second of 20 ms packets, so that the limit of messages a second bounds bytes.
_READ_BYTES = 4096
#: The UUID comes at once.
_BOUNDS = Bounds(begin_s=5.0)


def bind(settings: Settings) -> socket.socket | None:
    """The listening socket; None if no port is set. Raises SetupError."""
    live, host = settings.live, settings.gateway.host
    if not live.audiosocket_port:
        return None
    if not live.domain:
        raise SetupError("setting live.audiosocket_port needs live.domain: AudioSocket names no domain")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, live.audiosocket_port))
    except (OSError, OverflowError, UnicodeError) as fault:
        listener.close()
        raise SetupError(
            f"cannot listen on {host}:{live.audiosocket_port} for AudioSocket: "
            f"{getattr(fault, 'strerror', None) or str(fault).rstrip('.')}; set live.audiosocket_port"
        ) from None
    if not _loopback(host):
        log.warning(
            "AudioSocket has no password: anybody who reaches port %d can bring audio", live.audiosocket_port
        )
    return listener


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class AudioSocketServer:
    """Serves while the app does."""

    def __init__(
        self,
        listener: socket.socket,
        settings: Settings,
        intake_for: Callable[[StreamRequest], StreamOpener],
        places: ConnectionLimiter,
        threads: Executor,
    ) -> None:
        self._listener, self._settings = listener, settings
        self._intake_for, self._places, self._threads = intake_for, places, threads
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._listener, limit=_READ_BYTES)

    async def stop(self) -> None:
        """Ends the calls, and waits until they are told so."""
        if self._server is not None:
            self._server.close()
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._calls.add(task)
        try:
            with self._places.visit() as place:
                place.name(self._settings.account)
                await self._carry(reader, writer)
        except WireError as fault:
            log.warning("an AudioSocket connection was refused: %s", fault)
        except asyncio.CancelledError:
            pass  # the service stops
        finally:
            writer.close()
            if task is not None:
                self._calls.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        request = StreamRequest(
            method="",
            raw_path=b"",
            query=b"",
            headers=(),
            source_ip=peer[0] if peer else "",
            secure=False,
        )
        adapter = AudioSocketAdapter(self._settings.account, self._settings.live.domain)
        intake = self._intake_for(request)
        await carry(_TcpConnection(reader, writer), adapter, intake, threads=self._threads, bounds=_BOUNDS)


class _TcpConnection:
    """See `carrying.Connection`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def receive(self) -> bytes | EndReason:
        try:
            # A closed socket is as good as a hang-up packet, says the protocol.
            return await self._reader.read(_READ_BYTES) or EndReason.CALL_ENDED
        except OSError:
            return EndReason.DISCONNECTED

    async def send(self, message: str | bytes) -> None:
        self._writer.write(message if isinstance(message, bytes) else message.encode())
        await self._writer.drain()

    async def close(self, code: int, reason: str) -> None:
        self._writer.close()
        await self._writer.wait_closed()
