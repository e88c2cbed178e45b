"""Find a change of speaker: the point where speech before it and speech after it are least similar.

Embeddings of short speech of one person differ, so a similarity counts for more the less speech it rests on:
if a voice is one part signal and noise that falls with the seconds t of speech, the embeddings of t1 and t2
seconds of one person are similar by 1 / sqrt((1 + c / t1) (1 + c / t2)). Similarities are divided by that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models
from sonant.voice.models.embedding import WINDOW_S, embed_series

STEP_S = 0.4
"""Seconds between two points that are tried."""
MIN_SIDE_S = 2.0
"""Seconds of speech on either side, at least."""
NOISE_S = 2.0
"""c above: seconds of speech whose embedding is half noise."""
SAME_SPEAKER, SAME_SPEAKER_NOISY = 0.66, 0.5
"""Corrected similarity below which two people speak; the second one in noise, where the voice of one person
varies more.

Of 346 calls of one of 55 people (5, 7 or 10 s of speech, 10 kinds of lines) three lay below the first one.
The figures for other people are in docs/live-calls.md.
"""
NOISY_DB = 15.0
"""Signal-to-noise ratio below which a line is noisy."""


def are_two_people(similarity: float, snr_db: float | None) -> bool:
    """Decide by the corrected similarity of two stretches of speech whether two people speak."""
    noisy = snr_db is not None and snr_db < NOISY_DB
    return similarity < (SAME_SPEAKER_NOISY if noisy else SAME_SPEAKER)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerChange:
    """The most probable change of speaker in some speech."""

    position: int
    """Its first sample after the change, at 8 kHz."""
    similarity: float
    """Corrected similarity of the speech before and after it; about 1 for one person."""


def find_change(power: NDArray[np.float32], speech_s: float, models: Models) -> SpeakerChange | None:
    """Find the most probable change of speaker in `speech_s` seconds of speech, given the encoder's input.

    None for speech shorter than two sides.
    """
    if speech_s < 2 * MIN_SIDE_S:
        return None
    starts, vectors = embed_series(power, models, STEP_S)
    starts_s = starts / RATE_HZ
    points_s = np.arange(MIN_SIDE_S, speech_s - MIN_SIDE_S + 1e-6, STEP_S)
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, axis=0, dtype=np.float64)])
    before = sums[np.searchsorted(starts_s + WINDOW_S, points_s + 1e-6, side="right")]
    after = sums[-1] - sums[np.searchsorted(starts_s, points_s - 1e-6)]
    similarity = np.einsum("ij,ij->i", before, after) / (_norms(before) * _norms(after))
    corrected = similarity * np.sqrt((1 + NOISE_S / points_s) * (1 + NOISE_S / (speech_s - points_s)))
    least = int(np.argmin(corrected))
    return SpeakerChange(position=round(points_s[least] * RATE_HZ), similarity=float(corrected[least]))


def _norms(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.sqrt(np.sum(vectors**2, axis=1))
    return norms
