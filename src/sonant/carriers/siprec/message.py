"""SIP messages (RFC 3261): a bounded parser for what a recording server receives, and the responses to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sonant.errors import SonantError

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024
_MOST_HEADERS, _LONGEST_HEADER, _MOST_PARTS = 100, 2048, 8
_START = re.compile(r"([A-Z]{1,20}) (\S{1,1024}) SIP/2\.0")
_STATUS = re.compile(r"SIP/2\.0 ([1-6][0-9]{2})(?: .*)?")
_NAME = re.compile(r"[A-Za-z0-9.!%*_+`'~-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CSEQ = re.compile(r"([0-9]{1,10})[ \t]+([A-Z]{1,20})")
_SENT_BY = re.compile(r"SIP[ \t]*/[ \t]*2\.0[ \t]*/[ \t]*[A-Za-z]{1,8}[ \t]+([A-Za-z0-9.:\[\]_-]{1,255})")
_BOUNDARY = re.compile(r'boundary="?([A-Za-z0-9\'()+_,./:=? -]{1,70})"?', re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_COMPACT = {
    "i": "call-id", "m": "contact", "e": "content-encoding", "l": "content-length", "c": "content-type",
    "f": "from", "s": "subject", "k": "supported", "t": "to", "v": "via", "x": "session-expires",
}  # fmt: skip
REASONS = {
    100: "Trying", 200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 415: "Unsupported Media Type", 420: "Bad Extension", 421: "Extension Required",
    422: "Session Interval Too Small", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 487: "Request Terminated",
    488: "Not Acceptable Here", 491: "Request Pending", 500: "Server Internal Error",
    503: "Service Unavailable",
}  # fmt: skip


class SipFault(SonantError):
    """A request that is refused. The message says why, and repeats nothing that was sent."""

    def __init__(self, message: str, status: int = 400, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status, self.headers = status, tuple(headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class SipMessage:
    """A request, or a response when `status` is not 0."""

    method: str
    """That of CSeq for a response."""
    status: int = 0
    cseq: int
    headers: Sequence[tuple[str, str]]
    """Names in lower case and in their long form."""
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str:
        """Return the first header of this name, empty if it is absent."""
        return next((value for known, value in self.headers if known == name), "")

    def all(self, name: str) -> list[str]:
        """Return all headers of this name."""
        return [value for known, value in self.headers if known == name]

    def options(self, name: str) -> set[str]:
        """Return the option tags of a header such as Require."""
        return {tag.strip().lower() for value in self.all(name) for tag in value.split(",") if tag.strip()}

    @property
    def call_id(self) -> str:
        return self.header("call-id")

    @property
    def from_tag(self) -> str:
        return parameter(self.header("from"), "tag")

    @property
    def to_tag(self) -> str:
        return parameter(self.header("to"), "tag")

    @property
    def branch(self) -> str:
        return parameter(self.top_via, "branch")

    @property
    def top_via(self) -> str:
        return self.header("via").partition(",")[0]

    @property
    def transaction(self) -> tuple[str, str, str, str]:
        """What a request and its retransmissions have in common; ACK has it of its INVITE."""
        found = _SENT_BY.match(self.top_via)
        method = "INVITE" if self.method == "ACK" else self.method
        return self.branch, found[1].lower() if found else "", self.call_id, f"{self.cseq} {method}"


def parameter(value: str, name: str) -> str:
    """Return a parameter of a header's value, as `tag` of `From`; empty if it is absent."""
    plain = _QUOTED.sub("", value)
    after = plain.rpartition(">")[2] if ">" in plain else plain
    for part in after.split(";")[1:]:
        key, _, found = part.partition("=")
        if key.strip().lower() == name:
            return found.strip()
    return ""


def body_length(head: bytes) -> int:
    """Return the Content-Length of the head of a message that comes over a byte stream. Raises SipFault."""
    return _length(_headers(head)[1]) or 0


def parse(data: bytes) -> SipMessage:
    """Parse a message. Raises SipFault."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator or len(head) > MAX_HEAD_BYTES:
        raise SipFault("a message has no end of its headers, or too many")
    start, headers = _headers(head)
    message = _begin(start, headers)
    for name in ("via", "from", "to", "call-id"):
        if not message.header(name):
            raise SipFault(f"a message has no {name}")
    length = _length(headers)
    if length is None:
        length = len(body)
    if length > min(len(body), MAX_BODY_BYTES):
        raise SipFault("a body is too long, or shorter than its Content-Length")
    return SipMessage(
        method=message.method, status=message.status, cseq=message.cseq, headers=headers, body=body[:length]
    )


def _begin(start: str, headers: Sequence[tuple[str, str]]) -> SipMessage:
    sequence = _CSEQ.fullmatch(next((value for name, value in headers if name == "cseq"), ""))
    if sequence is None or int(sequence[1]) >= 1 << 31:
        raise SipFault("a message has no CSeq, or a wrong one")
    number, method = int(sequence[1]), sequence[2]
    if (response := _STATUS.fullmatch(start)) is not None:
        return SipMessage(method=method, status=int(response[1]), cseq=number, headers=headers)
    request = _START.fullmatch(start)
    if request is None or request[1] != method:
        raise SipFault("a message does not begin as SIP does, or its CSeq names another method")
    return SipMessage(method=method, cseq=number, headers=headers)


def _headers(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    """Return the first line and the headers."""
    try:
        text = re.sub(r"\r\n[ \t]+", " ", head.decode())
    except UnicodeDecodeError:
        raise SipFault("a message is not UTF-8") from None
    start, *lines = text.split("\r\n")
    if len(lines) > _MOST_HEADERS or any(len(line) > _LONGEST_HEADER for line in lines):
        raise SipFault("a message has too many headers, or one that is too long")
    if any(_CONTROL.search(line) for line in (start, *lines)):
        raise SipFault("the headers of a message have control characters")
    found: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.rstrip().lower()
        if not colon or not _NAME.fullmatch(name):
            raise SipFault("a line of a message is not a header")
        found.append((_COMPACT.get(name, name), value.strip()))
    return start, found


def _length(headers: Sequence[tuple[str, str]]) -> int | None:
    given = {value for name, value in headers if name == "content-length"}
    if not given:
        return None
    value = given.pop()
    if given or not (
        value.isascii() and value.isdigit() and len(value) <= 6 and int(value) <= MAX_BODY_BYTES
    ):
        raise SipFault("Content-Length is not a number, or too large")
    return int(value)


def parts_of(message: SipMessage) -> dict[str, bytes]:
    """Return the parts of a body by their content type, the first of each. Raises SipFault."""
    if not message.body:
        return {}
    if message.header("content-encoding").lower() not in ("", "identity"):
        raise SipFault("the body is compressed", 415, [("Accept-Encoding", "identity")])
    kind = _content_type(message.header("content-type"))
    if kind != "multipart/mixed":
        return {kind: message.body}
    boundary = _BOUNDARY.search(message.header("content-type"))
    if boundary is None:
        raise SipFault("multipart/mixed has no boundary")
    pieces = (b"\r\n" + message.body).split(b"\r\n--" + boundary[1].rstrip().encode())
    if len(pieces) - 2 not in range(1, _MOST_PARTS + 1) or not pieces[-1].startswith(b"--"):
        raise SipFault("multipart/mixed has no parts, too many, or no end")
    found: dict[str, bytes] = {}
    for piece in pieces[1:-1]:
        head, _, content = piece.lstrip(b" \t").partition(b"\r\n\r\n")
        headers = dict(reversed(_headers(head)[1])) if head.strip() else {}
        found.setdefault(_content_type(headers.get("content-type", "text/plain")), content)
    return found


def _content_type(value: str) -> str:
    return value.partition(";")[0].strip().lower()


def respond(
    request: SipMessage,
    status: int,
    *,
    to_tag: str = "",
    source: tuple[str, int] | None = None,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> bytes:
    """Build a response. `source` is where a datagram came from (RFC 3581)."""
    lines = [f"SIP/2.0 {status} {REASONS[status]}"]
    for number, via in enumerate(request.all("via")):
        lines.append(f"Via: {_received(via, source) if number == 0 and source else via}")
    to = request.header("to")
    tag = f";tag={to_tag}" if to_tag and not request.to_tag else ""
    lines += [f"From: {request.header('from')}", f"To: {to}{tag}"]
    lines += [f"Call-ID: {request.call_id}", f"CSeq: {request.cseq} {request.method}"]
    lines += [f"Record-Route: {route}" for route in request.all("record-route")]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def _received(via: str, source: tuple[str, int]) -> str:
    top, comma, rest = via.partition(",")
    top = re.sub(r";\s*rport\s*(?=;|$)", f";rport={source[1]}", top)
    return f"{top};received={source[0]}{comma}{rest}"


def response_port(request: SipMessage, source_port: int) -> int:
    """Return the port that the response to a datagram is sent to (RFC 3261 18.2.2, RFC 3581)."""
    if re.search(r";\s*rport\s*(;|=|$)", request.top_via):
        return source_port
    found = _SENT_BY.match(request.top_via)
    port = found[1].rpartition(":")[2] if found and not found[1].endswith("]") and ":" in found[1] else "5060"
    return int(port) if port.isdigit() and 0 < int(port) < 65536 else source_port
