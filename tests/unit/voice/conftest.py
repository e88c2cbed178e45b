"""What the voice tests share: the shipped models, and recordings made in memory."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from voice_models import voice_models

from sonant.voice.models import Models

Array = NDArray[np.float32]


@pytest.fixture(scope="session")
def models() -> Models:
    return voice_models()


@pytest.fixture(scope="session")
def spoken(voices: dict[str, list[Path]]) -> Callable[[str, float, int], Array]:
    """Seconds of a real voice, clip after clip from the given one on, at 8 kHz."""

    def speak(voice: str, seconds: float, first_clip: int = 0) -> Array:
        clips, length = [], 0
        for path in voices[voice][first_clip:]:
            samples, rate_hz = soundfile.read(path, dtype="float32")
            assert rate_hz == 8000
            clips.append(samples)
            length += len(samples)
            if length >= seconds * 8000:
                break
        joined = np.concatenate(clips)[: int(seconds * 8000)]
        assert len(joined) == int(seconds * 8000), "the voice has too few clips"
        return joined

    return speak


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """A sound file of samples [n] or [n, channels]."""

    def encode(samples: Array, rate_hz: int = 8000, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
        out = io.BytesIO()
        soundfile.write(out, samples, rate_hz, format=kind, subtype=subtype)
        return out.getvalue()

    return encode


@pytest.fixture(scope="session")
def wav() -> Callable[..., bytes]:
    """A WAV file with any header at all; sizes are right unless they are given."""

    def build(
        audio: bytes = bytes(1600),
        *,
        tag: int = 1,
        channels: int = 1,
        rate_hz: int = 8000,
        bits: int = 16,
        block_align: int | None = None,
        data_size: int | None = None,
        riff_size: int | None = None,
        before: bytes = b"",
        after: bytes = b"",
    ) -> bytes:
        block_align = channels * bits // 8 if block_align is None else block_align
        fmt = struct.pack(
            "<HHIIHH", tag, channels, rate_hz, rate_hz * block_align & 0xFFFFFFFF, block_align, bits
        )
        size = len(audio) if data_size is None else data_size
        body = b"WAVEfmt " + struct.pack("<I", 16) + fmt + before
        body += b"data" + struct.pack("<I", size) + audio + after
        return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body

    return build
