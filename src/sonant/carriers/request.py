"""The HTTP request that opens a stream: its signature's parts, the session it names, and the audio format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from sonant.carriers.encoding import DECODERS, RATES_HZ, AudioFormat
from sonant.errors import InvalidSignature, Validation
from sonant.gateway.canonical import query_pairs
from sonant.ids import new_uuid

UNSIGNED = b"UNSIGNED-PAYLOAD"
_MOST_CHANNELS = 2
_MOST_STREAMS = 100_000_000
_NAMES = frozenset(
    ("DomainId", "SessionNameOrId", "StreamNumber", "Encoding", "SampleRate", "Channels", "Channel")
)
_SIGNATURE = b"X-Amz-Signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """The HTTP request that opens a stream."""

    method: str
    raw_path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    """Names in lower case."""
    source_ip: str
    secure: bool
    """Whether it came over TLS."""
    received_at: datetime
    request_id: str = field(default_factory=new_uuid)

    @classmethod
    def from_scope(cls, scope: Scope, received_at: datetime) -> StreamRequest:
        """Build the request of an ASGI scope."""
        return cls(
            method=scope.get("method", "GET"),
            raw_path=(scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0],
            query=scope["query_string"],
            headers=[(name.lower(), value) for name, value in scope["headers"]],
            source_ip=(scope.get("client") or ("",))[0],
            secure=scope["scheme"] in ("https", "wss"),
            received_at=received_at,
        )

    def header(self, name: bytes) -> bytes:
        """Return a header's value, empty if it is absent."""
        return next((value for known, value in self.headers if known == name), b"")

    @property
    def query_signature(self) -> str | None:
        """The signature of a presigned URL, None for a request that is signed in its headers."""
        pairs = query_pairs(self.query) if self.query else []
        return next((value.decode("latin-1") for name, value in pairs if name == _SIGNATURE), None)

    def parameters(self) -> dict[str, str]:
        """Parse the query string, without the signature's parameters. Raises Validation."""
        found: dict[str, str] = {}
        for part in self.query.split(b"&"):
            name, _, value = (_decoded(piece) for piece in part.partition(b"="))
            if not name or name.startswith("X-Amz-"):
                continue
            if name in found:
                raise Validation("A query parameter is given twice.")
            found[name] = value
        return found


def _decoded(piece: bytes) -> str:
    return unquote_to_bytes(piece).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamParameters:
    """The query parameters of `/stream`."""

    domain_id: str
    session: str
    format: AudioFormat
    stream_number: int | None = None
    """The session's stream that the request is for; None for the one that waits."""

    @classmethod
    def parse(cls, given: Mapping[str, str], check: Callable[[object], dict[str, Any]]) -> StreamParameters:
        """Validate query parameters. `check` is a compiled input shape with DomainId and SessionNameOrId.
        Raises Validation."""
        if unknown := given.keys() - _NAMES:
            raise Validation(
                f"{len(unknown)} query parameters are not known; known: {', '.join(sorted(_NAMES))}"
            )
        named = check({name: given[name] for name in ("DomainId", "SessionNameOrId") if name in given})
        encoding = given.get("Encoding", AudioFormat().encoding)
        if encoding not in DECODERS:
            raise Validation(f"Encoding must be one of {', '.join(DECODERS)}")
        channels = _number(given, "Channels", 1, range(1, _MOST_CHANNELS + 1))
        audio_format = AudioFormat(
            encoding=encoding,
            rate_hz=_number(given, "SampleRate", RATES_HZ[0], RATES_HZ),
            channels=channels,
            channel=_number(given, "Channel", 0, range(channels)),
        )
        number = _number(given, "StreamNumber", 0, range(1, _MOST_STREAMS))
        return cls(
            domain_id=named["DomainId"],
            session=named["SessionNameOrId"],
            stream_number=number or None,
            format=audio_format,
        )


def _number(given: Mapping[str, str], name: str, default: int, allowed: Sequence[int]) -> int:
    text = given.get(name)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else -1
    if number not in allowed:
        values = f"{allowed[0]} or more" if len(allowed) > 10 else f"one of {', '.join(map(str, allowed))}"
        raise Validation(f"{name} must be {values}")
    return number


def declared_hash(request: StreamRequest) -> bytes:
    """Return the header x-amz-content-sha256, the hash of a body that has not been received yet. Raises
    InvalidSignature."""
    declared = request.header(b"x-amz-content-sha256").strip()
    if declared == UNSIGNED:
        return declared
    if len(declared) == 64 and all(byte in b"0123456789abcdef" for byte in declared):
        return declared
    raise InvalidSignature(
        "The 'x-amz-content-sha256' header must be the SHA-256 of the body, or UNSIGNED-PAYLOAD."
    )
