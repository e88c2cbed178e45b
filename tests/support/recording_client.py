"""A small session recording client (SIPREC): brings a call as a session border controller does."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from waiting import PATIENCE_S, dawdle

CUSTOMER, AGENT = "sip:+anna@callers.example.com", "sip:agent7@agents.example.com"
FRAME = 160
_BOUNDARY = "part-of-a-recording"


def metadata(session: str, *, mode: str = "complete", first: str = CUSTOMER, second: str = AGENT) -> str:
    """Write the metadata of a call of two; the first sends the stream with the label 1."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1">
  <datamode>{mode}</datamode>
  <session session_id="hVpd7YQgRW2nD22h7q60JQ=="><sipSessionID>{session}</sipSessionID></session>
  <participant participant_id="p1"><nameID aor="{first}"><name xml:lang="en">Anna</name></nameID>
    <extension xmlns="urn:example"><customerId>anna</customerId></extension></participant>
  <participant participant_id="p2"><nameID aor="{second}"/></participant>
  <stream stream_id="s1" session_id="hVpd7YQgRW2nD22h7q60JQ=="><label>1</label></stream>
  <stream stream_id="s2" session_id="hVpd7YQgRW2nD22h7q60JQ=="><label>2</label></stream>
  <participantstreamassoc participant_id="p1"><send>s1</send><recv>s2</recv></participantstreamassoc>
  <participantstreamassoc participant_id="p2"><send>s2</send><recv>s1</recv></participantstreamassoc>
</recording>"""


def offer(ports: Sequence[int], *, direction: str = "sendonly", version: int = 1) -> str:
    """Write an offer of streams with the labels 1, 2 and so on."""
    lines = ["v=0", f"o=sbc 1 {version} IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
    for number, port in enumerate(ports, 1):
        lines += [
            f"m=audio {port} RTP/AVP 18 0 101",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:101 telephone-event/8000",
        ]
        lines += [f"a=label:{number}", f"a={direction}"]
    return "\r\n".join(lines) + "\r\n"


def multipart(*parts: tuple[str, str]) -> tuple[str, bytes]:
    """Write a body of parts; return its type and bytes."""
    text = "".join(
        f"--{_BOUNDARY}\r\nContent-Type: {kind}\r\nContent-Disposition: session\r\n\r\n{body}\r\n"
        for kind, body in parts
    )
    return f"multipart/mixed;boundary={_BOUNDARY}", f"{text}--{_BOUNDARY}--\r\n".encode()


@dataclass(frozen=True, slots=True)
class Message:
    """A received SIP message."""

    first: str
    headers: dict[str, str]
    body: str

    @property
    def status(self) -> int:
        """The status of a response, 0 for a request."""
        return int(self.first.split()[1]) if self.first.startswith("SIP/2.0 ") else 0


class RecordingClient:
    """One recording session over UDP or TCP."""

    def __init__(self, port: int, *, tcp: bool = False) -> None:
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        self.tcp, self._line = tcp, socket.socket(socket.AF_INET, kind)
        self._line.settimeout(PATIENCE_S)
        self._line.connect(("127.0.0.1", port))
        self._rest = b""
        self.media = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for one in self.media:
            one.bind(("127.0.0.1", 0))
        self.call_id, self._tag, self._to_tag = secrets.token_hex(12), secrets.token_hex(4), ""
        self._cseq, self._branch = 0, ""
        self.answered: list[int] = []
        """Ports of the answer."""
        self._sent = 0
        """Frames sent."""

    def __enter__(self) -> RecordingClient:
        return self

    def __exit__(self, *_fault: object) -> None:
        for one in (self._line, *self.media):
            one.close()

    @property
    def ports(self) -> list[int]:
        return [int(one.getsockname()[1]) for one in self.media]

    def send(
        self,
        method: str,
        kind: str = "",
        body: bytes = b"",
        *,
        extra: str = "",
        again: bool = False,
        require: str = "siprec",
    ) -> None:
        """Send a request; `again` one of the last transaction."""
        if not again:
            self._cseq += 1
            self._branch = f"z9hG4bK{secrets.token_hex(6)}"
        host, port = self._line.getsockname()
        to_tag = f";tag={self._to_tag}" if self._to_tag else ""
        lines = [
            f"{method} sip:srs@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/{'TCP' if self.tcp else 'UDP'} {host}:{port};branch={self._branch};rport",
            f'From: "SBC, one" <sip:src@{host}>;tag={self._tag}',
            f"To: <sip:srs@127.0.0.1>{to_tag}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self._cseq} {method}",
            f"Contact: <sip:src@{host}:{port}>;+sip.src",
            *([f"Require: {require}"] if require and method not in ("ACK", "CANCEL") else []),
            *([extra] if extra else []),
            *([f"Content-Type: {kind}"] if kind else []),
            f"Content-Length: {len(body)}",
        ]
        self._line.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def receive(self) -> Message:
        """Receive a message."""
        if not self.tcp:
            return _parsed(self._line.recv(65535))
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._line.recv(65535)
        length = int(_parsed(self._rest).headers["content-length"])
        size = self._rest.index(b"\r\n\r\n") + 4 + length
        while len(self._rest) < size:
            self._rest += self._line.recv(65535)
        message, self._rest = self._rest[:size], self._rest[size:]
        return _parsed(message)

    def final(self) -> Message:
        """Receive until a final response."""
        while (found := self.receive()).status < 200:
            pass
        return found

    def ask(self, method: str, kind: str = "", body: bytes = b"", **how: str) -> Message:
        """Send a request and return its final response; acknowledge it where it is of an INVITE."""
        self.send(method, kind, body, **how)  # type: ignore[arg-type]
        found = self.final()
        if method == "INVITE":
            if found.status == 200:
                self._to_tag = found.headers["to"].partition(";tag=")[2]
                self.answered = [
                    int(line.split()[1]) for line in found.body.splitlines() if line.startswith("m=audio")
                ]
            self.acknowledge()
        return found

    def acknowledge(self) -> None:
        self.send("ACK", again=True)

    def respond(self, request: Message) -> None:
        """Answer a request of the service with 200."""
        names = ("via", "from", "to", "call-id", "cseq")
        lines = ["SIP/2.0 200 OK", *(f"{name}: {request.headers[name]}" for name in names)]
        self._line.sendall("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode())

    def begin(self, session: str, **how: str) -> Message:
        """Begin a recording session."""
        parts = (
            ("application/sdp", offer(self.ports)),
            ("application/rs-metadata+xml", metadata(session, **how)),
        )
        return self.ask("INVITE", *multipart(*parts))

    def speak(self, customer: bytes, agent: bytes, *, source: int = 7) -> None:
        """Send frames of mu-law of both, as one frame of 20 ms each."""
        for line, data, port in zip(self.media, (customer, agent), self.answered, strict=True):
            line.sendto(rtp(self._sent, data, source=source), ("127.0.0.1", port))
        self._sent += 1

    def speak_all(self, customer: bytes, agent: bytes, pace_s: float = 0.004) -> None:
        """Send recordings of mu-law frame by frame, by default five times as fast as speech."""
        for place in range(0, min(len(customer), len(agent)) - FRAME + 1, FRAME):
            self.speak(customer[place : place + FRAME], agent[place : place + FRAME])
            dawdle(pace_s)


def rtp(number: int, payload: bytes, *, kind: int = 0, source: int = 7, stamp: int | None = None) -> bytes:
    """Write an RTP packet of a number; its timestamp is by default that of frames of 20 ms."""
    at = number * FRAME if stamp is None else stamp
    head = bytes((0x80, kind)) + (number % 65536).to_bytes(2, "big")
    return head + (at % (1 << 32)).to_bytes(4, "big") + source.to_bytes(4, "big") + payload


def _parsed(data: bytes) -> Message:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))
    }
    return Message(first, headers, body.decode())
