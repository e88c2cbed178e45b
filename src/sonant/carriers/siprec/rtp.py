"""Receive one RTP stream (RFC 3550): order, repeated and lost packets, a new source within the stream."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sonant.carriers.encoding import DECODERS
from sonant.carriers.frame_order import FrameOrder

RATE_HZ = 8000
_HEAD_BYTES = 12
#: 200 ms of one byte a sample; usual are 20 ms.
MAX_PAYLOAD_BYTES = 1600
#: Lost packets and pauses of the sender are silence, of this length at most.
MOST_SILENCE = RATE_HZ

Samples = NDArray[np.int16]


class RtpReceiver:
    """Turns packets into samples. What is not understood is dropped."""

    def __init__(self, payload_type: int, codec: str, push: Callable[[Samples], None]) -> None:
        """`push` gets samples at RATE_HZ in order. `codec` is a name of `carriers.encoding`."""
        self._payload_type, self._decode, self._push = payload_type, DECODERS[codec], push
        self._source: int | None = None
        self._order = FrameOrder()
        self._last = 0
        """Number of the last packet, counted on beyond 16 bits."""
        self._due: int | None = None
        """Timestamp of the sample that comes next."""

    def receive(self, packet: bytes) -> bool:
        """Take a packet; return whether it was one of this stream."""
        payload = self._payload(packet)
        if not payload:
            return False
        sequence, stamp = int.from_bytes(packet[2:4], "big"), packet[4:8]
        source = int.from_bytes(packet[8:12], "big")
        if source != self._source:
            self.flush()
            self._source, self._order, self._due = source, FrameOrder(), None
            number = (1 << 16) + sequence
        else:
            step = (sequence - self._last + (1 << 15)) % (1 << 16) - (1 << 15)
            number = max(2, self._last + step)
            if not step:
                return True  # repeated
        self._last = number
        for frame in self._order.push(number, stamp + payload):
            self._pass_on(frame)
        return True

    def flush(self) -> None:
        """Pass on what waits for lost packets."""
        for frame in self._order.flush():
            self._pass_on(frame)

    def _payload(self, packet: bytes) -> bytes:
        """Return the payload of a packet, empty for what is none of this stream, RTCP included."""
        if len(packet) < _HEAD_BYTES or packet[0] >> 6 != 2 or packet[1] & 0x7F != self._payload_type:
            return b""
        start = _HEAD_BYTES + 4 * (packet[0] & 0x0F)
        if packet[0] & 0x10:  # an extension of the header
            start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
        end = len(packet) - (packet[-1] if packet[0] & 0x20 else 0)
        return packet[start:end] if start < end <= start + MAX_PAYLOAD_BYTES else b""

    def _pass_on(self, frame: bytes) -> None:
        stamp, payload = int.from_bytes(frame[:4], "big"), frame[4:]
        gap = 0 if self._due is None else (stamp - self._due) % (1 << 32)
        if 0 < gap < 1 << 31:
            self._push(np.zeros(min(gap, MOST_SILENCE), np.int16))
        self._due = (stamp + len(payload)) % (1 << 32)
        self._push(self._decode(payload))
