"""What a carrier's module provides: its authentication, and an adapter that translates its protocol.

An adapter does no I/O. It serves one connection: `receive` takes what came, a whole WebSocket message or
bytes of a TCP stream, and returns effects in order, which `relay` carries out:

    Open    open the stream; then call `opened`, or `refused` with a sentence, and carry out their effects
    Audio   push samples into the stream
    Reply   send this
    End     end the stream and close the connection

When the service ends the stream, `ended` returns the last effects. Messages that violate the protocol raise
StreamFault, which ends this stream only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from sonant.carriers.request import StreamRequest
from sonant.errors import SetupError
from sonant.sessions.calls import Call, EndReason, StreamFault

#: Longest text message that is read, in characters.
MAX_TEXT = 64 * 1024
#: Shorter passwords could be guessed.
MIN_PASSWORD_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Open:
    call: Call


@dataclass(frozen=True, slots=True)
class Audio:
    samples: NDArray[np.int16]
    """Shape [n], of the caller alone."""
    rate_hz: int


@dataclass(frozen=True, slots=True)
class Reply:
    message: str | bytes


@dataclass(frozen=True, slots=True)
class End:
    reason: EndReason


Effect = Open | Audio | Reply | End


class Adapter(Protocol):
    """One connection's side of a protocol."""

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        """Translate what came. Raises StreamFault."""
        ...

    def opened(self, session_id: str) -> Sequence[Effect]:
        """Report that the stream is open."""
        ...

    def refused(self, message: str) -> Sequence[Effect]:
        """Report that the stream cannot be opened, or not go on after a fault; `message` is one sentence that
        the carrier may see."""
        ...

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        """Report that the service has ended the stream."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketCarrier:
    """A carrier that opens WebSockets at `/stream/<name>`."""

    authenticate: Callable[[StreamRequest], Adapter]
    """Checks the request that opens a WebSocket and makes its adapter. Raises AccessDenied, Validation."""
    subprotocol: str | None = None
    """Accepted if the carrier offers it."""
    challenge: bytes | None = None
    """WWW-Authenticate of the response to requests that are not authenticated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCarrier:
    """A carrier that connects to a TCP port of its own. Such protocols have no password."""

    title: str
    """Its name in log messages."""
    port: int
    port_setting: str
    """The setting that names the port, for error messages."""
    make_adapter: Callable[[], Adapter]
    """Makes the adapter of a new connection."""


Carrier = WebSocketCarrier | TcpCarrier


def check_password(setting: str, password: str) -> None:
    """Raise SetupError for a password that could be guessed."""
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise SetupError(f"setting {setting} must have at least {MIN_PASSWORD_CHARACTERS} characters")


# --- JSON messages. No error message repeats what was sent.


def parse_object(message: str) -> dict[str, Any]:
    """Parse a JSON object. Raises StreamFault."""
    _check_length(message)
    try:
        found = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise StreamFault("a text message is not JSON") from None
    if not isinstance(found, dict):
        raise StreamFault("a text message is not a JSON object")
    return found


def read_object(message: str) -> dict[str, Any]:
    """Parse a JSON object; empty for any other text. Raises StreamFault for one that is too long."""
    _check_length(message)
    try:
        found = orjson.loads(message)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _check_length(message: str) -> None:
    if len(message) > MAX_TEXT:
        raise StreamFault(f"a text message is longer than {MAX_TEXT} characters")


def required(message: dict[str, Any], name: str, kind: type[Any]) -> Any:
    """Return a member that must be there, of this type. Raises StreamFault."""
    value = message.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise StreamFault(f"a message has no {name}, or one of the wrong type")
    return value


def optional_text(message: dict[str, Any], name: str) -> str | None:
    """Return a text member, None if it is absent or empty. Raises StreamFault for another type."""
    value = message.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise StreamFault(f"{name} is not a text")
    return value
