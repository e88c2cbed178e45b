"""Generate a voice-like signal for self-tests, identical on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def voice_like_signal(rate_hz: int, seconds: float, *, pitch_hz: float = 120.0) -> NDArray[np.float32]:
    """Generate harmonics of a gliding, swelling pitch and a little noise: float32, [n], within -1..1."""
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    phase = 2 * np.pi * pitch_hz * (t + 0.02 * np.sin(2 * np.pi * 1.5 * t))
    voice = np.zeros(len(t))
    for k in range(1, int(min(rate_hz / 2, 3800) / (1.3 * pitch_hz))):
        voice += np.sin(k * phase) / k * (1 + 0.5 * np.sin(2 * np.pi * (2 + k % 3) * t))
    # Hashed steps instead of a library's random numbers, whose streams may change.
    noise = np.modf(np.sin(np.arange(len(t)) * 12.9898) * 43758.5453)[0]
    return np.asarray(0.2 * voice + 0.003 * noise, np.float32)
