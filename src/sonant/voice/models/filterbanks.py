"""Build mel filter banks and windows in the conventions of the toolkits of speaker models.

Kaldi          triangles in mel (1127 ln(1 + f/700)), height 1, over the bins below half the rate
HTK, as SpeechBrain builds it   triangles in Hz around centres spaced in mel (2595 log10(1 + f/700))
Slaney         triangles in Hz of equal area (Auditory Toolbox; librosa's default), as NeMo uses it
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@cache
def kaldi_banks(rate_hz: int, points: int, mels: int, low_hz: float) -> NDArray[np.float32]:
    """Build Kaldi's filters, [points // 2, mels]: the bin at half the rate is in no filter."""
    edges = np.linspace(1127 * math.log1p(low_hz / 700), 1127 * math.log1p(rate_hz / 1400), mels + 2)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    at = 1127 * np.log1p(np.arange(points // 2)[:, None] * (rate_hz / points / 700))
    rising, falling = (at - low) / (middle - low), (high - at) / (high - middle)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)), np.float32)


@cache
def speechbrain_banks(points: int, mels: int, rate_hz: int) -> NDArray[np.float32]:
    """Build SpeechBrain's filters, [points // 2 + 1, mels].

    Both sides of a triangle are as wide as the step from the centre below.
    """
    top = 2595 * np.log10(1 + (rate_hz / 2) / 700)
    hz = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    centre, band = hz[1:-1], np.diff(hz)[:-1]
    slope = (np.linspace(0, rate_hz // 2, points // 2 + 1)[:, None] - centre) / band
    return np.maximum(0, np.minimum(1 + slope, 1 - slope)).astype(np.float32)


@cache
def slaney_banks(rate_hz: int, points: int, mels: int) -> NDArray[np.float32]:
    """Build Slaney's filters, [points // 2 + 1, mels]."""
    edges = _slaney_hz(np.linspace(0, _slaney_mel(rate_hz / 2), mels + 2))
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    hz = np.linspace(0, rate_hz / 2, points // 2 + 1)[:, None]
    triangles = np.maximum(0, np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)))
    return (triangles * (2 / (high - low))).astype(np.float32)


@cache
def window(name: str, length: int) -> NDArray[np.float32]:
    """Build a window by name, [length].

    `hamming` and `hann` are symmetric, `hamming-periodic` is not; `povey` is Kaldi's, hann to the power 0.85.
    """
    steps = length if name.endswith("-periodic") else length - 1
    wave = np.cos(2 * np.pi * np.arange(length) / steps)
    found = {
        "hamming": 0.54 - 0.46 * wave,
        "hamming-periodic": 0.54 - 0.46 * wave,
        "hann": 0.5 - 0.5 * wave,
        "povey": (0.5 - 0.5 * wave) ** 0.85,
    }[name]
    return found.astype(np.float32)


# Slaney's mel scale: linear to 1 kHz (15 mel), then 27 mel for each factor of 6.4.
def _slaney_mel(hz: float) -> float:
    return 15 + 27 * float(np.log(hz / 1000)) / float(np.log(6.4)) if hz > 1000 else hz * 3 / 200


def _slaney_hz(mel: Floats) -> Floats:
    return np.where(mel > 15, 1000 * 6.4 ** ((mel - 15) / 27), mel * 200 / 3)
