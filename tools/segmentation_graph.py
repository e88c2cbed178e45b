"""Write pyannote's speaker segmentation network (PyanNet, segmentation-3.0) as an ONNX graph for 8 kHz.

The network takes 16 kHz: its first layer is a bank of windowed sinc filters (SincNet) over samples. Speech
here is at 8 kHz and holds nothing above 4 kHz, so interpolation to 16 kHz and the filters are joined into
filters at 8 kHz. Those whose band lies above 4 kHz would see silence: what they add to the next layer is
constant and becomes part of its bias.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model_graphs import Array, Graph, lstm_weights

RATE_HZ, TRAINED_RATE_HZ = 8000, 16000
STRIDE = 5
"""Samples between two filter outputs at 8 kHz: 10 at 16 kHz."""
_MIN_HZ = 50.0  # added to the trained lower edge and band width of each filter
_HALF_INTERPOLATOR = 64  # samples at 16 kHz on each side
_LEAKY, _EPSILON = 0.01, 1e-5  # PyTorch's defaults of LeakyReLU and InstanceNorm1d


def speaker_segmentation(weights: Mapping[str, Array]) -> bytes:
    """Build the network: `samples` [n, t] at 8 kHz to `probabilities` [n, frames, 7].

    `weights` are named as in the checkpoint. The classes are nobody, speaker 1, 2, 3, and 1 with 2, 1 with 3,
    2 with 3; frames are 135 samples apart.
    """
    graph = Graph()
    x = graph.node("Unsqueeze", "samples", graph.integers("channel_axis", [1]))
    x = _normalized(
        graph, x, "wav_norm", weights["sincnet.wav_norm1d.weight"], weights["sincnet.wav_norm1d.bias"]
    )
    filters, used = telephone_filters(weights)
    gain, shift = weights["sincnet.norm1d.0.weight"], weights["sincnet.norm1d.0.bias"]
    x = graph.node("Conv", x, graph.constant("filters", filters[used][:, None]), strides=[STRIDE])
    x = graph.node("Abs", x)
    x = _pooled(graph, x, 0, gain[used], shift[used])
    kernel, bias = weights["sincnet.conv1d.1.weight"], weights["sincnet.conv1d.1.bias"]
    unused = ~used
    constant = np.where(shift[unused] > 0, shift[unused], _LEAKY * shift[unused])
    bias = bias + np.einsum("oik,i->o", kernel[:, unused], constant)
    x = _convolved(graph, x, 1, kernel[:, used], bias.astype(np.float32))
    x = _pooled(graph, x, 1, weights["sincnet.norm1d.1.weight"], weights["sincnet.norm1d.1.bias"])
    x = _convolved(graph, x, 2, weights["sincnet.conv1d.2.weight"], weights["sincnet.conv1d.2.bias"])
    x = _pooled(graph, x, 2, weights["sincnet.norm1d.2.weight"], weights["sincnet.norm1d.2.bias"])
    x = graph.node("Transpose", x, perm=[2, 0, 1])  # [frames, n, 60]
    for layer in range(4):
        x = _recurrent(graph, x, layer, weights)
    for layer in range(2):
        x = graph.node("LeakyRelu", _linear(graph, x, f"linear.{layer}", weights), alpha=_LEAKY)
    x = graph.node("Softmax", _linear(graph, x, "classifier", weights), axis=-1)
    graph.node("Transpose", x, perm=[1, 0, 2], outputs=["probabilities"])
    return graph.serialise(
        "speaker_segmentation_8k",
        inputs={"samples": ["n", "t"]},
        outputs={"probabilities": ["n", "frames", 7]},
    )


def telephone_filters(weights: Mapping[str, Array]) -> tuple[Array, np.ndarray]:
    """Compute the first layer's filters for 8 kHz, [80, 126], and which of them reach below 4 kHz, [80].

    The filters are those of asteroid_filterbanks.ParamSincFB: half of them even (cosine), half odd (sine).
    """
    low = _MIN_HZ + np.abs(weights["sincnet.conv1d.0.filterbank.low_hz_"][:, 0].astype(np.float64))
    width = _MIN_HZ + np.abs(weights["sincnet.conv1d.0.filterbank.band_hz_"][:, 0].astype(np.float64))
    high = np.clip(low + width, _MIN_HZ, TRAINED_RATE_HZ / 2)
    window = weights["sincnet.conv1d.0.filterbank.window_"].astype(np.float64)
    times = weights["sincnet.conv1d.0.filterbank.n_"][0].astype(np.float64)  # 2 pi t, the left half
    below, above = np.outer(low, times), np.outer(high, times)
    even = (np.sin(above) - np.sin(below)) / (times / 2) * window
    odd = (np.cos(below) - np.cos(above)) / (times / 2) * window
    middle = 2 * (high - low)[:, None]
    bank = np.concatenate(
        [
            np.concatenate([even, middle, even[:, ::-1]], axis=1) / middle,
            np.concatenate([odd, 0 * middle, -odd[:, ::-1]], axis=1) / middle,
        ]
    )
    offsets = np.arange(-_HALF_INTERPOLATOR, _HALF_INTERPOLATOR + 1)
    interpolator = np.sinc(offsets / 2) * np.kaiser(len(offsets), 8.0)
    joined = np.apply_along_axis(np.convolve, 1, bank, interpolator)
    used = np.concatenate([low, low]) < RATE_HZ / 2
    return joined[:, _HALF_INTERPOLATOR::2][:, :126].astype(np.float32), used


def _normalized(graph: Graph, x: str, name: str, gain: Array, shift: Array) -> str:
    """Normalize each channel over time."""
    constants = [graph.constant(f"{name}_gain", gain), graph.constant(f"{name}_shift", shift)]
    return graph.node("InstanceNormalization", x, *constants, epsilon=_EPSILON)


def _pooled(graph: Graph, x: str, layer: int, gain: Array, shift: Array) -> str:
    x = graph.node("MaxPool", x, kernel_shape=[3], strides=[3])
    return graph.node("LeakyRelu", _normalized(graph, x, f"norm{layer}", gain, shift), alpha=_LEAKY)


def _convolved(graph: Graph, x: str, layer: int, kernel: Array, bias: Array) -> str:
    return graph.node(
        "Conv", x, graph.constant(f"conv{layer}", kernel), graph.constant(f"conv{layer}_bias", bias)
    )


def _recurrent(graph: Graph, x: str, layer: int, weights: Mapping[str, Array]) -> str:
    """Add a bidirectional LSTM: [frames, n, inputs] to [frames, n, 256]."""
    both = [
        lstm_weights(
            *(
                weights[f"lstm.{kind}_l{layer}{way}"]
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
        )
        for way in ("", "_reverse")
    ]
    constants = [
        graph.constant(f"lstm{layer}_{part}", np.concatenate([one[part] for one in both])) for part in "wrb"
    ]
    graph.node("LSTM", x, *constants, outputs=[f"states{layer}"], hidden_size=128, direction="bidirectional")
    x = graph.node("Transpose", f"states{layer}", perm=[0, 2, 1, 3])
    return graph.node("Reshape", x, graph.integers("both_ways", [0, 0, 256]))


def _linear(graph: Graph, x: str, name: str, weights: Mapping[str, Array]) -> str:
    product = graph.product(x, name, weights[f"{name}.weight"].T)
    return graph.node("Add", product, graph.constant(f"{name}_bias", weights[f"{name}.bias"]))
