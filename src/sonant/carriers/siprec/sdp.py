"""Session descriptions (RFC 8866): offers of recording clients, and the answers to them (RFC 3264)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sonant.addresses import parse_address
from sonant.carriers.siprec.message import SipFault

_MOST_LINES, _MOST_MEDIA = 400, 8
_LABEL = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
_MEDIA = re.compile(
    r"([a-z]{1,16}) ([0-9]{1,5})(?:/[0-9]{1,3})? ([A-Za-z/]{1,32})((?: [0-9A-Za-z.*-]{1,16}){1,64})"
)
_RTPMAP = re.compile(r"([0-9]{1,3}) +([A-Za-z0-9.-]{1,32})/8000(?:/1)?", re.IGNORECASE)
#: Encodings by name, as `carriers.encoding` names them.
CODECS = {"pcmu": "mulaw", "pcma": "alaw"}
_STATIC = {0: "pcmu", 8: "pcma"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One offered stream."""

    kind: str
    protocol: str
    formats: str
    """As they were offered."""
    address: str
    port: int
    label: str = ""
    payload_type: int = -1
    """The first that can be decoded; -1 for none."""
    codec: str = ""
    sends: bool = True
    """Whether the client sends, or may."""

    @property
    def usable(self) -> bool:
        """Whether it can be received."""
        return self.kind == "audio" and self.protocol == "RTP/AVP" and self.port > 0 and bool(self.codec)


def parse_offer(body: bytes) -> tuple[Media, ...]:
    """Parse the streams of an offer, in order. Raises SipFault."""
    try:
        lines = body.decode().splitlines()
    except UnicodeDecodeError:
        raise SipFault("the session description is not UTF-8") from None
    if not lines or lines[0] != "v=0" or len(lines) > _MOST_LINES:
        raise SipFault("the session description does not begin with v=0, or is too long")
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("m="):
            blocks.append([])
        blocks[-1].append(line)
    session, *streams = blocks
    if not 0 < len(streams) <= _MOST_MEDIA:
        raise SipFault(f"the session description must have 1 to {_MOST_MEDIA} streams", 488)
    address, sends = _connection(session) or "", _sends(session, True)
    return tuple(_media(block, address, sends) for block in streams)


def _media(lines: Sequence[str], address: str, sends: bool) -> Media:
    found = _MEDIA.fullmatch(lines[0][2:].strip())
    if found is None:
        raise SipFault("a stream of the session description cannot be read")
    names = dict(_STATIC)
    label = ""
    for line in lines[1:]:
        if line.startswith("a=rtpmap:") and (mapped := _RTPMAP.fullmatch(line[9:].strip())):
            names[int(mapped[1])] = mapped[2].lower()
        elif line.startswith("a=label:") and _LABEL.fullmatch(line[8:].strip()):
            label = line[8:].strip()
    formats = found[4].strip()
    types = (int(one) for one in formats.split() if one.isdigit() and int(one) < 128)
    chosen = next((one for one in types if names.get(one) in CODECS), -1)
    return Media(
        kind=found[1],
        protocol=found[3].upper(),
        formats=formats,
        address=_connection(lines) or address,
        port=int(found[2]) if int(found[2]) < 65536 else 0,
        label=label,
        payload_type=chosen,
        codec=CODECS[names[chosen]] if chosen >= 0 else "",
        sends=_sends(lines, sends),
    )


def _connection(lines: Sequence[str]) -> str | None:
    for line in lines:
        if line.startswith("c=IN IP"):
            address = parse_address(line.split(" ")[-1].partition("/")[0])
            return str(address) if address is not None else ""
    return None


def _sends(lines: Sequence[str], default: bool) -> bool:
    for line in lines:
        if line in ("a=sendonly", "a=sendrecv"):
            return True
        if line in ("a=recvonly", "a=inactive"):
            return False
    return default


def answer(offer: Sequence[Media], ports: Sequence[int], address: str, version: int) -> bytes:
    """Build the answer: each stream is received at its port, or refused where that is 0."""
    family = "IP6" if ":" in address else "IP4"
    lines = ["v=0", f"o=sonant 1 {version} IN {family} {address}", "s=-", f"c=IN {family} {address}", "t=0 0"]
    for media, port in zip(offer, ports, strict=True):
        if not port:
            lines.append(f"m={media.kind} 0 {media.protocol} {media.formats}")
            continue
        name = next(name.upper() for name, codec in CODECS.items() if codec == media.codec)
        lines += [
            f"m=audio {port} RTP/AVP {media.payload_type}",
            f"a=rtpmap:{media.payload_type} {name}/8000",
        ]
        lines += [f"a=label:{media.label}"] if media.label else []
        lines.append("a=recvonly" if media.sends else "a=inactive")
    return ("\r\n".join(lines) + "\r\n").encode()
