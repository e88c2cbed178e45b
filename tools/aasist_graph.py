"""Write AASIST as an ONNX graph, node by node from its weights.

The anti-spoofing network of Jung et al., "AASIST: Audio anti-spoofing using integrated spectro-temporal graph
attention networks" (arXiv 2110.01200).

    waveform -> 70 sinc filters -> |x|, pooled -> six residual blocks -> frequency graph and time graph
             -> attention in each, pooled -> two branches of attention over both graphs and a stack node
             -> element-wise maximum of the branches -> two logits: spoof, bona fide

A window has a fixed length, so every shape is known when the graph is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from model_graphs import Array, Graph

RATE_HZ, WINDOW = 16000, 64600
_FILTERS, _TAPS, _FFT = 70, 129, 512
_EPSILON = 1e-5  # of batch normalization
_KEEP = {"pool_S": 0.5, "pool_T": 0.7, "pool_hS1": 0.5, "pool_hT1": 0.5, "pool_hS2": 0.5, "pool_hT2": 0.5}
_TEMPERATURE_SINGLE, _TEMPERATURE_BOTH = 2.0, 100.0


def countermeasure(weights: Mapping[str, Array], window: int = WINDOW) -> bytes:
    """Build the graph; `weights` are named as in the published checkpoint.

    Input `samples` [n, window], output `logits` [n, 2].
    """
    builder = _Aasist(weights)
    return builder.build(window)


class _Aasist:
    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._w, self._g = weights, Graph()

    def build(self, window: int) -> bytes:
        g = self._g
        x = g.node("Unsqueeze", "samples", g.integers("channel_axis", [1]))
        x = g.node("Conv", x, g.constant("sinc_filters", sinc_filters()))
        x = g.node("Unsqueeze", g.node("Abs", x), g.integers("channel_axis", [1]))
        x = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[3, 3])
        x = self._selu(self._normalised(x, "first_bn", (1, 1, 1, 1)))
        steps = (window - _TAPS + 1) // 3
        for block in range(6):
            x, steps = self._residual(x, block), steps // 3
        x = g.node("Abs", x)  # [n, 64, 23, steps]
        bands = g.node("ReduceMax", x, axes=[3], keepdims=0)
        bands = g.node("Add", g.node("Transpose", bands, perm=[0, 2, 1]), self._weight("pos_S"))
        times = g.node("Transpose", g.node("ReduceMax", x, axes=[2], keepdims=0), perm=[0, 2, 1])
        bands, band_count = self._pooled(self._attention(bands, "GAT_layer_S"), "pool_S", _FILTERS // 3)
        times, time_count = self._pooled(self._attention(times, "GAT_layer_T"), "pool_T", steps)

        branches = []
        for branch in (1, 2):
            t, s, stack = self._both(
                times,
                bands,
                self._weight(f"master{branch}"),
                time_count,
                band_count,
                f"HtrgGAT_layer_ST{branch}1",
            )
            s, s_count = self._pooled(s, f"pool_hS{branch}", band_count)
            t, t_count = self._pooled(t, f"pool_hT{branch}", time_count)
            more = self._both(t, s, stack, t_count, s_count, f"HtrgGAT_layer_ST{branch}2")
            branches.append([g.node("Add", a, b) for a, b in zip((t, s, stack), more, strict=True)])
        t, s, stack = (g.node("Max", a, b) for a, b in zip(*branches, strict=True))
        readout = []
        for nodes in (t, s):
            readout.append(g.node("ReduceMax", g.node("Abs", nodes), axes=[1], keepdims=0))
            readout.append(g.node("ReduceMean", nodes, axes=[1], keepdims=0))
        readout.append(g.node("Squeeze", stack, g.integers("channel_axis", [1])))
        x = g.node("Concat", *readout, axis=1)
        weight, bias = self._weight("out_layer.weight"), self._weight("out_layer.bias")
        g.node("Gemm", x, weight, bias, outputs=["logits"], transB=1)
        return g.serialise("aasist", inputs={"samples": ["n", window]}, outputs={"logits": ["n", 2]})

    def _residual(self, x: str, block: int) -> str:
        """Add two convolutions (2 bands by 3 steps) and a shortcut; a third of the steps remain."""
        g, name = self._g, f"encoder.{block}.0"
        # The paper normalises before the first convolution too; the network that the weights were trained in
        # leaves that out (its `bn1` is there and unused). The one after it is folded into its weights.
        scale, shift = self._scale_shift(f"{name}.bn2")
        kernel = g.constant(f"{name}.conv1", self._w[f"{name}.conv1.weight"] * scale[:, None, None, None])
        bias = g.constant(f"{name}.bias1", self._w[f"{name}.conv1.bias"] * scale + shift)
        y = self._selu(g.node("Conv", x, kernel, bias, pads=[1, 1, 1, 1]))
        y = g.node(
            "Conv",
            y,
            self._weight(f"{name}.conv2.weight"),
            self._weight(f"{name}.conv2.bias"),
            pads=[0, 1, 0, 1],
        )
        if f"{name}.conv_downsample.weight" in self._w:
            kernel, bias = (self._weight(f"{name}.conv_downsample.{part}") for part in ("weight", "bias"))
            x = g.node("Conv", x, kernel, bias, pads=[0, 1, 0, 1])
        return g.node("MaxPool", g.node("Add", y, x), kernel_shape=[1, 3], strides=[1, 3])

    def _attention(self, x: str, name: str) -> str:
        """Add graph attention over [n, nodes, dims], weighted by the products of pairs."""
        g = self._g
        pairs = self._pairs(x, f"{name}.att_proj")
        attention = g.node("MatMul", pairs, self._weight(f"{name}.att_weight"))
        return self._mixed(x, attention, _TEMPERATURE_SINGLE, name)

    def _both(
        self, times: str, bands: str, stack: str, time_count: int, band_count: int, name: str
    ) -> tuple[str, str, str]:
        """Add attention over both graphs and a stack node, with weights for pairs within and between."""
        g = self._g
        x = g.node(
            "Concat",
            self._linear(times, f"{name}.proj_type1"),
            self._linear(bands, f"{name}.proj_type2"),
            axis=1,
        )
        attention = self._linear(g.node("Mul", x, stack), f"{name}.att_projM")
        attention = g.node("MatMul", g.node("Tanh", attention), self._weight(f"{name}.att_weightM"))
        attention = self._soft(attention, 1, _TEMPERATURE_BOTH)
        attended = g.node("MatMul", g.node("Transpose", attention, perm=[0, 2, 1]), x)
        stack = g.node(
            "Add",
            self._linear(attended, f"{name}.proj_with_attM"),
            self._linear(stack, f"{name}.proj_without_attM"),
        )
        # Three candidate weights for each pair; a mask picks the one for the two graphs it lies in.
        kinds = np.concatenate([self._w[f"{name}.att_weight{kind}"] for kind in ("11", "22", "12")], axis=1)
        pairs = g.product(self._pairs(x, f"{name}.att_proj"), f"{name}.kinds", kinds)
        of_bands = np.arange(time_count + band_count) >= time_count
        both, none = of_bands[:, None] & of_bands, ~of_bands[:, None] & ~of_bands
        mask = np.stack([none, both, ~(both | none)], axis=2).astype(np.float32)
        mask_name = g.constant(f"pairs_{time_count}_{band_count}", mask)
        attention = g.node("ReduceSum", g.node("Mul", pairs, mask_name), g.integers("last", [-1]), keepdims=1)
        x = self._mixed(x, attention, _TEMPERATURE_BOTH, name)
        return (
            g.cut(x, 1, 0, time_count),
            g.cut(x, 1, time_count, time_count + band_count),
            stack,
        )

    def _pairs(self, x: str, projection: str) -> str:
        """Add the projected products of all pairs of nodes: [n, nodes, nodes, dims]."""
        g = self._g
        rows = g.node("Unsqueeze", x, g.integers("row_axis", [2]))
        columns = g.node("Unsqueeze", x, g.integers("channel_axis", [1]))
        return g.node("Tanh", self._linear(g.node("Mul", rows, columns), projection))

    def _mixed(self, x: str, attention: str, temperature: float, name: str) -> str:
        """Add the attended and the original nodes, [n, nodes, dims]; normalized."""
        g = self._g
        attention = self._soft(attention, 2, temperature)
        attention = g.node("Squeeze", attention, g.integers("last", [-1]))
        attended = self._linear(g.node("MatMul", attention, x), f"{name}.proj_with_att")
        x = g.node("Add", attended, self._linear(x, f"{name}.proj_without_att"))
        return self._selu(self._normalised(x, f"{name}.bn", (1, 1, -1)))

    def _pooled(self, x: str, name: str, count: int) -> tuple[str, int]:
        """Select the nodes with the highest scores, weighted by them."""
        g, selected = self._g, max(int(count * _KEEP[name]), 1)
        scores = g.node("Sigmoid", self._linear(x, f"{name}.proj"))
        values = [f"{name}_scores", f"{name}_places"]
        g.node("TopK", scores, g.integers(f"k{selected}", [selected]), outputs=values, axis=1)
        dims = self._w[f"{name}.proj.weight"].shape[1]
        # Expand broadcasts [n, selected, 1] against [1, 1, dims].
        places = g.node("Expand", values[1], g.integers(f"dims{dims}", [1, 1, dims]))
        return g.node("GatherElements", g.node("Mul", x, scores), places, axis=1), selected

    def _linear(self, x: str, name: str) -> str:
        product = self._g.product(x, name, self._w[f"{name}.weight"].T)
        return self._g.node("Add", product, self._weight(f"{name}.bias"))

    def _soft(self, x: str, axis: int, temperature: float) -> str:
        warm = self._g.constant(f"temperature_{temperature:g}", np.array(temperature, np.float32))
        return self._g.node("Softmax", self._g.node("Div", x, warm), axis=axis)

    def _selu(self, x: str) -> str:
        return self._g.node("Selu", x)

    def _normalised(self, x: str, name: str, shape: tuple[int, ...]) -> str:
        scale, shift = self._scale_shift(name)
        x = self._g.node("Mul", x, self._g.constant(f"{name}.scale", scale.reshape(shape)))
        return self._g.node("Add", x, self._g.constant(f"{name}.shift", shift.reshape(shape)))

    def _scale_shift(self, name: str) -> tuple[Array, Array]:
        """Convert batch normalization with the statistics of training to a scale and a shift."""
        w = {part: self._w[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
        scale = w["weight"] / np.sqrt(w["running_var"] + np.float32(_EPSILON))
        return scale, w["bias"] - w["running_mean"] * scale

    def _weight(self, name: str) -> str:
        return self._g.constant(name, self._w[name])


def sinc_filters() -> Array:
    """Build Hamming-windowed ideal band-passes with edges evenly spaced in mel over 0-8 kHz; [70, 1, 129]."""
    top_mel = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top_mel, _FILTERS + 1) / 2595) - 1)
    time = np.arange(_TAPS) - (_TAPS - 1) / 2

    def low_pass(hz: float) -> np.ndarray:
        return 2 * hz / RATE_HZ * np.sinc(2 * hz * time / RATE_HZ)

    bands = [low_pass(high) - low_pass(low) for low, high in pairwise(edges)]
    filters: Array = (np.hamming(_TAPS) * np.array(bands))[:, None].astype(np.float32)
    return filters
