"""One recording session: its dialog, its streams of RTP, and the connection that `relay` reads from."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sonant.carriers.carrier import Audio, Effect, End, Open, Reply
from sonant.carriers.encoding import decoder
from sonant.carriers.siprec.message import SipFault, SipMessage
from sonant.carriers.siprec.metadata import Metadata
from sonant.carriers.siprec.rtp import RATE_HZ, RtpReceiver, Samples
from sonant.carriers.siprec.sdp import Media, answer
from sonant.sessions.calls import Call, EndReason, StreamFault

#: Messages of samples that wait for the relay: five seconds of frames of 20 ms.
_MOST_WAITING = 250
#: Largest datagram that is read; a longer one is no packet of telephone audio.
_MOST_DATAGRAM = 2048


class SiprecAdapter:
    """Opens the stream at the first message, an empty text; all others are samples."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._decode = decoder("pcm_s16le")

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        if isinstance(message, str):
            return (Open(self._call),)
        return (Audio(self._decode(message), RATE_HZ),)

    def opened(self, session_id: str) -> Sequence[Effect]:
        return (Reply(b""),)

    def refused(self, message: str) -> Sequence[Effect]:
        return (End(EndReason.NEVER_BEGAN),)

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        return (End(reason),)


@dataclass(slots=True)
class Flow:
    """The way to the other side: a TCP connection, or an address of datagrams."""

    send: Callable[[bytes], None]
    address: str
    port: int
    reliable: bool

    @property
    def source(self) -> tuple[str, int] | None:
        """Where a datagram came from."""
        return None if self.reliable else (self.address, self.port)


@dataclass(slots=True)
class _Port:
    """One bound port, and the stream that is received at it."""

    socket: socket.socket
    receiver: RtpReceiver | None = None
    source: tuple[str, int] | None = None
    """The one source of packets, once the first has come."""


class RecordingCall:
    """A recording session between its INVITE and its BYE. Lives on the event loop; see `relay.Connection`."""

    def __init__(
        self,
        request: SipMessage,
        flow: Flow,
        offer: Sequence[Media],
        metadata: Metadata,
        customer: str,
        ports: Sequence[socket.socket],
        address: str,
        on_opened: Callable[[RecordingCall], None],
        on_closed: Callable[[RecordingCall, str], None],
    ) -> None:
        """`ports` are bound, one for each usable stream. `on_opened` sends the answer; `on_closed` tells the
        other side, with a sentence, that the service has ended the call. Raises SipFault."""
        self._loop = asyncio.get_running_loop()
        self.invite, self.flow, self.tag = request, flow, secrets.token_hex(8)
        self.metadata, self._customer, self._address = metadata, customer, address
        self._on_opened, self._on_closed = on_opened, on_closed
        self.remote_cseq, self.local_cseq = request.cseq, 0
        self.answered = self.acknowledged = self.over = False
        self.expires_s, self.last_sign_s = 0, self._loop.time()
        self.refreshed_s = self.last_sign_s
        self.tasks: set[asyncio.Task[None]] = set()
        self._queue: asyncio.Queue[str | bytes | EndReason] = asyncio.Queue(_MOST_WAITING + 2)
        self._queue.put_nowait("")
        self._version = 0
        self._label = ""
        self._ports: dict[int, _Port] = {}
        free = list(ports)
        for number, media in enumerate(offer):
            if media.usable:
                self._ports[number] = _Port(free.pop())
        self._offer: Sequence[Media] = ()
        self.update(offer, metadata)

    @property
    def key(self) -> tuple[str, str, str]:
        """What names the dialog."""
        return self.invite.call_id, self.invite.from_tag, self.tag

    def update(self, offer: Sequence[Media] | None, metadata: Metadata) -> None:
        """Set what a request says. Raises SipFault when the first has no stream of the customer."""
        offer = self._offer if offer is None else offer
        labels = metadata.labels_of(self._customer) or {self._label}
        usable = {number: media for number, media in enumerate(offer) if media.usable}
        chosen = next((number for number, media in usable.items() if media.label in labels), None)
        if chosen is None and not self._offer:
            raise SipFault("the customer's stream is not offered as PCMU or PCMA over RTP/AVP", 488)
        self.metadata = metadata
        if list(offer) != list(self._offer):
            self._version += 1
            self._listen(chosen, offer)
        self._offer = offer

    def answer(self) -> bytes:
        """Return the session description that answers the last offer."""
        ports = [
            self._ports[number].socket.getsockname()[1] if media.usable and number in self._ports else 0
            for number, media in enumerate(self._offer)
        ]
        return answer(self._offer, ports, self._address, self._version)

    def _listen(self, chosen: int | None, offer: Sequence[Media]) -> None:
        """Receive the chosen stream; what comes at the other ports is not read."""
        for number, port in self._ports.items():
            self._loop.remove_reader(port.socket)
            if port.receiver is not None:
                port.receiver.flush()
            port.receiver = port.source = None
            if number == chosen:
                media = offer[number]
                self._label = media.label
                port.receiver = RtpReceiver(media.payload_type, media.codec, self._push)
                self._loop.add_reader(port.socket, self._read, port, media.address)

    def _read(self, port: _Port, announced: str) -> None:
        """Take the packets that wait, if they come from where the client said, or from where it calls."""
        for _ in range(32):
            try:
                packet, source = port.socket.recvfrom(_MOST_DATAGRAM)
            except OSError:
                return
            if source[0] not in (announced, self.flow.address) or port.source not in (None, source[:2]):
                continue
            if port.receiver is not None and port.receiver.receive(packet):
                port.source = source[:2]
                self.last_sign_s = self._loop.time()

    def _push(self, samples: Samples) -> None:
        if self._queue.qsize() < _MOST_WAITING and not self.over:
            self._queue.put_nowait(samples.astype("<i2").tobytes())

    def end(self, reason: EndReason) -> None:
        """End the call from the client's side. What came before is still heard."""
        for port in self._ports.values():
            if port.receiver is not None:
                port.receiver.flush()
        if not self.over:
            self.over = True
            self._queue.put_nowait(reason)

    def release(self) -> None:
        """Close the ports and stop what waits."""
        self.over = True
        for port in self._ports.values():
            self._loop.remove_reader(port.socket)
            port.socket.close()
        for task in self.tasks:
            task.cancel()

    # --- the relay's side

    async def receive(self) -> str | bytes | EndReason:
        return await self._queue.get()

    async def send(self, message: str | bytes) -> None:
        """Answer the INVITE: the relay sends one message, when the stream is open."""
        if self.over:
            raise StreamFault("the call has ended", EndReason.CALL_ENDED)
        self._on_opened(self)

    async def close(self, _code: int, reason: str) -> None:
        self.over = True
        self._on_closed(self, reason)
