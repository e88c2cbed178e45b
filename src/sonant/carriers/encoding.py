"""Telephone encodings: their description, and decoders to 16-bit samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sonant.sessions.calls import StreamFault
from sonant.voice.audio.g711 import A_LAW_INT16, MU_LAW_INT16

#: Bytes to samples, int16 [n]. Raises StreamFault for half a sample.
Decoder = Callable[[bytes], NDArray[np.int16]]

#: Sample rates of telephone audio that carriers may send.
RATES_HZ = (8000, 16000)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFormat:
    """The format of raw audio."""

    encoding: str = "pcm_s16le"
    """A key of DECODERS."""
    rate_hz: int = 8000
    """One of RATES_HZ."""
    channels: int = 1
    channel: int = 0
    """The caller's, from 0."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of each channel."""
        return self.channels * (2 if self.encoding.startswith("pcm") else 1)


def _decode_table(data: bytes, table: NDArray[np.int16]) -> NDArray[np.int16]:
    return table[np.frombuffer(data, np.uint8)]


def _decode_linear(data: bytes, kind: str) -> NDArray[np.int16]:
    if len(data) % 2:
        raise StreamFault("a frame ends in the middle of a sample")
    return np.frombuffer(data, kind).astype(np.int16)


#: By the names that carriers' documentation has in common.
DECODERS: dict[str, Decoder] = {
    "mulaw": partial(_decode_table, table=MU_LAW_INT16),
    "alaw": partial(_decode_table, table=A_LAW_INT16),
    "pcm_s16le": partial(_decode_linear, kind="<i2"),
    "pcm_s16be": partial(_decode_linear, kind=">i2"),
}


def decoder(encoding: str) -> Decoder:
    """Return the decoder of an encoding. Raises StreamFault for one that is not in DECODERS."""
    try:
        return DECODERS[encoding]
    except KeyError:
        raise StreamFault(f"the encoding is not one of {', '.join(DECODERS)}") from None


def one_channel(samples: NDArray[np.int16], channels: int, channel: int) -> NDArray[np.int16]:
    """Return one channel of interleaved samples. Raises StreamFault when a frame does not hold the same
    number of samples of each channel."""
    if channels == 1:
        return samples
    if len(samples) % channels:
        raise StreamFault("a frame does not hold the same number of samples of each channel")
    return samples[channel::channels]
