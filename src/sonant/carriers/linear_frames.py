"""Streams of binary messages of 16-bit samples, little-endian, with a text message before them that describes
the call. Text that comes later is ignored: key presses, events of players.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sonant.carriers.carrier import Audio, Effect, End, Open, read_object
from sonant.carriers.encoding import decoder, one_channel
from sonant.sessions.calls import Call, EndReason, StreamFault

#: Messages before the one that describes the call, such as greetings of a proxy.
_MOST_BEFORE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearCall:
    """A call, and the form of its samples."""

    call: Call
    rate_hz: int
    channels: int = 1
    """The caller's is the first."""


class LinearFramesAdapter:
    """Translates the messages of one connection."""

    def __init__(
        self, describe: Callable[[dict[str, Any]], LinearCall | None], known: LinearCall | None = None
    ) -> None:
        """`describe` reads a text message, None where it does not describe the call, and raises StreamFault;
        `known` is the call if the connection's URL names it."""
        self._describe, self._known = describe, known
        self._described: LinearCall | None = None
        self._before = 0
        self._decode = decoder("pcm_s16le")

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        described = self._described
        if isinstance(message, bytes):
            if described is None:
                if self._known is None:
                    raise StreamFault("audio came before the message that describes the call")
                described = self._described = self._known
                return (Open(described.call), self._audio(described, message))
            return (self._audio(described, message),)
        found = read_object(message)
        if described is not None:
            return ()
        described = self._describe(found)
        if described is None:
            self._before += 1
            if self._before > _MOST_BEFORE:
                raise StreamFault("no message describes the call")
            return ()
        self._described = described
        return (Open(described.call),)

    def opened(self, session_id: str) -> Sequence[Effect]:
        return ()

    def refused(self, message: str) -> Sequence[Effect]:
        return (End(EndReason.NEVER_BEGAN),)

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        return (End(reason),)

    def _audio(self, described: LinearCall, message: bytes) -> Audio:
        return Audio(one_channel(self._decode(message), described.channels, 0), described.rate_hz)
