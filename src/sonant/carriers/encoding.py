"""Telephone encodings to 16-bit samples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sonant.sessions.calls import StreamFault
from sonant.voice.audio.g711 import A_LAW_INT16, MU_LAW_INT16

#: Bytes to samples, shape [n]. Raises StreamFault for half a sample.
Decoder = Callable[[bytes], NDArray[np.int16]]


def _looked_up(data: bytes, table: NDArray[np.int16]) -> NDArray[np.int16]:
    return table[np.frombuffer(data, np.uint8)]


def _linear(data: bytes, kind: str) -> NDArray[np.int16]:
    if len(data) % 2:
        raise StreamFault("a frame ends in the middle of a sample")
    return np.frombuffer(data, kind).astype(np.int16)


#: By the names that carriers' documentation has in common.
DECODERS: dict[str, Decoder] = {
    "mulaw": partial(_looked_up, table=MU_LAW_INT16),
    "alaw": partial(_looked_up, table=A_LAW_INT16),
    "pcm_s16le": partial(_linear, kind="<i2"),
    "pcm_s16be": partial(_linear, kind=">i2"),
}


def decoder(encoding: str) -> Decoder:
    """Raises StreamFault for an encoding that is not known."""
    try:
        return DECODERS[encoding]
    except KeyError:
        raise StreamFault(f"the encoding is not one of {', '.join(DECODERS)}") from None


def one_channel(samples: NDArray[np.int16], channels: int, channel: int) -> NDArray[np.int16]:
    """One channel of interleaved samples. Raises StreamFault when a frame does not hold all of them alike."""
    if channels == 1:
        return samples
    if len(samples) % channels:
        raise StreamFault("a frame does not hold the same number of samples of each channel")
    return samples[channel::channels]
