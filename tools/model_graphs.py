"""Build the two ONNX graphs that Sonant ships from the weights of their published packages.

Both are written node by node, so that the same weights always give the same bytes (no exporter, no tracing)
and so that each network has the shape that runs fastest in one call: windows as a batch for the speaker
encoder, a whole recording's frames as a batch for the speech detector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]

OPSET = 17
ML_DOMAIN = "ai.onnx.ml"
IR_VERSION = 8  # the oldest that carries opset 17: any onnxruntime from 1.12 on reads it


def speaker_encoder(weights: Mapping[str, Array]) -> bytes:
    """Build GE2E: three LSTM layers of 256, the last hidden state, linear, ReLU, unit length.

    `weights` are named as in the PyTorch checkpoint. Input `mels` [n, 160, 40], output `embeddings` [n, 256].
    """
    graph = Graph()
    x = graph.node("Transpose", "mels", perm=[1, 0, 2])
    for layer in range(3):
        lstm = [
            graph.constant(f"lstm{layer}_{name}", array)
            for name, array in lstm_weights(
                weights[f"lstm.weight_ih_l{layer}"],
                weights[f"lstm.weight_hh_l{layer}"],
                weights[f"lstm.bias_ih_l{layer}"],
                weights[f"lstm.bias_hh_l{layer}"],
            ).items()
        ]
        if layer < 2:
            x = graph.node("LSTM", x, *lstm, outputs=[f"y{layer}"], hidden_size=256)
            x = graph.node("Squeeze", x, graph.integers("direction_axis", [1]))
        else:
            graph.node("LSTM", x, *lstm, outputs=["", "last_hidden"], hidden_size=256)
            x = graph.node("Squeeze", "last_hidden", graph.integers("layer_axis", [0]))
    x = graph.node(
        "Gemm",
        x,
        graph.constant("linear_weight", weights["linear.weight"]),
        graph.constant("linear_bias", weights["linear.bias"]),
        transB=1,
    )
    x = graph.node("Relu", x)
    length = graph.node("ReduceL2", x, axes=[1], keepdims=1)
    # A window that no unit answers to has length 0: it becomes the zero vector instead of NaN.
    length = graph.node("Max", length, graph.constant("tiny", np.array(1e-12, np.float32)))
    graph.node("Div", x, length, outputs=["embeddings"])
    return graph.serialise("ge2e", inputs={"mels": ["n", 160, 40]}, outputs={"embeddings": ["n", 256]})


def encoder_weights(graph: bytes) -> dict[str, Array]:
    """Extract the weights of a graph that `speaker_encoder` wrote, named as there.

    ONNX and PyTorch order the gates differently; see `lstm_weights`.
    """
    constants = onnx.load_from_string(graph).graph.initializer
    found = {constant.name: np.array(numpy_helper.to_array(constant)) for constant in constants}

    def reorder(array: Array) -> Array:
        i, o, f, g = np.split(array, 4)
        return np.concatenate([i, f, g, o])

    weights = {"linear.weight": found["linear_weight"], "linear.bias": found["linear_bias"]}
    for layer in range(3):
        w, r, b = (found[f"lstm{layer}_{name}"][0] for name in "wrb")
        weights[f"lstm.weight_ih_l{layer}"], weights[f"lstm.weight_hh_l{layer}"] = reorder(w), reorder(r)
        weights[f"lstm.bias_ih_l{layer}"], weights[f"lstm.bias_hh_l{layer}"] = map(reorder, np.split(b, 2))
    return weights


def speech_detector(weights: Mapping[str, Array]) -> bytes:
    """Build Silero's 8 kHz network over a sequence of frames.

    All frames are processed at once up to the LSTM, which then runs over time.

    `weights` are named as in the published graph's 8 kHz branch, without its prefix. Inputs: `frames`
    [n, 288] (each frame's 256 samples after the 32 that precede them), `h` and `c` [1, 1, 128]. Outputs:
    `probabilities` [n] and the state after the last frame.

    The convolutions see four time steps a frame, so each is written as one matrix product over all frames
    (taps placed side by side): the same sums, without a tiny convolution per frame.
    """
    graph = Graph()
    basis = weights["stft.forward_basis_buffer"]  # [130, 1, 128]: real rows, then imaginary rows
    bins = basis.shape[0] // 2

    x = graph.node("Pad", "frames", graph.integers("reflect_end", [0, 0, 0, 32]), mode="reflect")
    x = graph.node("Reshape", x, graph.integers("hops", [-1, 5, 64]))
    x = graph.node("Concat", graph.cut(x, 1, 0, 4), graph.cut(x, 1, 1, 5), axis=2)  # [n, 4, 128]
    x = graph.product(x, "stft", basis[:, 0].T)
    x = graph.node("Mul", x, x)
    x = graph.node("Add", graph.cut(x, 2, 0, bins), graph.cut(x, 2, bins, 2 * bins))
    x = graph.node("Sqrt", x)  # magnitudes, [n, 4, 65]

    def taps(layer: int, which: slice) -> Array:
        kernel = weights[f"encoder.{layer}.reparam_conv.weight"][:, :, which]  # [out, in, taps]
        return kernel.transpose(2, 1, 0).reshape(-1, kernel.shape[0])

    def layer(x: str, number: int, which: slice) -> str:
        bias = graph.constant(f"encoder{number}_bias", weights[f"encoder.{number}.reparam_conv.bias"])
        product = graph.product(x, f"encoder{number}", taps(number, which))
        return graph.node("Relu", graph.node("Add", product, bias))

    sides = graph.integers("one_step_each_side", [0, 1, 0, 0, 1, 0])
    x = graph.node("Pad", x, sides)  # [n, 6, 65]
    x = graph.node("Concat", *(graph.cut(x, 1, k, k + 4) for k in range(3)), axis=2)
    x = layer(x, 0, slice(0, 3))  # stride 1: [n, 4, 128]
    x = graph.node("Pad", x, sides)
    x = graph.node("Reshape", x, graph.integers("steps_in_a_row", [-1, 6 * 128]))
    first, second = graph.cut(x, 1, 0, 3 * 128), graph.cut(x, 1, 2 * 128, 5 * 128)
    x = graph.node("Concat", first, second, axis=1)
    x = graph.node("Reshape", x, graph.integers("two_steps", [-1, 2, 3 * 128]))
    x = layer(x, 1, slice(0, 3))  # stride 2: [n, 2, 64]
    x = graph.node("Reshape", x, graph.integers("both_steps", [-1, 2 * 64]))
    x = layer(x, 2, slice(1, 3))  # stride 2, the first tap lies in the padding: [n, 64]
    x = layer(x, 3, slice(1, 2))  # one step, both outer taps lie in the padding: [n, 128]

    x = graph.node("Unsqueeze", x, graph.integers("batch_axis", [1]))
    lstm = lstm_weights(
        weights["decoder.rnn.weight_ih"],
        weights["decoder.rnn.weight_hh"],
        weights["decoder.rnn.bias_ih"],
        weights["decoder.rnn.bias_hh"],
    )
    names = [graph.constant(f"lstm_{name}", array) for name, array in lstm.items()]
    graph.node("LSTM", x, *names, "", "h", "c", outputs=["states", "hn", "cn"], hidden_size=128)
    x = graph.node("Reshape", "states", graph.integers("per_frame", [-1, 128]))
    x = graph.node("Relu", x)
    x = graph.product(x, "decoder", weights["decoder.decoder.2.weight"][0])
    x = graph.node("Add", x, graph.constant("decoder_bias", weights["decoder.decoder.2.bias"]))
    x = graph.node("Sigmoid", x)
    graph.node("Reshape", x, graph.integers("flat", [-1]), outputs=["probabilities"])
    return graph.serialise(
        "silero_vad_8k",
        inputs={"frames": ["n", 288], "h": [1, 1, 128], "c": [1, 1, 128]},
        outputs={"probabilities": ["n"], "hn": [1, 1, 128], "cn": [1, 1, 128]},
    )


def silero_weights(published: bytes) -> dict[str, Array]:
    """Extract the 8 kHz weights of the published graph, constants of the If node's else branch."""
    model = onnx.load_from_string(published)
    (switch,) = (node for node in model.graph.node if node.op_type == "If")
    (branch,) = (attribute.g for attribute in switch.attribute if attribute.name == "else_branch")
    prefix = "If_0_else_branch__Inline_0__"
    weights = {}
    for node in branch.node:
        name = node.output[0].removeprefix(prefix)
        if node.op_type == "Constant" and name.startswith(("stft.", "encoder.", "decoder.")):
            weights[name] = np.array(numpy_helper.to_array(node.attribute[0].t), np.float32)
    return weights


def lstm_weights(w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> dict[str, Array]:
    """Reorder gates from PyTorch's input, forget, cell, output to ONNX's input, output, forget, cell."""

    def reorder(array: Array) -> Array:
        i, f, g, o = np.split(array, 4)
        return np.concatenate([i, o, f, g])

    return {
        "w": reorder(w_ih)[None],
        "r": reorder(w_hh)[None],
        "b": np.concatenate([reorder(b_ih), reorder(b_hh)])[None],
    }


class Graph:
    """Collects nodes and constants under readable names and writes them out in order."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(
        self, kind: str, *inputs: str, outputs: Sequence[str] | None = None, **attributes: object
    ) -> str:
        names = list(outputs) if outputs else [f"{kind.lower()}_{len(self._nodes)}"]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def constant(self, name: str, array: NDArray[np.generic]) -> str:
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def integers(self, name: str, values: Sequence[int]) -> str:
        return self.constant(name, np.array(values, np.int64))

    def cut(self, x: str, axis: int, start: int, stop: int) -> str:
        bounds = [self.integers(f"i{value}", [value]) for value in (start, stop, axis)]
        return self.node("Slice", x, *bounds)

    def product(self, x: str, name: str, matrix: Array) -> str:
        return self.node("MatMul", x, self.constant(f"{name}_matrix", matrix))

    def serialise(
        self, name: str, inputs: Mapping[str, Sequence[int | str]], outputs: Mapping[str, Sequence[int | str]]
    ) -> bytes:
        def infos(shapes: Mapping[str, Sequence[int | str]]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(key, TensorProto.FLOAT, list(shape))
                for key, shape in shapes.items()
            ]

        graph = helper.make_graph(
            self._nodes, name, infos(inputs), infos(outputs), list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == ML_DOMAIN for node in self._nodes):
            opsets.append(helper.make_opsetid(ML_DOMAIN, 3))
        model = helper.make_model(graph, opset_imports=opsets, producer_name="sonant")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        serialised: bytes = model.SerializeToString(deterministic=True)
        return serialised
