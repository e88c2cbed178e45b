"""Define the GE2E network in PyTorch and the features of its teacher at 16 kHz."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sonant.voice.models.embedding import MELS, WINDOW_FRAMES, mel_power

Array = NDArray[np.float32]

WIDE_HZ = 16000
LEVEL_DBFS = -30
GRID_FRAMES = 20
"""Step between the windows that the teacher embeds: a fifth of a second."""
WHEEL_SHA256 = "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f"
"""Hash of the resemblyzer 0.1.4 wheel, the same as in tools/build_models.py."""


class Encoder(nn.Module):  # type: ignore[misc]  # torch is not installed where types are checked
    """Three LSTM layers of 256, last hidden state, linear, ReLU, unit length: [n, 160, 40] to [n, 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])).float(), dim=1)


def teacher(wheel: Path) -> Encoder:
    """Load the published network. Raises SystemExit if the wheel has another hash."""
    content = wheel.read_bytes()
    if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
        raise SystemExit(f"{wheel.name} is not the pinned resemblyzer 0.1.4 wheel")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        weights = archive.read("resemblyzer/pretrained.pt")
    state = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)["model_state"]
    network = Encoder()
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    network.eval()
    return network


def fast() -> torch.autocast:
    """Compute in bfloat16, five times as fast, where an LSTM can be run in it; cosines differ by 0.0002."""
    return torch.autocast("cpu", torch.bfloat16, enabled=_has_bfloat16())


@cache
def _has_bfloat16() -> bool:
    """Try an LSTM in bfloat16: on some processors PyTorch builds one that it cannot run."""
    lstm, mels = nn.LSTM(MELS, 256, batch_first=True), torch.zeros(2, 4, MELS)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            lstm(mels)[0].float().sum().backward()
            with torch.no_grad():
                lstm(mels)
    except RuntimeError:
        return False
    return True


def narrow_mels(samples: Array) -> Array:
    """Compute the product's features of samples at 8 kHz."""
    return mel_power(samples)


def wide_mels(samples: Array) -> Array:
    """Compute the teacher's features of samples at 16 kHz.

    25 ms Hann windows every 10 ms, 40 bands to 8 kHz.
    """
    size, hop = WIDE_HZ // 40, WIDE_HZ // 100
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, size // 2), size)[::hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    return (power @ _slaney_bank(size)).astype(np.float32)


def windows(mels: Array, starts: NDArray[np.int64]) -> Array:
    """Cut windows of 1.6 s from a sequence of features: [len(starts), 160, 40]."""
    view = np.lib.stride_tricks.sliding_window_view(mels, WINDOW_FRAMES, axis=0)[starts]
    return np.ascontiguousarray(view.transpose(0, 2, 1))


def _slaney_bank(size: int) -> NDArray[np.float64]:
    # Linear to 1 kHz (15 mel), then 27 mel for each factor of 6.4; triangles of equal area.
    mel = np.linspace(0, 15 + 27 * np.log(WIDE_HZ / 2000) / np.log(6.4), MELS + 2)
    edges = np.where(mel > 15, 1000 * 6.4 ** ((mel - 15) / 27), mel * 200 / 3)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    hz = np.arange(size // 2 + 1)[:, None] * (WIDE_HZ / size)
    triangles = np.maximum(0, np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)))
    bank: NDArray[np.float64] = triangles * (2 / (high - low))
    return bank
