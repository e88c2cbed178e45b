"""Turn the graph of CAM++ into one of 8-bit integers: static, weights per channel, ranges from real speech.

The result has the standard form (QuantizeLinear, DequantizeLinear), which ONNX Runtime runs as integer
convolutions. Integers are the input and output of every convolution but the first, which has one channel, and
those of the context masks, which have few steps; sums, masks and pooling stay in 32-bit numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from campplus_graph import DIMENSIONS
from model_graphs import Array

WEIGHT_MAX = 127
Ranges = Mapping[str, tuple[float, float]]
"""The least and the greatest value of the tensors to be stored in 8 bits, by name."""


def measure_ranges(network: bytes, windows: Iterable[Array]) -> dict[str, tuple[float, float]]:
    """Run the float network on windows of features, each [frames, 80], and note the ranges of its tensors."""
    model = onnx.load_from_string(network)
    names = _byte_tensors(model.graph)
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = [
        [(float(value.min()), float(value.max())) for value in session.run(names, {"feats": window[None]})]
        for window in windows
    ]
    low, high = np.min(found, axis=0)[:, 0], np.max(found, axis=0)[:, 1]
    return {name: (float(least), float(most)) for name, least, most in zip(names, low, high, strict=True)}


def quantized(network: bytes, ranges: Ranges) -> bytes:
    """Write the network for integers, from the one that `campplus(..., norms_kept=True)` gives."""
    model = onnx.load_from_string(network)
    rewriter = _Rewriter(model.graph, ranges)
    for node in list(model.graph.node):
        rewriter.add(node)
    used = {name for node in rewriter.nodes for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(rewriter.nodes)
    model.graph.initializer.extend([*kept, *rewriter.constants.values()])
    model.graph.name = "campplus_int8"
    _add_outputs(model.graph)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _add_outputs(graph: onnx.GraphProto) -> None:
    """Give out what parts of speech are pooled from: the steps before pooling, and the last layer.

    `steps` is [n, 512, 1, steps of 20 ms]; `matrix` [192, 1024] and `bias` [192] turn its mean and deviation
    into an embedding.
    """
    (pooling,) = (node for node in graph.node if node.op_type == "ReduceMean")
    (last,) = (node for node in graph.node if node.op_type == "Gemm")
    given = {"steps": pooling.input[0], "matrix": last.input[1], "bias": last.input[2]}
    for name, tensor in given.items():
        graph.node.append(helper.make_node("Identity", [tensor], [name]))
    channels = next(one.dims[1] for one in graph.initializer if one.name == last.input[1]) // 2
    shapes = {
        "steps": ["n", channels, 1, "steps"],
        "matrix": [DIMENSIONS, 2 * channels],
        "bias": [DIMENSIONS],
    }
    for name, shape in shapes.items():
        graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))


def _integer_convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    masks = (".cam_layer.linear1.weight", ".cam_layer.linear2.weight")
    return [
        node
        for node in graph.node
        if node.op_type == "Conv"
        and node.input[1] != "head.conv1.weight"
        and not node.input[1].endswith(masks)
    ]


def _byte_tensors(graph: onnx.GraphProto) -> list[str]:
    """Name the inputs and outputs of the integer convolutions; an output with a ReLU is the ReLU's."""
    relus = {node.input[0]: node.output[0] for node in graph.node if node.op_type == "Relu"}
    names: dict[str, None] = {}
    for node in _integer_convolutions(graph):
        names |= {node.input[0]: None, relus.get(node.output[0], node.output[0]): None}
    return list(names)


class _Rewriter:
    """Copies nodes, with steps from and to integers between them."""

    def __init__(self, graph: onnx.GraphProto, ranges: Ranges) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self._convolutions = {node.output[0] for node in _integer_convolutions(graph)}
        self._steps = {name: self._store_range(name, *ranges[name]) for name in _byte_tensors(graph)}
        self._copies = 0

    def add(self, node: onnx.NodeProto) -> None:
        """Copy one node."""
        inputs = [self._number(name) for name in node.input]
        if node.output[0] in self._convolutions:
            inputs[1:] = self._integers(node)
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:]
        copy.input.extend(inputs)
        self.nodes.append(copy)
        for name in node.output:
            if name in self._steps:
                self._node("QuantizeLinear", [name, f"{name}.step", f"{name}.zero"], f"{name}.bytes")

    def _number(self, name: str) -> str:
        """Give a tensor as 32-bit numbers. Each user gets a node of its own, as ONNX Runtime needs it."""
        if name not in self._steps:
            return name
        self._copies += 1
        return self._node(
            "DequantizeLinear",
            [f"{name}.bytes", f"{name}.step", f"{name}.zero"],
            f"{name}.number{self._copies}",
        )

    def _integers(self, node: onnx.NodeProto) -> list[str]:
        """Store kernel and bias of a convolution as integers, with a step for each output channel."""
        kernel, bias = (self._weights[name].astype(np.float64) for name in node.input[1:])
        most = np.maximum(np.abs(kernel).max(axis=(1, 2, 3)), 1e-8)
        steps = (most / WEIGHT_MAX).astype(np.float32)
        integers = np.clip(np.rint(kernel / steps[:, None, None, None]), -WEIGHT_MAX, WEIGHT_MAX)
        products = np.float32(self._steps[node.input[0]]) * steps
        return [
            self._constant_integers(node.input[1], integers.astype(np.int8), steps),
            self._constant_integers(node.input[2], np.rint(bias / products).astype(np.int32), products),
        ]

    def _constant_integers(self, name: str, values: NDArray[np.signedinteger], steps: Array) -> str:
        zeros = np.zeros(len(values), values.dtype)
        parts = [
            self._constant(f"{name}.{part}", array)
            for part, array in (("integers", values), ("steps", steps), ("zeros", zeros))
        ]
        return self._node("DequantizeLinear", parts, f"{name}.number", axis=0)

    def _store_range(self, name: str, least: float, most: float) -> float:
        """Choose the step of a tensor of bytes, so that 0 is one of its values."""
        least, most = min(least, 0.0), max(most, 0.0)
        step = np.float32((most - least) / 255)
        self._constant(f"{name}.step", np.array(step))
        self._constant(f"{name}.zero", np.array(round(-least / step), np.uint8))
        return float(step)

    def _constant(self, name: str, array: NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output
