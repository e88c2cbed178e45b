"""Small real networks as ONNX files, written field by field: the product needs no ONNX library, nor do its
tests. Numbers of fields and types are those of onnx.proto.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

FLOAT, INT64, BOOL = 1, 7, 9
Shape = Sequence[int | str]


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def node(
    kind: str,
    inputs: Sequence[str],
    output: str,
    *,
    domain: str = "",
    **attributes: bytes | int | Sequence[int],
) -> bytes:
    body = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)
    for name, value in attributes.items():
        if isinstance(value, bytes):  # a graph
            attribute = field(6, value) + field(20, 5)
        elif isinstance(value, int):
            attribute = field(3, value) + field(20, 2)
        else:
            attribute = b"".join(field(8, one) for one in value) + field(20, 7)
        body += field(5, field(1, name) + attribute)
    return body + (field(7, domain) if domain else b"")


def tensor(name: str, array: np.ndarray, *, extra: bytes = b"") -> bytes:
    dims = b"".join(field(1, size) for size in array.shape)
    kind = INT64 if array.dtype == np.int64 else FLOAT
    return dims + field(2, kind) + field(8, name) + field(9, array.tobytes()) + extra


def value(name: str, shape: Shape, kind: int = FLOAT) -> bytes:
    dims = b"".join(field(1, field(1 if isinstance(one, int) else 2, one)) for one in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def graph(
    nodes: Sequence[bytes],
    tensors: Sequence[bytes] = (),
    inputs: Sequence[bytes] = (),
    outputs: Sequence[bytes] = (),
) -> bytes:
    parts = [field(1, one) for one in nodes] + [field(2, "made")] + [field(5, one) for one in tensors]
    return b"".join([*parts, *(field(11, one) for one in inputs), *(field(12, one) for one in outputs)])


def model(graph_bytes: bytes, *, notes: dict[str, str] | None = None, extra: bytes = b"") -> bytes:
    noted = b"".join(field(14, field(1, key) + field(2, text)) for key, text in (notes or {}).items())
    return field(1, 8) + field(7, graph_bytes) + field(8, field(1, "") + field(2, 13)) + noted + extra


def speaker_network(
    *,
    mels: int = 80,
    dimensions: int = 64,
    bands_first: bool = False,
    frames: int | str = "T",
    length: str | None = None,
    length_type: int = INT64,
    scores: bool = False,
    notes: dict[str, str] | None = None,
    seed: int = 7,
) -> bytes:
    """Mean over time of what lies above the mean of each band, projected: a crude voice, but one.

    `scores` adds a second output of another size, as classifiers have.
    """
    rng = np.random.default_rng(seed)
    shape: Shape = (1, mels, frames) if bands_first else (1, frames, mels)
    nodes = [
        node("Relu", ["feats"], "positive"),
        node("ReduceMean", ["positive"], "pooled", axes=[2 if bands_first else 1], keepdims=0),
    ]
    inputs = [value("feats", shape)]
    pooled = "pooled"
    if length is not None:  # it must be fed, and change nothing
        inputs.append(value(length, ("n",), length_type))
        nodes += [node("Cast", [length], "cast", to=FLOAT), node("Mul", ["cast", "zero"], "nothing")]
        nodes.append(node("Add", ["pooled", "nothing"], "fed"))
        pooled = "fed"
    nodes.append(node("MatMul", [pooled, "weights"], "embs"))
    tensors = [tensor("weights", rng.standard_normal((mels, dimensions)).astype(np.float32))]
    tensors.append(tensor("zero", np.zeros(1, np.float32)))
    outputs = [value("embs", (1, dimensions))]
    if scores:
        nodes.append(node("MatMul", [pooled, "classes"], "logits"))
        tensors.append(tensor("classes", rng.standard_normal((mels, 100)).astype(np.float32)))
        outputs.insert(0, value("logits", (1, 100)))
    return model(graph(nodes, tensors, inputs, outputs), notes=notes)


def waveform_network(*, dimensions: int = 32) -> bytes:
    """Loudness of what a bank of short filters lets through, over the whole waveform."""
    kernels = np.random.default_rng(3).standard_normal((dimensions, 1, 64)).astype(np.float32)
    nodes = [
        node("Unsqueeze", ["audio", "one"], "channel"),
        node("Conv", ["channel", "kernels"], "filtered", strides=[16]),
        node("Abs", ["filtered"], "loud"),
        node("ReduceMean", ["loud"], "embedding", axes=[2], keepdims=0),
    ]
    tensors = [tensor("kernels", kernels), tensor("one", np.array([1], np.int64))]
    inputs, outputs = [value("audio", ("n", "samples"))], [value("embedding", ("n", dimensions))]
    return model(graph(nodes, tensors, inputs, outputs))


def calibration_text(model_id: str, *, mean: float = 0.2, deviation: float = 0.1) -> str:
    """A calibration of a model, in the form that is shipped."""
    nodes = [
        {"speech_s": speech_s, "snr_db": snr_db, "mean": mean, "deviation": deviation}
        for speech_s in (5, 10)
        for snr_db in (10, 30)
    ]
    return json.dumps(
        {
            "model_id": model_id,
            "supported_log10_far": -3,
            "llr_slope": 10.0,
            "llr_offset": -5.0,
            "nodes": nodes,
        }
    )


def countermeasure_network(
    *,
    samples: int | str = "T",
    mels: int | str | None = None,
    bands_first: bool = False,
    classes: int = 1,
    softmax: bool = False,
    recordings: int | str = 1,
    gain: float = 4.0,
    notes: dict[str, str] | None = None,
) -> bytes:
    """Logarithm of the mean step from one sample, or frame, to the next: high for noise, low for a tone.

    Of two classes, class 0 has the negative of it; of three, the third is the first again.
    """
    axis = 1
    if mels is None:
        shape: Shape = (recordings, samples)
        nodes = []
    else:
        shape = (recordings, mels, samples) if bands_first else (recordings, samples, mels)
        nodes = [node("ReduceMean", ["sound"], "curve", axes=[1 if bands_first else 2], keepdims=0)]
    sound = "sound" if mels is None else "curve"
    nodes += [
        node("Slice", [sound, "one", "end", "axis"], "later"),
        node("Slice", [sound, "zero", "last", "axis"], "earlier"),
        node("Sub", ["later", "earlier"], "step"),
        node("Abs", ["step"], "size"),
        node("ReduceMean", ["size"], "mean", axes=[axis], keepdims=1),
        node("Add", ["mean", "tiny"], "positive"),
        node("Log", ["positive"], "level"),
        node("MatMul", ["level", "weights"], "raw" if softmax else "logits"),
    ]
    if softmax:
        nodes.append(node("Softmax", ["raw"], "logits", axis=1))
    weights = gain * np.array([[-1.0, 1.0, -1.0][:classes] if classes > 1 else [1.0]], np.float32)
    tensors = [
        tensor("one", np.array([1], np.int64)),
        tensor("zero", np.array([0], np.int64)),
        tensor("last", np.array([-1], np.int64)),
        tensor("end", np.array([1 << 40], np.int64)),
        tensor("axis", np.array([axis], np.int64)),
        tensor("tiny", np.array([1e-6], np.float32)),
        tensor("weights", weights),
    ]
    inputs, outputs = [value("sound", shape)], [value("logits", (recordings, classes))]
    return model(graph(nodes, tensors, inputs, outputs), notes=notes)
