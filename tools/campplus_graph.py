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
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_graphs import Array, Graph

BANDS, DIMENSIONS = 80, 192
BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each dense block."""
SEGMENT = 100
"""Steps of 20 ms that share a context mask."""
_EPSILON = 1e-5  # PyTorch's default, in all batch norms


def campplus(weights: Mapping[str, Array], *, norms_kept: bool = False) -> bytes:
    """Build the network. `norms_kept` keeps batch norms before convolutions, for quantization.

    Input `feats` [n, frames, 80], output `embs` [n, 192], not of unit length.

    `feats` are Kaldi filter banks of 16 kHz samples with each band's mean removed; at least 4 frames.
    """
    builder = _Builder(weights, norms_kept)
    x = builder.graph.node("Transpose", "feats", perm=[0, 2, 1])
    x = builder.graph.node("Unsqueeze", x, builder.graph.integers("channel_axis", [1]))
    x = builder.head(x)
    x = builder.dense_blocks(x)
    builder.statistics(x)
    return builder.graph.serialise(
        "campplus", inputs={"feats": ["n", "frames", BANDS]}, outputs={"embs": ["n", DIMENSIONS]}
    )


class _Builder:
    """Writes the parts of the network in order."""

    def __init__(self, weights: Mapping[str, Array], norms_kept: bool) -> None:
        self.graph, self._weights, self._norms_kept = Graph(), weights, norms_kept

    def head(self, x: str) -> str:
        """Write the residual network over bands and frames: [n, 1, 80, frames] to [n, 320, 1, frames]."""
        x = self._relu(self._conv(x, "head.conv1", norm="head.bn1", pads=[1, 1, 1, 1]))
        for layer in ("layer1", "layer2"):
            for number in range(2):
                x = self._residual(x, f"head.{layer}.{number}", bands_step=2 if number == 0 else 1)
        x = self._relu(
            self._conv(x, "head.conv2", norm="head.bn2", pads=[1, 1, 1, 1], strides=[2, 1]),
        )
        return self.graph.node("Reshape", x, self.graph.integers("bands_as_channels", [0, 320, 1, -1]))

    def dense_blocks(self, x: str) -> str:
        """Write the time-delay network: [n, 320, 1, frames] to [n, 512, 1, frames / 2]."""
        x = self._relu(
            self._conv(
                x,
                "xvector.tdnn.linear",
                norm="xvector.tdnn.nonlinear.batchnorm",
                pads=[0, 2, 0, 2],
                strides=[1, 2],
            )
        )
        self._count_steps(x)
        for number, (layers, dilation) in enumerate(BLOCKS, 1):
            for layer in range(1, layers + 1):
                new = self._dense_layer(x, f"xvector.block{number}.tdnnd{layer}", dilation)
                x = self.graph.node("Concat", x, new, axis=1)
            transit = f"xvector.transit{number}"
            # The last one's result meets another batch norm, folded into it like those in the layers.
            norm = "xvector.out_nonlinear.batchnorm" if number == len(BLOCKS) else None
            x = self._normed_conv(x, f"{transit}.nonlinear.batchnorm", f"{transit}.linear", norm=norm)
        return self._relu(x)

    def statistics(self, x: str) -> None:
        """Write mean and deviation over time (its divisor is steps - 1) and the last linear layer."""
        mean = self.graph.node("ReduceMean", x, axes=[3], keepdims=1)
        centred = self.graph.node("Sub", x, mean)
        squares = self.graph.node("ReduceSumSquare", centred, axes=[3], keepdims=1)
        variance = self.graph.node("Div", squares, self._steps_less_one)
        both = self.graph.node("Concat", mean, self.graph.node("Sqrt", variance), axis=1)
        flat = self.graph.node("Flatten", both, axis=1)
        scale, shift = self._scale_and_shift("xvector.dense.nonlinear.batchnorm")
        matrix = self._weights["xvector.dense.linear.weight"][:, :, 0]
        self.graph.node(
            "Gemm",
            flat,
            self.graph.constant("dense_weight", (matrix * scale[:, None]).astype(np.float32)),
            self.graph.constant("dense_bias", shift.astype(np.float32)),
            outputs=["embs"],
            transB=1,
        )

    def _residual(self, x: str, name: str, bands_step: int) -> str:
        strides = [bands_step, 1]
        y = self._relu(
            self._conv(x, f"{name}.conv1", norm=f"{name}.bn1", pads=[1, 1, 1, 1], strides=strides)
        )
        y = self._conv(y, f"{name}.conv2", norm=f"{name}.bn2", pads=[1, 1, 1, 1])
        if bands_step != 1:
            x = self._conv(x, f"{name}.shortcut.0", norm=f"{name}.shortcut.1", strides=strides)
        return self._relu(self.graph.node("Add", y, x))

    def _dense_layer(self, x: str, name: str, dilation: int) -> str:
        """Write one layer with its context mask; gives 32 channels."""
        y = self._normed_conv(
            x, f"{name}.nonlinear1.batchnorm", f"{name}.linear1", norm=f"{name}.nonlinear2.batchnorm"
        )
        y = self._relu(y)
        local = self._conv(
            y, f"{name}.cam_layer.linear_local", pads=[0, dilation, 0, dilation], dilations=[1, dilation]
        )
        mean = self.graph.node("GlobalAveragePool", y)
        segments = self.graph.node(
            "AveragePool", y, kernel_shape=[1, SEGMENT], strides=[1, SEGMENT], ceil_mode=1
        )
        context = self.graph.node("Add", segments, mean)
        mask = self._relu(self._conv(context, f"{name}.cam_layer.linear1"))
        mask = self.graph.node("Sigmoid", self._conv(mask, f"{name}.cam_layer.linear2"))
        return self.graph.node("Mul", local, self._per_step(mask))

    def _per_step(self, mask: str) -> str:
        """Repeat each segment's values for its steps: [n, 32, 1, segments] to [n, 32, 1, steps]."""
        x = self.graph.node("Unsqueeze", mask, self.graph.integers("step_axis", [4]))
        x = self.graph.node("Expand", x, self.graph.integers("segment_shape", [1, 1, 1, 1, SEGMENT]))
        x = self.graph.node("Reshape", x, self.graph.integers("segments_in_a_row", [0, 0, 0, -1]))
        start, axis = self.graph.integers("i0", [0]), self.graph.integers("time_axis", [3])
        return self.graph.node("Slice", x, start, self._steps, axis)

    def _count_steps(self, x: str) -> None:
        shape = self.graph.node("Shape", x)
        axis = self.graph.integers("time_axis", [3])
        self._steps = self.graph.node("Gather", shape, axis)
        steps = self.graph.node("Cast", self._steps, to=1)
        one = self.graph.constant("one", np.array([1], np.float32))
        self._steps_less_one = self.graph.node("Sub", steps, one)

    def _conv(self, x: str, name: str, norm: str | None = None, **attributes: object) -> str:
        """Write a convolution with the batch norm behind it."""
        kernel, bias = self._kernel(name), self._weights.get(f"{name}.bias")
        if norm is not None:
            kernel, bias = self._with_norm(kernel, bias, norm)
        return self._conv_of(x, name, kernel, bias, **attributes)

    def _normed_conv(self, x: str, before: str, name: str, norm: str | None = None) -> str:
        """Write batch norm, ReLU and a 1x1 convolution, with the batch norm behind it."""
        scale, shift = self._scale_and_shift(before)
        kernel = self._kernel(name)
        if self._norms_kept:
            zero, one = np.zeros_like(scale, np.float32), np.ones_like(scale, np.float32)
            names = [
                self.graph.constant(f"{before}.{part}", values.astype(np.float32))
                for part, values in (("scale", scale), ("shift", shift), ("zero", zero), ("one", one))
            ]
            x = self._relu(self.graph.node("BatchNormalization", x, *names, epsilon=0.0))
            bias = None
            if norm is not None:
                kernel, bias = self._with_norm(kernel, None, norm)
            return self._conv_of(x, name, kernel, bias)
        limit = (-shift / scale)[None, :, None, None]
        upper = (scale < 0)[None, :, None, None]
        x = self.graph.node("Max", x, self._limit(f"{name}_least", np.where(upper, -np.inf, limit)))
        if upper.any():
            x = self.graph.node("Min", x, self._limit(f"{name}_most", np.where(upper, limit, np.inf)))
        bias = kernel[:, :, 0, 0] @ shift
        kernel = kernel * scale[None, :, None, None]
        if norm is not None:
            kernel, bias = self._with_norm(kernel, bias, norm)
        return self._conv_of(x, name, kernel, bias)

    def _limit(self, name: str, values: NDArray[np.float64]) -> str:
        return self.graph.constant(name, values.astype(np.float32))

    def _conv_of(
        self, x: str, name: str, kernel: NDArray[np.floating], bias: NDArray[np.floating] | None, **more: object
    ) -> str:
        inputs = [self.graph.constant(f"{name}.weight", kernel.astype(np.float32))]
        if bias is not None:
            inputs.append(self.graph.constant(f"{name}.bias", bias.astype(np.float32)))
        return self.graph.node("Conv", x, *inputs, kernel_shape=list(kernel.shape[2:]), **more)

    def _kernel(self, name: str) -> NDArray[np.float64]:
        """Give a kernel as [out, in, height, width]; one-dimensional ones get height 1."""
        kernel = self._weights[f"{name}.weight"].astype(np.float64)
        return kernel if kernel.ndim == 4 else kernel[:, :, None, :]

    def _with_norm(
        self, kernel: NDArray[np.float64], bias: NDArray[np.floating] | None, norm: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        scale, shift = self._scale_and_shift(norm)
        before = 0 if bias is None else bias
        return kernel * scale[:, None, None, None], before * scale + shift

    def _scale_and_shift(self, norm: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give a batch norm as x * scale + shift."""
        mean = self._weights[f"{norm}.running_mean"].astype(np.float64)
        scale = 1 / np.sqrt(self._weights[f"{norm}.running_var"].astype(np.float64) + _EPSILON)
        if f"{norm}.weight" not in self._weights:  # affine=False
            return scale, -mean * scale
        scale = scale * self._weights[f"{norm}.weight"]
        return scale, self._weights[f"{norm}.bias"] - mean * scale

    def _relu(self, x: str) -> str:
        return self.graph.node("Relu", x)
