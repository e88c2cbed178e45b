"""What carrying a call needs of the two sides: a connection, and a stream that an intake opens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sonant.sessions.calls import Call, EndReason

#: Audio is fed in pieces of this length, so that a stream needs room for no more than one of them.
PIECE_S = 0.5
#: How often a stream that has no room is asked again.
_ROOM_S = 0.02


class Stream(Protocol):
    """What is listened to; see `live.intake.Stream`."""

    @property
    def session_id(self) -> str: ...

    @property
    def room_s(self) -> float:
        """Seconds of audio that may be fed now."""
        ...

    @property
    def lost(self) -> bool:
        """Something of it could not be stored."""
        ...

    @property
    def heard_s(self) -> float: ...

    @property
    def net_speech_s(self) -> float: ...

    def feed(self, samples: NDArray[np.int16], rate_hz: int) -> None: ...

    def end(self, reason: EndReason) -> None: ...

    def on_end(self, call_back: Callable[[EndReason], None]) -> None: ...

    async def drained(self) -> None: ...


class StreamOpener(Protocol):
    """Where streams are opened; see `live.intake.Intake`."""

    def open(self, call: Call, /) -> Stream:
        """Blocks. Raises ModelledError."""
        ...


class Connection(Protocol):
    """What messages come over. Methods but `receive` raise OSError when the other side has gone."""

    async def receive(self) -> str | bytes | EndReason:
        """The next message, or why there will be none."""
        ...

    async def send(self, message: str | bytes) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


async def feed_in_pieces(stream: Stream, samples: NDArray[np.int16], rate_hz: int) -> None:
    """Feed as fast as there is room. Raises StreamFault."""
    size = int(PIECE_S * rate_hz)
    for start in range(0, len(samples), size):
        piece = samples[start : start + size]
        while stream.room_s < len(piece) / rate_hz:
            await asyncio.sleep(_ROOM_S)
        stream.feed(piece, rate_hz)
