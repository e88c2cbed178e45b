"""Convert samples between -1..1 and 16-bit numbers: the only place with their scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FULL_SCALE = 32768
"""The 16-bit number of 1.0; the largest positive one is a step below it."""


def float_from_int16(numbers: NDArray[np.int16]) -> NDArray[np.float32]:
    """Convert 16-bit numbers, any shape, to float32 samples of -1..1. Exact."""
    return numbers.astype(np.float32) / np.float32(FULL_SCALE)


def int16_from_float(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Convert samples of -1..1, any shape, to 16-bit numbers; values outside are clipped.

    Lossless for samples that came from 16-bit numbers.
    """
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def float_from_pcm16(data: bytes) -> NDArray[np.float32]:
    """Convert 16-bit little-endian samples to float32, [n], -1..1."""
    return float_from_int16(np.frombuffer(data, "<i2"))


def pcm16_from_float(samples: NDArray[np.float32]) -> bytes:
    """Convert samples of -1..1 to 16-bit little-endian bytes."""
    return int16_from_float(samples).astype("<i2").tobytes()
