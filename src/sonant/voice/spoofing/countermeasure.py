"""Run detectors of synthetic speech that operators add: an ONNX network, its input and its output.

The contract, as docs/models.md states it:

    input     one tensor of float32. Rank 2, [n, samples]: the waveform at 8 or 16 kHz, its level set to
              an RMS of 0.05. Rank 3, [n, frames, bands] or [n, bands, frames]: log mel features, Kaldi's
              with Hamming window, the mean of each band removed (front-end `wespeaker`). n is 1, or any
              number.
    output    one value for each recording, a logit that is high, or low, for synthetic speech; or two, the
              logits of two classes, whose difference counts.

Speech longer than the network's window, or than 10 s where it takes any length, is cut into windows, evenly
from the first sample to the last, and their logits are averaged. Speech shorter than a fixed window is
repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sonant.errors import SetupError
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import open_session
from sonant.voice.models.frontends import FrontEnd, features

if TYPE_CHECKING:
    import onnxruntime

WINDOW_S = 10.0
"""The longest speech that a network is given at once, where it takes any length."""
LEVEL_RMS = 0.05
"""The level of the waveform: about that of ASVspoof's recordings."""
SPOOFED = ("high", "low", "0", "1")
"""What stands for synthetic speech: a high or a low logit, or the class of this number."""
_BANDS = (20, 256)
_SHORTEST_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CountermeasureFormat:
    """The facts about a network that its file does not always state."""

    rate_hz: int = 16000
    """Sample rate of the network's training: 8000 or 16000."""
    mels: int = 0
    """Bands of log mel features; 0 for a waveform."""
    output: str = ""
    """Name of the output with the logits; empty if there is only one output."""
    spoofed: str = "high"
    """One of SPOOFED."""

    @property
    def front_end(self) -> FrontEnd:
        """The computation of the network's input."""
        if self.mels:
            return FrontEnd(kind="wespeaker", rate_hz=self.rate_hz, mels=self.mels)
        return FrontEnd(kind="redimnet", rate_hz=self.rate_hz)


@dataclass(frozen=True, slots=True, kw_only=True)
class Countermeasure:
    """An open network. Usable in one process; `score` may be called repeatedly."""

    model_id: str
    format: CountermeasureFormat
    input: str
    bands_first: bool
    steps: int | None
    """Fixed number of frames or samples, None if any number."""
    session: onnxruntime.InferenceSession

    def score(self, samples: NDArray[np.float32]) -> float:
        """Compute the mean logit of speech at 8 kHz (float32, [n], pauses removed).

        It is high for synthetic speech, and not finite if the network's output is not.
        """
        rows = features(_levelled(samples), self.format.front_end)
        if self.steps is not None and len(rows) < self.steps:
            rows = np.resize(rows, (self.steps, *rows.shape[1:]))
        most = self.steps or round(WINDOW_S * self.format.front_end.steps_per_second)
        return float(np.mean([self._logit(self.outputs(window)) for window in _windows(rows, most)]))

    def outputs(self, window: NDArray[np.float32]) -> NDArray[np.float64]:
        """Run the network on one window of features [frames, bands] or samples [n]; [1] or [2]."""
        value = np.ascontiguousarray(window.T if self.bands_first else window)[None]
        (found,) = self.session.run([self.format.output], {self.input: value})
        return np.asarray(found, np.float64).reshape(-1)

    def _logit(self, outputs: NDArray[np.float64]) -> float:
        if len(outputs) == 2:
            spoofed = int(self.format.spoofed)
            return float(outputs[spoofed] - outputs[1 - spoofed])
        return float(outputs[0]) * (-1.0 if self.format.spoofed == "low" else 1.0)


def open_countermeasure(content: bytes, *, model_id: str, form: CountermeasureFormat) -> Countermeasure:
    """Open a network, complete its format from its inputs and outputs, and run it on noise.

    The number of bands is taken from the network where its shape fixes it. Raises SetupError that names what
    does not fit.
    """
    session = open_session(content, model_id)
    inputs = session.get_inputs()
    described = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)[:500]
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) not in (2, 3):
        raise SetupError(
            "a countermeasure takes one input, a waveform [n, samples] or log mel features "
            f"[n, frames, bands]; this one takes {described}"
        )
    shape = [size if isinstance(size, int) else None for size in inputs[0].shape]
    if shape[0] not in (None, 1):
        raise SetupError(
            f"the model is fixed to {shape[0]} recordings at once: export it for one, or any number"
        )
    mels, bands_first = (0, False) if len(shape) == 2 else _bands(shape[1], shape[2], form.mels, described)
    steps = shape[1] if bands_first is False and len(shape) == 2 else shape[2 if bands_first else 1]
    form = CountermeasureFormat(
        rate_hz=form.rate_hz, mels=mels, output=form.output or _only_output(session), spoofed=form.spoofed
    )
    rate = form.front_end.steps_per_second
    if steps is not None and steps < _SHORTEST_S * rate:
        raise SetupError(
            f"the model's window is {steps / rate:.2f} s long, must be {_SHORTEST_S} s: {described}"
        )
    found = Countermeasure(
        model_id=model_id,
        format=form,
        input=inputs[0].name,
        bands_first=bands_first,
        steps=steps,
        session=session,
    )
    _check_outputs(found)
    return found


def _bands(first: int | None, second: int | None, given: int, described: str) -> tuple[int, bool]:
    """Determine the number of bands, and whether their axis is the first of the two."""
    if given and given in (first, second):
        bands_first = first == given and second != given
        mels = given
    elif (first is None) != (second is None):
        bands_first = first is not None
        mels = int(first if first is not None else second or 0)
    elif first is None and given:
        bands_first, mels = False, given
    else:
        raise SetupError(f"it is not clear which axis has the bands: {described}; say how many with --mels")
    if not _BANDS[0] <= mels <= _BANDS[1]:
        raise SetupError(
            f"a countermeasure with {mels} bands cannot be fed, must be {_BANDS[0]} to {_BANDS[1]}"
        )
    return mels, bands_first


def _only_output(session: onnxruntime.InferenceSession) -> str:
    names = [one.name for one in session.get_outputs()]
    if len(names) != 1:
        raise SetupError(
            f"it is not clear which output has the logits: {', '.join(names)[:500]}; "
            "name it with --output-name"
        )
    return str(names[0])


def _check_outputs(model: Countermeasure) -> None:
    """Run the network on noise and check the number and the kind of its outputs. Raises SetupError."""
    names = [one.name for one in model.session.get_outputs()]
    if model.format.output not in names:
        raise SetupError(f"the model has no output {model.format.output!r}, only {', '.join(names)[:500]}")
    noise = np.random.default_rng(1).standard_normal(4 * RATE_HZ).astype(np.float32)
    rows = features(noise * np.float32(LEVEL_RMS), model.format.front_end)
    try:
        found = model.outputs(np.resize(rows, (model.steps or len(rows), *rows.shape[1:])))
    except Exception as fault:  # noqa: BLE001 - onnxruntime raises classes of its own that share no base
        reason = " ".join(str(fault).split())[:300]
        raise SetupError(f"the model cannot be run as a countermeasure: {reason}") from None
    if len(found) not in (1, 2):
        raise SetupError(
            f"a countermeasure gives one or two logits; {model.format.output} has {len(found)} values"
        )
    if (len(found) == 2) != model.format.spoofed.isdigit():
        described = "two values: say with --spoofed 0 or 1 which class is"
        if len(found) == 1:
            described = "one value: say with --spoofed high or low what stands for"
        raise SetupError(f"{model.format.output} has {described} synthetic speech")
    if len(found) == 2 and found.min() >= 0 and abs(found.sum() - 1) < 1e-3:
        raise SetupError(
            f"{model.format.output} holds probabilities, which are too coarse near 0 and 1: "
            "export the logits before the softmax"
        )


def _levelled(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return samples * np.float32(LEVEL_RMS / max(rms, 1e-9))


def _windows(rows: NDArray[Any], most: int) -> Sequence[NDArray[Any]]:
    """Cut windows of `most` rows, evenly from the first row to the last; all rows if there are fewer."""
    count = -(-len(rows) // most)
    if count <= 1:
        return [rows]
    starts = np.round(np.linspace(0, len(rows) - most, count)).astype(int)
    return [rows[start : start + most] for start in starts]
