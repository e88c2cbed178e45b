"""Embed speech with CAM++, the larger of the two speaker encoders that ship with Sonant.

The network was trained at 16 kHz on Kaldi's filter banks (3D-Speaker); telephone speech is brought to that
rate, with silence above 4 kHz. It is run with 8-bit integers; `tools/build_models.py` builds it.
"""

from __future__ import annotations

from collections.abc import Sequence
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

# Frames of 25 ms begin every 10 ms; a step of the network is two of them.
_HOP, _MIDDLE, _FRAMES_A_STEP = RATE_HZ // 100, RATE_HZ // 80, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CampplusEncoder:
    """The open network. Usable in one process; may be called repeatedly."""

    model_id: str
    session: onnxruntime.InferenceSession
    """`feats` [n, frames, 80] to `embs` [n, 192]; `steps` [n, 512, 1, steps], `matrix` and `bias`."""
    centre: NDArray[np.float32]
    """Mean embedding of many people, shape [192], subtracted from every embedding."""
    last_layer: tuple[NDArray[np.float32], NDArray[np.float32]]
    """Matrix and bias of the layer behind the pooling; see `open_last_layer`."""

    def __call__(self, samples: NDArray[np.float32]) -> Embedding:
        """Embed speech at 8 kHz (float32, [n], pauses already removed).

        Its level is brought to -20 dBFS. The features' means are taken over all of it. Chunks of equal
        length, spaced evenly from the first frame to the last, are embedded; the mean of their directions,
        minus the centre, is the result.
        Raises NotEnoughSpeech under 1.6 s.
        """
        return self._embedding([found[0] for _, (found,) in self._run(samples, "embs")])

    def embed_with_parts(
        self, samples: NDArray[np.float32], spans: Sequence[tuple[int, int]]
    ) -> tuple[Embedding, tuple[Embedding, ...]]:
        """Embed speech as a whole and spans of its samples (first, behind the last) in one pass.

        The whole is embedded as by a call. A part is pooled from the steps of the whole whose middle it has:
        it costs nothing, and level, the features' means and context are those of the whole.
        Raises NotEnoughSpeech under 1.6 s.
        """
        run = self._run(samples, "embs", "steps")
        whole = self._embedding([found[0] for _, (found, _) in run])
        steps = np.concatenate([found[0, :, 0].T for _, (_, found) in run])
        middles = np.concatenate([_step_middles(start, found.shape[3]) for start, (_, found) in run])
        parts = (steps[(middles >= first) & (middles < end)] for first, end in spans)
        return whole, tuple(self._embedding([self._pooled(part)]) for part in parts)

    def _run(
        self, samples: NDArray[np.float32], *outputs: str
    ) -> list[tuple[int, list[NDArray[np.float32]]]]:
        """Run the network on each chunk: its first frame, and the outputs."""
        if len(samples) < WINDOW_S * RATE_HZ:
            raise NotEnoughSpeech(len(samples) / RATE_HZ, WINDOW_S)
        rows = features(levelled(samples, _TARGET_RMS), FRONT_END)
        return [(start, self.session.run(outputs, {"feats": chunk[None]})) for start, chunk in chunks(rows)]

    def _pooled(self, steps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Do what follows in the network: steps [n, 512] to an embedding [192]."""
        matrix, bias = self.last_layer
        deviation = steps.std(axis=0, ddof=1, dtype=np.float64)
        # einsum and not `@`: BLAS would start threads that compete with the other workers.
        pooled = np.concatenate([steps.mean(axis=0, dtype=np.float64), deviation])
        found: NDArray[np.float32] = np.einsum("om,m->o", matrix, pooled) + bias
        return found

    def _embedding(self, found: Sequence[NDArray[np.float32]]) -> Embedding:
        """Average the directions of chunks and subtract the centre."""
        total = np.sum([_unit(one.astype(np.float64)) for one in found], axis=0)
        own = _unit(_unit(total) - self.centre)
        return Embedding(vector=own.astype(np.float32), model_id=self.model_id)


def open_last_layer(session: onnxruntime.InferenceSession) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read the last layer of the network, [192, 1024] and [192]."""
    matrix, bias = session.run(["matrix", "bias"], {"feats": np.zeros((1, 4, FRONT_END.mels), np.float32)})
    return matrix, bias


def chunks(rows: NDArray[np.float32]) -> list[tuple[int, NDArray[np.float32]]]:
    """Cut features [frames, 80] into as few chunks of one length as possible, evenly spaced.

    Returns each with its first frame.
    """
    count = -(-len(rows) // CHUNK_FRAMES)
    length = min(CHUNK_FRAMES, len(rows))
    starts = np.round(np.linspace(0, len(rows) - length, count)).astype(int)
    return [(int(start), rows[start : start + length]) for start in starts]


def _step_middles(first_frame: int, count: int) -> NDArray[np.int64]:
    """Give the middle sample of each step of a chunk."""
    return (first_frame + _FRAMES_A_STEP * np.arange(count)) * _HOP + _MIDDLE


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit
