"""Decode ITU-T G.711 (A-law and mu-law) by table, to samples of -1..1 or 16-bit numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.samples import FULL_SCALE, int16_from_float


def _mu_law_table() -> NDArray[np.float32]:
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 132) << ((code & 0x70) >> 4)) - 132
    return (np.where(code & 0x80, -magnitude, magnitude) / FULL_SCALE).astype(np.float32)


def _a_law_table() -> NDArray[np.float32]:
    code = np.arange(256) ^ 0x55
    step, exponent = ((code & 0x0F) << 4) + 8, (code & 0x70) >> 4
    magnitude = np.where(exponent == 0, step, (step + 256) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / FULL_SCALE).astype(np.float32)


MU_LAW_TABLE, A_LAW_TABLE = _mu_law_table(), _a_law_table()
"""Samples of -1..1 by code; float32, [256]."""
MU_LAW_INT16, A_LAW_INT16 = int16_from_float(MU_LAW_TABLE), int16_from_float(A_LAW_TABLE)
"""16-bit numbers by code; [256]."""
