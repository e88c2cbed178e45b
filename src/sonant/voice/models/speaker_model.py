"""Run speaker models that users add: an ONNX network, its inputs and its output.

Features are computed and normalized over all of the speech, then cut into chunks of up to 10 s that are
spaced evenly from the first frame to the last; the embeddings of the chunks, each scaled to unit length, are
averaged. The chunks bound memory and have lengths that such networks are usually given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AudioError, NotEnoughSpeech, SetupError
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import open_session
from sonant.voice.models.embedding import MELS, WINDOW_FRAMES, WINDOW_S, Embedding, embed_windows
from sonant.voice.models.frontends import FrontEnd, features

if TYPE_CHECKING:
    import onnxruntime

CHUNK_S = 10.0
"""The longest chunk that a network is given at once."""
DIMENSIONS = (16, 4096)
"""The least and the greatest dimensions of an embedding."""

#: Names of the embedding among several outputs in common toolkits (NeMo also gives class scores).
_OUTPUT_NAMES = ("embs", "emb", "embedding", "embeddings", "speaker_embedding")
_FLOAT, _WHOLE = "tensor(float)", ("tensor(int64)", "tensor(int32)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The inputs and the output of a network."""

    features: str
    """Name of the input for features or waveform."""
    rank: int
    """Rank of that input: 3 for features, 2 or 3 for a waveform."""
    bands_first: bool
    steps: int | None
    """Fixed number of frames or samples, None if any number."""
    length: str | None
    """Name of the input for the length, if there is one."""
    length_type: str
    """Type of that input: integers count frames or samples, a float is a share of 1."""
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerModel:
    """An open model. Usable in one process; `embed` may be called repeatedly."""

    model_id: str
    front_end: FrontEnd
    layout: Layout
    dimensions: int
    session: onnxruntime.InferenceSession

    def embed(self, samples: NDArray[np.float32]) -> Embedding:
        """Embed speech at 8 kHz (float32, [n], pauses already removed); `vector` has unit length.

        Raises NotEnoughSpeech under 1.6 s, AudioError if the network gives no usable embedding.
        """
        if self.front_end.kind == "ge2e":
            return self._normalized(
                embed_windows(samples, self.session, self.layout.features, self.model_id).vector
            )
        if len(samples) < WINDOW_S * RATE_HZ:
            raise NotEnoughSpeech(len(samples) / RATE_HZ, WINDOW_S)
        total = np.zeros(self.dimensions, np.float64)
        rows = features(samples, self.front_end)
        if self.layout.steps is not None and len(rows) < self.layout.steps:
            # Too short for a network of a fixed length: repeat the speech.
            rows = np.resize(rows, (self.layout.steps, *rows.shape[1:]))
        for chunk in _chunks(rows, self._steps):
            found = self._run(chunk)
            total += found / max(float(np.linalg.norm(found)), 1e-12)
        return self._normalized(total)

    def _normalized(self, total: NDArray[Any]) -> Embedding:
        length = float(np.linalg.norm(total))
        if not np.isfinite(length) or length < 1e-6:
            raise AudioError(f"the voice model {self.model_id} finds no voice in this speech")
        return Embedding(vector=(total / length).astype(np.float32), model_id=self.model_id)

    @property
    def _steps(self) -> int:
        return self.layout.steps or round(CHUNK_S * self.front_end.steps_per_second)

    def _run(self, chunk: NDArray[np.float32]) -> NDArray[np.float64]:
        (found,) = self.session.run([self.layout.output], network_inputs(chunk, self.layout))
        return np.asarray(found, np.float64).reshape(-1)


def open_speaker_model(
    content: bytes, *, model_id: str, front_end: FrontEnd, output: str | None = None, gpu: bool = False
) -> SpeakerModel:
    """Open a network and determine its layout from its inputs' types and shapes and by a run on noise.

    `output` names the embedding where several outputs could be it. The number of bands is taken from the
    network where its shape fixes it. Raises SetupError that names what does not fit.
    """
    session = open_session(content, model_id, gpu=gpu)
    layout, front_end = _layout(session, front_end)
    probe = np.random.default_rng(1).standard_normal((layout.steps or 2 * front_end.steps_per_second, 1))
    shape = (len(probe),) if front_end.waveform else (len(probe), front_end.mels)
    noise = np.abs(np.broadcast_to(probe if len(shape) == 2 else probe[:, 0], shape)).astype(np.float32)
    names = [one.name for one in session.get_outputs()]
    try:
        found = dict(zip(names, session.run(names, network_inputs(noise, layout)), strict=True))
    except Exception as fault:  # noqa: BLE001 - onnxruntime raises classes of its own that share no base
        raise SetupError(
            f"the model cannot be run as a {front_end.kind} model: {_first_line(fault)}"
        ) from None
    chosen, dimensions = _embedding_output(found, output)
    return SpeakerModel(
        model_id=model_id,
        front_end=front_end,
        layout=replace(layout, output=chosen),
        dimensions=dimensions,
        session=session,
    )


def network_inputs(chunk: NDArray[np.float32], layout: Layout) -> dict[str, NDArray[Any]]:
    """Build the network's inputs for one chunk of features [frames, bands] or samples [n]."""
    value = chunk.T if layout.bands_first and chunk.ndim == 2 else chunk
    inputs: dict[str, NDArray[Any]] = {
        layout.features: np.ascontiguousarray(value.reshape((1,) * (layout.rank - value.ndim) + value.shape))
    }
    if layout.length is not None:
        share = layout.length_type == _FLOAT
        kinds = {_FLOAT: np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
        inputs[layout.length] = np.array([1 if share else len(chunk)], kinds[layout.length_type])
    return inputs


def _layout(session: onnxruntime.InferenceSession, front_end: FrontEnd) -> tuple[Layout, FrontEnd]:
    ranks = (2, 3) if front_end.waveform else (3,)
    main = [one for one in session.get_inputs() if one.type == _FLOAT and len(one.shape) in ranks]
    lengths = [one for one in session.get_inputs() if one not in main]
    described = ", ".join(f"{one.name} {one.type} {one.shape}" for one in session.get_inputs())[:500]
    wanted = (
        "a waveform [n, samples]"
        if front_end.waveform
        else "features [n, 160, 40]"
        if front_end.kind == "ge2e"
        else "features [n, frames, bands]"
    )
    if len(main) != 1:
        raise SetupError(f"a {front_end.kind} model takes one input of {wanted}; this one takes {described}")
    if len(lengths) > 1 or any(len(one.shape) != 1 or one.type not in (_FLOAT, *_WHOLE) for one in lengths):
        raise SetupError(f"beside {wanted} at most one length can be given; this model takes {described}")
    shape = [size if isinstance(size, int) else None for size in main[0].shape]
    if shape[0] not in (None, 1) and front_end.kind != "ge2e":
        raise SetupError(f"the model is fixed to {shape[0]} voices at once: export it for one, or any number")
    bands_first, steps = False, shape[-1]
    if front_end.waveform and steps is not None and steps < front_end.rate_hz // 2:
        raise SetupError(f"a {front_end.kind} model takes {wanted}; this one takes {described}")
    if front_end.kind == "ge2e":
        if shape[1:] != [WINDOW_FRAMES, MELS]:
            raise SetupError(f"a ge2e model takes {wanted}; this one takes {described}")
        steps = WINDOW_FRAMES
        front_end = replace(front_end, mels=MELS)
    elif not front_end.waveform:
        bands_first, steps, front_end = _bands(shape, front_end, described)
    layout = Layout(
        features=main[0].name,
        rank=len(shape),
        bands_first=bands_first,
        steps=steps,
        length=lengths[0].name if lengths else None,
        length_type=lengths[0].type if lengths else "",
        output="",
    )
    return layout, front_end


def _bands(
    shape: Sequence[int | None], front_end: FrontEnd, described: str
) -> tuple[bool, int | None, FrontEnd]:
    """Determine the axis of the bands, the fixed number of frames, and the front end with its bands."""
    first, second = shape[1], shape[2]
    if front_end.mels in (first, second):
        bands_first = first == front_end.mels and second != front_end.mels
    elif (first is None) != (second is None):
        bands_first = first is not None
        front_end = replace(front_end, mels=int(first if first is not None else second or 0))
    elif first is None:
        bands_first = front_end.kind == "nemo"
    else:
        raise SetupError(
            f"none of the model's axes has {front_end.mels} bands: {described}; say how many with --mels"
        )
    if not 20 <= front_end.mels <= 128:
        raise SetupError(f"a model with {front_end.mels} bands cannot be fed: {described}")
    return bands_first, second if bands_first else first, front_end


def _embedding_output(found: dict[str, Any], wanted: str | None) -> tuple[str, int]:
    """Choose the output that is the embedding, and its dimensions."""
    sizes = {
        name: value.size
        for name, value in found.items()
        if isinstance(value, np.ndarray)
        and value.dtype == np.float32
        and value.size in value.shape  # all other axes are of length 1
        and DIMENSIONS[0] <= value.size <= DIMENSIONS[1]
    }
    named = [name for name in sizes if name.lower() in _OUTPUT_NAMES]
    if wanted is not None:
        named = [wanted] if wanted in sizes else []
    elif not named and len(sizes) == 1:
        named = list(sizes)
    if len(named) != 1:
        described = ", ".join(f"{name} {getattr(value, 'shape', '')}" for name, value in found.items())[:500]
        raise SetupError(f"it is not clear which output is the embedding: {described}; name it with --output")
    return named[0], sizes[named[0]]


def _chunks(rows: NDArray[np.float32], steps: int) -> list[NDArray[np.float32]]:
    """Cut chunks of `steps` rows, evenly from the first row to the last; all rows if there are fewer."""
    count = -(-len(rows) // steps)
    if count <= 1:
        return [rows]
    starts = np.round(np.linspace(0, len(rows) - steps, count)).astype(int)
    return [rows[start : start + steps] for start in starts]


def _first_line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:300]
