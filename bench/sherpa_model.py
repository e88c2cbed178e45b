"""Write Sonant's speaker encoder in the form that sherpa-onnx's extractor takes: `sherpa_model.py FILE`.

No model of this class is published for sherpa-onnx, so it gets the same network for the sake of time: windows
of 160 frames of its own 80 bands, of which each two go into one of the encoder's 40 inputs, three LSTM
layers, the mean of the windows. The embeddings themselves mean nothing, since the features differ.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ENCODER = Path(__file__).resolve().parent.parent / "src" / "sonant" / "voice" / "models" / "ge2e.onnx"
#: What its extractor asks of a model's metadata, in the words of WeSpeaker's models.
METADATA = {
    "framework": "wespeaker",
    "language": "any",
    "url": "none",
    "comment": "for timing only",
    "sample_rate": "16000",
    "output_dim": "256",
    "normalize_samples": "1",
    "feature_normalize_type": "",
}


def main() -> None:
    model = onnx.load(ENCODER)
    graph = model.graph
    weights = {constant.name: constant for constant in graph.initializer}
    first = numpy_helper.to_array(weights["lstm0_w"])  # [1, 4 * 256, 40]
    weights["lstm0_w"].CopyFrom(numpy_helper.from_array(np.repeat(first, 2, axis=2) / 2, "lstm0_w"))
    for name, values in {
        "begin": [0],
        "window": [160],
        "time_axis": [1],
        "windows": [-1, 160, 80],
    }.items():
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    into = [
        helper.make_node("Shape", ["x"], ["frames"], start=1, end=2),
        helper.make_node("Div", ["frames", "window"], ["count"]),
        helper.make_node("Mul", ["count", "window"], ["used"]),
        helper.make_node("Slice", ["x", "begin", "used", "time_axis"], ["whole"]),
        helper.make_node("Reshape", ["whole", "windows"], ["mels"]),
    ]
    out = [helper.make_node("ReduceMean", ["embeddings"], ["embedding"], axes=[0], keepdims=1)]
    nodes = [*into, *graph.node, *out]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "frames", 80]))
    graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 256]))
    helper.set_model_props(model, METADATA)
    onnx.checker.check_model(model)
    onnx.save(model, sys.argv[1])


main()
