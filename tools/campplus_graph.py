"""Build CAM++, the speaker encoder of 3D-Speaker, as an ONNX graph from the weights of its checkpoint.

Wang et al., "CAM++: A fast and efficient network for speaker verification using context-aware masking",
Interspeech 2023. The graph computes the network that its authors publish (3D-Speaker,
speakerlab/models/campplus), arranged for speed:

- Batch norms behind convolutions are folded into them. Those before a convolution, with a ReLU between,
  become one comparison: for a scale s > 0, relu(s x + b) = s max(x, -b / s) + b, and s and b go into the
  convolution; for s < 0 it is a minimum.
- The context masks have one value for each 100 steps (2 s). They are computed for these, not for each step.
- One-dimensional convolutions are written as two-dimensional ones of height 1, which ONNX Runtime runs on
  blocks of channels.

The embedding is the output of the last batch norm. A copy of the network that is spread with another package
has a ReLU behind it, which its authors' network has not.

`campplus_int8` turns it into a network of 8-bit integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_graphs import Array, Graph

BANDS, DIMENSIONS = 80, 192
BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each dense block."""
SEGMENT = 100
"""Steps of 20 ms that share a context mask."""
AROUND = [1, 1, 1, 1]
"""Padding of the head's convolutions: one band and one frame at each side."""

Floats = NDArray[np.float64]
_EPSILON = 1e-5  # PyTorch's default, in all batch norms


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A convolution with the batch norms around it folded in."""

    kernel: Floats
    """Shape [out, in, height, width]."""
    bias: Floats
    """Shape [out]."""


class Weights:
    """The weights of a checkpoint, by the names of its layers, with batch norms folded in."""

    def __init__(self, state: Mapping[str, Array]) -> None:
        self._state = state

    def conv(self, name: str, norm: str | None = None) -> Convolution:
        """Fold the batch norm behind a convolution into it."""
        kernel = self._kernel(name)
        bias = self._state.get(f"{name}.bias", np.zeros(len(kernel))).astype(np.float64)
        return self._with_norm(kernel, bias, norm)

    def dense(self) -> tuple[Floats, Floats]:
        """Fold the last batch norm into the last layer: matrix [192, 1024] and bias [192]."""
        scale, shift = self.scale_and_shift("xvector.dense.nonlinear.batchnorm")
        return self._state["xvector.dense.linear.weight"][:, :, 0] * scale[:, None], shift

    def scale_and_shift(self, norm: str) -> tuple[Floats, Floats]:
        """Give a batch norm as x * scale + shift."""
        mean = self._state[f"{norm}.running_mean"].astype(np.float64)
        scale = 1 / np.sqrt(self._state[f"{norm}.running_var"].astype(np.float64) + _EPSILON)
        if f"{norm}.weight" not in self._state:  # affine=False
            return scale, -mean * scale
        scale = scale * self._state[f"{norm}.weight"]
        return scale, self._state[f"{norm}.bias"] - mean * scale

    def _kernel(self, name: str) -> Floats:
        """Give a kernel as [out, in, height, width]; one-dimensional ones get height 1."""
        kernel = self._state[f"{name}.weight"].astype(np.float64)
        return kernel if kernel.ndim == 4 else kernel[:, :, None, :]

    def _with_norm(self, kernel: Floats, bias: Floats, norm: str | None) -> Convolution:
        if norm is None:
            return Convolution(kernel=kernel, bias=bias)
        scale, shift = self.scale_and_shift(norm)
        return Convolution(kernel=kernel * scale[:, None, None, None], bias=bias * scale + shift)


def campplus(state: Mapping[str, Array], *, norms_kept: bool = False) -> bytes:
    """Build the network. Input `feats` [n, frames, 80], output `embs` [n, 192], not of unit length.

    `feats` are Kaldi filter banks of 16 kHz samples with each band's mean removed; at least 4 frames.
    `norms_kept` keeps batch norms before convolutions as they are: what they give is alike in all channels,
    which quantization needs.
    """
    graph = _Builder(Weights(state), norms_kept).network()
    return graph.serialise(
        "campplus", inputs={"feats": ["n", "frames", BANDS]}, outputs={"embs": ["n", DIMENSIONS]}
    )


class _Builder:
    """Writes the network in order."""

    def __init__(self, weights: Weights, norms_kept: bool) -> None:
        self._graph, self._weights, self._norms_kept = Graph(), weights, norms_kept

    def network(self) -> Graph:
        """Write all of it."""
        x = self._graph.node("Transpose", "feats", perm=[0, 2, 1])
        x = self._graph.node("Unsqueeze", x, self._graph.integers("channel_axis", [1]))
        self._statistics(self._dense_blocks(self._head(x)))
        return self._graph

    def _head(self, x: str) -> str:
        """Write the residual network over bands and frames: [n, 1, 80, frames] to [n, 320, 1, frames]."""
        x = self._conv_relu(x, "head.conv1", "head.bn1", pads=AROUND)
        for layer in ("layer1", "layer2"):
            x = self._residual(x, f"head.{layer}.0", bands_step=2)
            x = self._residual(x, f"head.{layer}.1", bands_step=1)
        x = self._conv_relu(x, "head.conv2", "head.bn2", pads=AROUND, strides=[2, 1])
        return self._graph.node("Reshape", x, self._graph.integers("bands_as_channels", [0, 320, 1, -1]))

    def _residual(self, x: str, name: str, bands_step: int) -> str:
        strides = [bands_step, 1]
        y = self._conv_relu(x, f"{name}.conv1", f"{name}.bn1", pads=AROUND, strides=strides)
        y = self._conv(y, f"{name}.conv2", f"{name}.bn2", pads=AROUND)
        if bands_step != 1:
            x = self._conv(x, f"{name}.shortcut.0", f"{name}.shortcut.1", strides=strides)
        return self._relu(self._graph.node("Add", y, x, outputs=[f"{name}.out"]))

    def _dense_blocks(self, x: str) -> str:
        """Write the time-delay network: [n, 320, 1, frames] to [n, 512, 1, steps], steps = frames / 2."""
        tdnn, strides = "xvector.tdnn", [1, 2]
        norm = f"{tdnn}.nonlinear.batchnorm"
        x = self._conv_relu(x, f"{tdnn}.linear", norm, pads=[0, 2, 0, 2], strides=strides)
        self._count_steps(x)
        for number, (layers, dilation) in enumerate(BLOCKS, 1):
            for layer in range(1, layers + 1):
                new = self._dense_layer(x, f"xvector.block{number}.tdnnd{layer}", dilation)
                x = self._graph.node("Concat", x, new, axis=1)
            transit = f"xvector.transit{number}"
            # Behind the last one comes another batch norm.
            behind = "xvector.out_nonlinear.batchnorm" if number == len(BLOCKS) else None
            x = self._normed_conv(x, f"{transit}.nonlinear.batchnorm", f"{transit}.linear", behind)
        return self._relu(x)

    def _dense_layer(self, x: str, name: str, dilation: int) -> str:
        """Write one layer with its context mask; gives 32 channels."""
        y = self._normed_conv(
            x, f"{name}.nonlinear1.batchnorm", f"{name}.linear1", f"{name}.nonlinear2.batchnorm"
        )
        y = self._relu(y)
        around = [0, dilation, 0, dilation]
        local = self._conv(y, f"{name}.cam_layer.linear_local", pads=around, dilations=[1, dilation])
        return self._graph.node("Mul", local, self._context_mask(y, f"{name}.cam_layer"))

    def _context_mask(self, y: str, name: str) -> str:
        """Write the mask of a layer's steps `y` [n, 128, 1, steps]: [n, 32, 1, steps], 0..1."""
        pool: dict[str, Any] = {"kernel_shape": [1, SEGMENT], "strides": [1, SEGMENT], "ceil_mode": 1}
        segments = self._graph.node("AveragePool", y, **pool)
        context = self._graph.node("Add", segments, self._graph.node("GlobalAveragePool", y))
        mask = self._conv(self._conv_relu(context, f"{name}.linear1"), f"{name}.linear2")
        mask = self._graph.node("Sigmoid", mask)
        # Repeat each segment's values for its steps.
        mask = self._graph.node("Unsqueeze", mask, self._graph.integers("step_axis", [4]))
        mask = self._graph.node("Expand", mask, self._graph.integers("segment_shape", [1, 1, 1, 1, SEGMENT]))
        mask = self._graph.node("Reshape", mask, self._graph.integers("segments_in_a_row", [0, 0, 0, -1]))
        start, axis = self._graph.integers("i0", [0]), self._graph.integers("time_axis", [3])
        return self._graph.node("Slice", mask, start, self._steps, axis)

    def _statistics(self, x: str) -> None:
        """Write mean and deviation over time (its divisor is steps - 1) and the last linear layer."""
        mean = self._graph.node("ReduceMean", x, axes=[3], keepdims=1)
        centred = self._graph.node("Sub", x, mean)
        squares = self._graph.node("ReduceSumSquare", centred, axes=[3], keepdims=1)
        deviation = self._graph.node("Sqrt", self._graph.node("Div", squares, self._steps_less_one))
        flat = self._graph.node("Flatten", self._graph.node("Concat", mean, deviation, axis=1), axis=1)
        matrix, bias = self._weights.dense()
        names = self._constant("dense.weight", matrix), self._constant("dense.bias", bias)
        self._graph.node("Gemm", flat, *names, outputs=["embs"], transB=1)

    def _count_steps(self, x: str) -> None:
        self._steps = self._graph.node(
            "Gather", self._graph.node("Shape", x), self._graph.integers("time_axis", [3])
        )
        count = self._graph.node("Cast", self._steps, to=1)
        self._steps_less_one = self._graph.node("Sub", count, self._constant("one", np.ones(1)))

    def _conv_relu(self, x: str, name: str, norm: str | None = None, **attributes: object) -> str:
        return self._relu(self._conv(x, name, norm, **attributes))

    def _conv(self, x: str, name: str, norm: str | None = None, **attributes: object) -> str:
        return self._conv_of(x, name, self._weights.conv(name, norm), **attributes)

    def _normed_conv(self, x: str, before: str, name: str, behind: str | None) -> str:
        """Write batch norm, ReLU and a 1x1 convolution, with the batch norm behind it."""
        scale, shift = self._weights.scale_and_shift(before)
        convolution = self._weights.conv(name, behind)
        if self._norms_kept:
            x = self._relu(self._norm(x, before, scale, shift))
            return self._conv_of(x, name, convolution)
        limit, negative = -shift / scale, scale < 0
        x = self._graph.node("Max", x, self._channels(f"{name}.least", np.where(negative, -np.inf, limit)))
        if negative.any():
            x = self._graph.node("Min", x, self._channels(f"{name}.most", np.where(negative, limit, np.inf)))
        kernel = convolution.kernel
        folded = Convolution(
            kernel=kernel * scale[None, :, None, None],
            bias=convolution.bias + kernel[:, :, 0, 0] @ shift,
        )
        return self._conv_of(x, name, folded)

    def _norm(self, x: str, name: str, scale: Floats, shift: Floats) -> str:
        parts = {
            "scale": scale,
            "shift": shift,
            "mean": np.zeros(len(scale)),
            "variance": np.ones(len(scale)),
        }
        names = [self._constant(f"{name}.{part}", values) for part, values in parts.items()]
        return self._graph.node("BatchNormalization", x, *names, epsilon=0.0)

    def _conv_of(self, x: str, name: str, convolution: Convolution, **attributes: object) -> str:
        names = (
            self._constant(f"{name}.weight", convolution.kernel),
            self._constant(f"{name}.bias", convolution.bias),
        )
        shape = list(convolution.kernel.shape[2:])
        return self._graph.node("Conv", x, *names, outputs=[f"{name}.out"], kernel_shape=shape, **attributes)

    def _relu(self, x: str) -> str:
        return self._graph.node("Relu", x, outputs=[f"{x}.relu"])

    def _channels(self, name: str, values: Floats) -> str:
        return self._constant(name, values[None, :, None, None])

    def _constant(self, name: str, values: Floats) -> str:
        return self._graph.constant(name, values.astype(np.float32))
