"""The session recording server's sockets, transactions and dialogs (RFC 3261, RFC 4028, RFC 7866).

Requests within a dialog are sent back the way its last request came, so nothing that is sent chooses an
address that the service sends to.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

from sonant.addresses import Network, is_in, parse_address
from sonant.carriers.naming import session_name
from sonant.carriers.refusals import RefusalReason
from sonant.carriers.relay import OpenStream, relay
from sonant.carriers.servers import ServerContext
from sonant.carriers.siprec.call import Flow, RecordingCall, SiprecAdapter
from sonant.carriers.siprec.message import (
    MAX_HEAD_BYTES,
    SipFault,
    SipMessage,
    body_length,
    parse,
    parts_of,
    respond,
    response_port,
)
from sonant.carriers.siprec.metadata import Metadata, parse_metadata
from sonant.carriers.siprec.sdp import Media, parse_offer
from sonant.errors import AccessDenied, ResourceNotFound, SetupError, Throttling, Validation, WireError
from sonant.sessions.calls import Call, EndReason
from sonant.sessions.stream import Stream
from sonant.token_bucket import TokenBucket

log = logging.getLogger(__name__)

#: RFC 3261, in seconds: first and longest interval of repetitions, and when they end.
T1_S, T2_S, GIVE_UP_S = 0.5, 4.0, 32.0
#: A call without packets is asked for a sign of life at this interval, and is dead without one.
PROBE_S = 10.0
WATCH_S = 2.0
_MOST_TRANSACTIONS, _MOST_TCP = 4096, 64
#: Messages a second, and at once; more are dropped, and repeated by their sender.
_MESSAGES_PER_S, _MESSAGES_AT_ONCE = 200.0, 1000.0
_MIN_EXPIRES_S = 90
_ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE"
_CAPABILITIES = (
    ("Allow", _ALLOW),
    ("Accept", "application/sdp, application/rs-metadata, application/rs-metadata+xml, multipart/mixed"),
    ("Supported", "siprec, timer"),
)
_METADATA = ("application/rs-metadata+xml", "application/rs-metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiprecConfig:
    """What the settings say."""

    host: str
    port: int
    peers: tuple[Network, ...]
    address: str
    """The address that clients are told to send to."""
    rtp_ports: range
    domain_id: str
    agents: str
    """Regular expression of the addresses of record that are no customers."""
    speaker: str
    """`user`, the name of an element of the participant, or empty."""
    session_header: str
    """Header of the INVITE that names the session; empty for the metadata."""


@dataclass(slots=True)
class _Transaction:
    response: bytes = b""
    flow: Flow | None = None
    call: RecordingCall | None = None
    repeating: asyncio.Task[None] | None = None


class SiprecServer:
    """Takes recording sessions while the app runs; see `servers.CarrierServer`."""

    def __init__(self, config: SiprecConfig, context: ServerContext) -> None:
        """Bind the ports. Raises SetupError."""
        self._config, self._context = config, context
        self._udp = _bind(socket.SOCK_DGRAM, config)
        try:
            self._tcp = _bind(socket.SOCK_STREAM, config)
        except SetupError:
            self._udp.close()
            raise
        self._server: asyncio.Server | None = None
        self._datagrams: asyncio.DatagramTransport | None = None
        self._calls: dict[tuple[str, str, str], RecordingCall] = {}
        self._transactions: dict[tuple[str, str, str, str], _Transaction] = {}
        self._answers: dict[str, asyncio.Future[int]] = {}
        """Of requests of the service, by their branch."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_port = 0
        self._connections = 0

    async def start(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(_MESSAGES_PER_S, _MESSAGES_AT_ONCE, loop.time())
        self._datagrams, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._receive_datagram), sock=self._udp
        )
        self._server = await asyncio.start_server(self._serve_tcp, sock=self._tcp, limit=MAX_HEAD_BYTES)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cancel_all(GIVE_UP_S)
        await self._cancel_all(0.0, after_s=T1_S)  # a moment for the BYE of each call
        if self._datagrams is not None:
            self._datagrams.close()

    async def _cancel_all(self, wait_s: float, after_s: float = 0.0) -> None:
        if self._tasks and after_s:
            await asyncio.wait(set(self._tasks), timeout=after_s)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=wait_s)

    def close(self) -> None:
        if self._server is None:
            self._tcp.close()
            self._udp.close()

    # --- messages

    def _receive_datagram(self, data: bytes, source: tuple[str, int]) -> None:
        datagrams = self._datagrams
        assert datagrams is not None
        flow = Flow(partial(_send_datagram, datagrams, source), source[0], source[1], reliable=False)
        if not self._admits(source[0]) or not data.strip():
            return
        self._receive(data, flow)

    def _admits(self, address: str) -> bool:
        if is_in(parse_address(address), self._config.peers):
            return True
        error = AccessDenied("The address is not one of live.siprec_peers.")
        self._context.caller_of(address).note_refusal(RefusalReason.AUTHENTICATION, error)
        return False

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername") or ("", 0)
        admitted = self._admits(peer[0]) and self._connections < _MOST_TCP
        self._connections += 1
        task = self._keep(asyncio.current_task())
        try:
            if admitted:
                flow = Flow(partial(_send_bytes, writer), peer[0], peer[1], reliable=True)
                await self._read_tcp(reader, writer, flow)
        except (OSError, SipFault, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            pass  # the service stops
        finally:
            self._connections -= 1
            writer.close()
            self._tasks.discard(task)

    async def _read_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flow: Flow) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            while head.startswith(b"\r\n"):  # a keep-alive (RFC 5626) has no message
                if head == b"\r\n\r\n":
                    writer.write(b"\r\n")
                    head = await reader.readuntil(b"\r\n\r\n")
                else:
                    head = head[2:]
            body = await asyncio.wait_for(reader.readexactly(body_length(head[:-4])), GIVE_UP_S)
            self._receive(head + body, flow)
            await writer.drain()

    def _receive(self, data: bytes, flow: Flow) -> None:
        if not self._bucket.take(self._loop.time()):
            return
        try:
            message = parse(data)
        except SipFault as fault:
            self._note(flow, RefusalReason.PROTOCOL, str(fault))
            return
        if message.status:
            waiting = self._answers.get(message.branch)
            if waiting is not None and not waiting.done() and message.status >= 200:
                waiting.set_result(message.status)
            return
        if not flow.reliable and self._datagrams is not None:
            flow.send = partial(
                _send_datagram, self._datagrams, (flow.address, response_port(message, flow.port))
            )
        self._take(message, flow)

    def _take(self, request: SipMessage, flow: Flow) -> None:
        known = self._transactions.get(request.transaction)
        if request.method == "ACK":
            self._acknowledge(request, known)
            return
        if known is not None:
            if known.response:
                flow.send(known.response)
            return
        if len(self._transactions) >= _MOST_TRANSACTIONS:
            return
        self._transactions[request.transaction] = _Transaction(flow=flow)
        self._loop.call_later(GIVE_UP_S, self._transactions.pop, request.transaction, None)
        try:
            self._dispatch(request, flow)
        except SipFault as fault:
            reason = RefusalReason.LIMIT if fault.status == 503 else RefusalReason.PROTOCOL
            if request.method == "INVITE" and not request.to_tag:
                self._note(flow, reason, str(fault))
            headers = (*fault.headers, ("Warning", f'399 sonant "{fault}"'))
            self._respond(request, flow, fault.status, headers=headers)
        except Exception:  # a failure of one call must not affect others
            log.exception("a SIP request failed")
            self._respond(request, flow, 500)

    def _dispatch(self, request: SipMessage, flow: Flow) -> None:
        if request.method == "CANCEL":
            self._cancel(request, flow)
            return
        if request.method not in _ALLOW.split(", "):
            raise SipFault("the method is not supported", 405, _CAPABILITIES[:1])
        if unknown := request.options("require") - {"siprec", "timer"}:
            tags = ", ".join(sorted(unknown))[:200]
            raise SipFault("an extension that is required is not supported", 420, [("Unsupported", tags)])
        call = (
            self._calls.get((request.call_id, request.from_tag, request.to_tag)) if request.to_tag else None
        )
        if call is not None:
            self._within(call, request, flow)
        elif request.method == "OPTIONS" and not request.to_tag:
            self._respond(request, flow, 200, headers=_CAPABILITIES)
        elif request.method == "INVITE" and not request.to_tag:
            self._begin(request, flow)
        else:
            raise SipFault("there is no such call", 481)

    # --- a new recording session

    def _begin(self, request: SipMessage, flow: Flow) -> None:
        if any(key[:2] == (request.call_id, request.from_tag) for key in self._calls):
            raise SipFault("the request came twice", 482)
        offer, metadata = _bodies(request, Metadata())
        if offer is None or metadata is None:
            if "siprec" not in request.options("require") | request.options("supported"):
                raise SipFault("this is a session recording server", 421, [("Require", "siprec")])
            raise SipFault("the INVITE has no session description, or no recording metadata", 488)
        expires = _session_expires(request)
        customer = metadata.customer(self._config.agents)
        if not customer:
            raise SipFault("the recording metadata names no customer who sends a stream", 488)
        named = self._named(request, metadata, customer)
        with ExitStack() as held:
            try:
                held.enter_context(self._context.limiter.acquire()).assign(self._context.account_id)
            except Throttling as error:
                message = error.message or "there are too many calls"
                raise SipFault(message, 503, [("Retry-After", "10")]) from None
            ports = self._open_ports(sum(media.usable for media in offer))
            for port in ports:
                held.callback(port.close)
            call = RecordingCall(
                request,
                flow,
                offer,
                metadata,
                customer,
                ports,
                self._config.address,
                self._opened,
                self._closed,
            )
            leave = held.pop_all().close
        call.expires_s = expires
        self._calls[call.key] = call
        self._transactions[request.transaction].call = call
        self._respond(request, flow, 100)
        self._keep(self._loop.create_task(self._run(call, named, leave)))

    def _named(self, request: SipMessage, metadata: Metadata, customer: str) -> Call:
        """Return the call that a recording session is of."""
        header, ids = self._config.session_header, metadata.session_ids
        given = request.header(header.lower()) if header else ""
        session = next(filter(None, map(session_name, (given, *ids, request.call_id))), "")
        participant, speaker = metadata.participants[customer], self._config.speaker
        speaker_id = participant.user if speaker == "user" else participant.texts.get(speaker, "")
        return Call(
            account_id=self._context.account_id,
            domain_id=self._config.domain_id,
            session=session,
            speaker_id=speaker_id or None,
            create=True,
        )

    def _open_ports(self, count: int) -> list[socket.socket]:
        """Bind ports for streams. Raises SipFault."""
        host, ports = self._config.host, self._config.rtp_ports
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found: list[socket.socket] = []
        for _ in ports:
            if len(found) == count:
                break
            self._next_port = (self._next_port + 1) % len(ports)
            bound = socket.socket(family, socket.SOCK_DGRAM)
            bound.setblocking(False)
            try:
                bound.bind((host, ports[self._next_port]))
                found.append(bound)
            except OSError:
                bound.close()
        if len(found) < count:
            for bound in found:
                bound.close()
            raise SipFault("all ports for audio are in use", 503, [("Retry-After", "10")])
        return found

    async def _run(self, call: RecordingCall, named: Call, leave: Callable[[], None]) -> None:
        caller = self._context.caller_of(call.flow.address)
        opening = _Opening(caller.open_stream)
        call.tasks.add(self._loop.create_task(self._watch(call)))
        try:
            reason = await relay(
                call,
                SiprecAdapter(named),
                threads=self._context.threads,
                open_stream=opening,
                note_refusal=caller.note_refusal,
            )
            if not call.answered:
                status, error = 487 if reason == EndReason.CALL_ENDED else 480, opening.error
                headers: Sequence[tuple[str, str]] = ()
                if error is not None:
                    status = _STATUSES.get(type(error), 403)
                    headers = (("Warning", f'399 sonant "{_quoted(error)}"'),)
                self._respond(call.invite, call.flow, status, headers=headers, tag=call.tag)
        finally:
            self._calls.pop(call.key, None)
            call.release()
            leave()

    def _opened(self, call: RecordingCall) -> None:
        """Answer the INVITE: the stream is open."""
        call.answered = True
        self._accept(call, call.invite, call.answer())

    def _accept(self, call: RecordingCall, request: SipMessage, body: bytes) -> None:
        """Send 200, for an INVITE until it is acknowledged."""
        address = f"[{self._config.address}]" if ":" in self._config.address else self._config.address
        transport = ";transport=tcp" if call.flow.reliable else ""
        contact = f"<sip:sonant@{address}:{self._config.port}{transport}>;+sip.srs"
        headers = [("Contact", contact), *_CAPABILITIES]
        if call.expires_s:
            headers += [("Session-Expires", f"{call.expires_s};refresher=uac")]
            headers += [("Require", "timer")] if "timer" in request.options("supported") else []
        if body:
            headers.append(("Content-Type", "application/sdp"))
        response = self._respond(request, call.flow, 200, headers=headers, body=body, tag=call.tag)
        if request.method == "INVITE":
            call.acknowledged = False
            call.tasks.add(self._loop.create_task(self._repeat_accepted(call, response)))

    async def _repeat_accepted(self, call: RecordingCall, response: bytes) -> None:
        """Repeat the 200 of an INVITE until its ACK comes (RFC 3261 13.3.1.4)."""
        async for _ in _intervals():
            if call.acknowledged or call.over:
                return
            call.flow.send(response)
        if not call.acknowledged:
            await self._bye(call, EndReason.DISCONNECTED)

    def _closed(self, call: RecordingCall, _reason: str) -> None:
        """Hang up: the service has ended the call."""
        if call.answered:
            self._keep(self._loop.create_task(self._hang_up(call)))

    async def _hang_up(self, call: RecordingCall) -> None:
        await self._request(call, "BYE")

    async def _bye(self, call: RecordingCall, reason: EndReason) -> None:
        """End a call whose client is not to be reached; the BYE is for a client that still listens."""
        self._keep(self._loop.create_task(self._hang_up(call)))
        call.end(reason)

    # --- requests within a recording session

    def _within(self, call: RecordingCall, request: SipMessage, flow: Flow) -> None:
        if request.cseq <= call.remote_cseq:
            raise SipFault("the request is older than one before it", 500)
        call.remote_cseq, call.flow = request.cseq, flow
        call.last_sign_s = self._loop.time()
        if request.method == "OPTIONS":
            self._respond(request, flow, 200, headers=_CAPABILITIES)
        elif request.method == "BYE":
            call.end(EndReason.CALL_ENDED)
            self._respond(request, flow, 200)
        else:
            if not call.answered:
                raise SipFault("the call is not answered yet", 491)
            offer, metadata = _bodies(request, call.metadata)
            expires = _session_expires(request)
            call.update(offer, metadata or call.metadata)
            call.expires_s, call.refreshed_s = expires or call.expires_s, self._loop.time()
            self._accept(
                call, request, b"" if offer is None and request.method == "UPDATE" else call.answer()
            )

    def _acknowledge(self, request: SipMessage, known: _Transaction | None) -> None:
        if known is not None and known.repeating is not None:
            known.repeating.cancel()  # of a refusal
        call = self._calls.get((request.call_id, request.from_tag, request.to_tag))
        if call is not None and call.answered:
            call.acknowledged = True
            call.last_sign_s = self._loop.time()

    def _cancel(self, request: SipMessage, flow: Flow) -> None:
        branch, sent_by, call_id, _ = request.transaction
        begun = self._transactions.get((branch, sent_by, call_id, f"{request.cseq} INVITE"))
        if begun is None:
            raise SipFault("there is no such request", 481)
        self._respond(request, flow, 200)
        if begun.call is not None and not begun.call.answered:
            begun.call.end(EndReason.CALL_ENDED)

    async def _watch(self, call: RecordingCall) -> None:
        """End a call whose client is gone: it sends nothing and does not answer, or its session expires."""
        while not call.over:
            await asyncio.sleep(WATCH_S)
            now_s = self._loop.time()
            expired = call.expires_s and now_s - call.refreshed_s > call.expires_s
            if call.answered and (
                expired or (now_s - call.last_sign_s > PROBE_S and await self._is_gone(call))
            ):
                await self._bye(call, EndReason.DISCONNECTED)

    async def _is_gone(self, call: RecordingCall) -> bool:
        try:
            status = await asyncio.wait_for(self._request(call, "OPTIONS"), PROBE_S)
        except TimeoutError:
            status = 408
        if status not in (408, 481):
            call.last_sign_s = self._loop.time()
        return status in (408, 481) and not call.over

    # --- sending

    def _respond(
        self,
        request: SipMessage,
        flow: Flow,
        status: int,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        tag: str = "",
    ) -> bytes:
        """Send and return a response, and keep it for repetitions of its request."""
        tag = tag or (secrets.token_hex(8) if status > 100 else "")
        data = respond(request, status, to_tag=tag, source=flow.source, headers=headers, body=body)
        flow.send(data)
        transaction = self._transactions.get(request.transaction)
        if transaction is None:
            return data
        transaction.response = data
        if request.method == "INVITE" and status >= 300 and not flow.reliable:
            transaction.repeating = self._keep(self._loop.create_task(self._repeat(flow, data)))
        return data

    async def _repeat(self, flow: Flow, data: bytes) -> None:
        async for _ in _intervals():
            flow.send(data)

    async def _request(self, call: RecordingCall, method: str) -> int:
        """Send a request within a dialog and return the status of its response, 408 for none."""
        call.local_cseq += 1
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        answer: asyncio.Future[int] = self._loop.create_future()
        self._answers[branch] = answer
        data = _request_of(call, method, branch, self._config)
        call.flow.send(data)
        repeating = None
        if not call.flow.reliable:
            repeating = self._keep(self._loop.create_task(self._repeat(call.flow, data)))
        try:
            return await asyncio.wait_for(answer, GIVE_UP_S)
        except TimeoutError:
            return 408
        finally:
            if repeating is not None:
                repeating.cancel()
            del self._answers[branch]

    def _note(self, flow: Flow, reason: RefusalReason, message: str) -> None:
        self._context.caller_of(flow.address).note_refusal(reason, Validation(message))

    def _keep(self, task: asyncio.Task[None] | None) -> asyncio.Task[None]:
        """Keep a task until it is done."""
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Opening:
    """Opens a stream and keeps the error."""

    def __init__(self, open_stream: OpenStream) -> None:
        self._open_stream = open_stream
        self.error: WireError | None = None

    def __call__(self, call: Call) -> Stream:
        try:
            return self._open_stream(call)
        except WireError as error:
            self.error = error
            raise


_STATUSES: dict[type[WireError], int] = {Throttling: 503, ResourceNotFound: 404, Validation: 400}


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, receive: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._receive(data, (addr[0], addr[1]))


async def _intervals() -> AsyncIterator[None]:
    """Wait for each repetition in turn."""
    interval_s = T1_S
    end_s = asyncio.get_running_loop().time() + GIVE_UP_S
    while asyncio.get_running_loop().time() < end_s:
        await asyncio.sleep(interval_s)
        yield
        interval_s = min(2 * interval_s, T2_S)


def _bodies(request: SipMessage, earlier: Metadata) -> tuple[Sequence[Media] | None, Metadata | None]:
    """Return the offer and the metadata of a request, None for what it has not. Raises SipFault."""
    parts = parts_of(request)
    if parts and not parts.keys() & {"application/sdp", *_METADATA}:
        raise SipFault("the body is of a type that is not known", 415, _CAPABILITIES[1:2])
    document = next((parts[kind] for kind in _METADATA if kind in parts), None)
    offer = parse_offer(parts["application/sdp"]) if "application/sdp" in parts else None
    return offer, None if document is None else parse_metadata(document, earlier)


def _session_expires(request: SipMessage) -> int:
    """Return the session's interval in seconds, 0 for none. Raises SipFault for one that is too short."""
    value = request.header("session-expires").partition(";")[0].strip()
    if not value:
        return 0
    seconds = int(value) if value.isascii() and value.isdigit() and len(value) < 8 else 0
    if seconds < _MIN_EXPIRES_S:
        raise SipFault("the session's interval is too short", 422, [("Min-SE", str(_MIN_EXPIRES_S))])
    return seconds


def _request_of(call: RecordingCall, method: str, branch: str, config: SiprecConfig) -> bytes:
    """Build a request to the client within a dialog."""
    invite = call.invite
    contact = invite.header("contact")
    target = contact.partition("<")[2].partition(">")[0] or contact.partition(";")[0] or "sip:invalid"
    address = f"[{config.address}]" if ":" in config.address else config.address
    transport = "TCP" if call.flow.reliable else "UDP"
    tagged = "" if invite.to_tag else f";tag={call.tag}"
    lines = [
        f"{method} {target.replace(' ', '')} SIP/2.0",
        f"Via: SIP/2.0/{transport} {address}:{config.port};branch={branch};rport",
        "Max-Forwards: 70",
        *(f"Route: {route}" for route in invite.all("record-route")),
        f"From: {invite.header('to')}{tagged}",
        f"To: {invite.header('from')}",
        f"Call-ID: {invite.call_id}",
        f"CSeq: {call.local_cseq} {method}",
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def _quoted(error: WireError) -> str:
    """Return an error's message as it may stand between quotation marks in a header."""
    message = error.message or error.code
    return "".join(one for one in message if one.isascii() and one.isprintable() and one not in '"\\')[:200]


def _send_datagram(datagrams: asyncio.DatagramTransport, target: tuple[str, int], data: bytes) -> None:
    if not datagrams.is_closing():
        datagrams.sendto(data, target)


def _send_bytes(writer: asyncio.StreamWriter, data: bytes) -> None:
    with suppress(OSError, RuntimeError):
        if not writer.is_closing():
            writer.write(data)


def _bind(kind: socket.SocketKind, config: SiprecConfig) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET, kind)
    if kind == socket.SOCK_STREAM:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setblocking(False)
    try:
        bound.bind((config.host, config.port))
    except OSError as fault:
        bound.close()
        raise SetupError(
            f"cannot listen on {config.host}:{config.port} for SIPREC: {fault.strerror or fault}; "
            "set live.siprec_host and live.siprec_port"
        ) from None
    return bound
