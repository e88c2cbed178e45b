"""Run the speaker segmentation network: which of up to three voices speak in each frame of up to ten seconds.

The network is pyannote's segmentation-3.0 (A. Plaquet, H. Bredin: Powerset multi-class cross entropy loss for
neural speaker diarization, Interspeech 2023), whose first layer was rewritten for 8 kHz; see
tools/segmentation_graph.py. It separates the voices of one window, in no fixed order: speaker 1 of one
window may be speaker 2 of the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models

WINDOW = 10 * RATE_HZ
"""Samples of one window, the length that the network was trained on. Shorter ones are possible."""
MIN_WINDOW = RATE_HZ // 2
"""Samples of the shortest window: below half a second no voices can be told apart."""
FRAME_STEP, FIRST_FRAME = 135, 180
"""Samples between two frames (16.9 ms), and where the first one begins."""
VOICES = 3
"""The most voices that the network tells apart in one window; at most two of them at the same time."""

_ACTIVE = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=np.bool_
)
"""The voices that speak in each of the network's classes (the powerset of at most two of three)."""


def segment(windows: Sequence[NDArray[np.float32]], models: Models) -> NDArray[np.bool_]:
    """Find who speaks in each frame of windows of one length (8 kHz, float32, [n]): [windows, frames, 3]."""
    (probabilities,) = models.segmentation.run(None, {"samples": np.stack(windows)})
    active: NDArray[np.bool_] = _ACTIVE[probabilities.argmax(axis=2)]
    return active
