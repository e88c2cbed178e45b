"""What carriers speak, without any I/O: an adapter turns a carrier's messages into effects and back.

One adapter serves one connection. `receive` gets what came, a whole WebSocket message or bytes of a TCP
stream, and gives effects in order; whoever holds the connection carries them out:

    Begin   open the stream; then call `begun`, or `refused` with a sentence, and carry out what they give
    Audio   feed samples to the stream
    Reply   send this
    End     end the stream and close the connection

When the service ends the stream, `ended` gives the last words. Anything that the protocol does not allow
raises StreamFault, which ends this stream and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sonant.sessions.calls import Call, EndReason


@dataclass(frozen=True, slots=True)
class Begin:
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


Effect = Begin | Audio | Reply | End


class Adapter(Protocol):
    """One connection's side of a protocol."""

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        """Raises StreamFault."""
        ...

    def begun(self, session_id: str) -> Sequence[Effect]:
        """The stream is open."""
        ...

    def refused(self, why: str) -> Sequence[Effect]:
        """The stream cannot be opened; `why` is one sentence that the carrier may see."""
        ...

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        """The service has ended the stream."""
        ...
