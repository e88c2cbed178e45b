"""Embed speech with CAM++, the larger of the two speaker encoders that ship with Sonant.

The network was trained at 16 kHz on Kaldi's filter banks (3D-Speaker); telephone speech is brought to that
rate, with silence above 4 kHz. It is run with 8-bit integers; `tools/build_models.py` builds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sonant.errors import NotEnoughSpeech
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models.embedding import WINDOW_S, Embedding, levelled
from sonant.voice.models.frontends import FrontEnd, features

FRONT_END = FrontEnd(kind="3dspeaker", rate_hz=16000, mels=80)

# The logarithm has a floor, and what leaks into the empty bands above 4 kHz grows with the level. Of 8 people
# of speechocean762's training part (12 s against 4 s, calls at -50 dBFS) d' is 5.8 without and 6.3 with one
# level. The means that are removed from the features take out a line's slope. Subtracting steady sound, as
# for GE2E, gained nothing: 5.7 without and 5.8 with it under a tone of 1 kHz 10 dB below speech, 6.6 and 6.4
# on clean lines.
_TARGET_RMS = 10 ** (-20 / 20)

CHUNK_FRAMES = 500
"""The longest piece that the network is given at once: 5 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CampplusEncoder:
    """The open network. Usable in one process; `embed` may be called repeatedly."""

    model_id: str
    session: onnxruntime.InferenceSession
    """`feats` [n, frames, 80] to `embs` [n, 192]."""
    centre: NDArray[np.float32]
    """Mean embedding of many people, shape [192], subtracted from every embedding."""

    def embed(self, samples: NDArray[np.float32]) -> Embedding:
        """Embed speech at 8 kHz (float32, [n], pauses already removed).

        Its level is brought to -20 dBFS. The features' means are taken over all of it. Chunks of equal
        length, spaced evenly from the first frame to the last, are embedded; the mean of their directions,
        minus the centre, is the result.
        Raises NotEnoughSpeech under 1.6 s.
        """
        if len(samples) < WINDOW_S * RATE_HZ:
            raise NotEnoughSpeech(len(samples) / RATE_HZ, WINDOW_S)
        rows = features(levelled(samples, _TARGET_RMS), FRONT_END)
        total = np.zeros(len(self.centre), np.float64)
        for chunk in chunks(rows):
            (found,) = self.session.run(None, {"feats": chunk[None]})
            total += _unit(found[0].astype(np.float64))
        own = _unit(_unit(total) - self.centre)
        return Embedding(vector=own.astype(np.float32), model_id=self.model_id)


def chunks(rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Cut features [frames, 80] into as few chunks of one length as possible, evenly spaced."""
    count = -(-len(rows) // CHUNK_FRAMES)
    length = min(CHUNK_FRAMES, len(rows))
    starts = np.round(np.linspace(0, len(rows) - length, count)).astype(int)
    return [rows[start : start + length] for start in starts]


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit
