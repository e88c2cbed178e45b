"""Recordings that FFmpeg (PyAV) or libsndfile writes, for tests of what is read."""

from __future__ import annotations

import io
import struct
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.voice.audio.decoding.mpeg import find_start, parse_frame
from sonant.voice.audio.samples import int16_from_float


def encode(
    samples: NDArray[np.float32],
    container: str,
    codec: str,
    *,
    rate_hz: int = 8000,
    bit_rate: int | None = None,
    video: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """Write samples [n] or [n, channels] at `rate_hz` in a container; `video` adds a track of pictures."""
    frames = int16_from_float(samples.reshape(len(samples), -1))
    layout = "mono" if frames.shape[1] == 1 else "stereo"
    out = io.BytesIO()
    with av.open(out, "w", format=container, options=options or {}) as file:
        pictures: Any = file.add_stream("mpeg4", rate=1) if video else None
        if video:
            pictures.width = pictures.height = 16
            pictures.pix_fmt = "yuv420p"
        stream: Any = file.add_stream(codec, rate=rate_hz, layout=layout)
        if bit_rate:
            stream.bit_rate = bit_rate
        if video:
            file.mux(pictures.encode(av.VideoFrame(16, 16, "yuv420p")))
            file.mux(pictures.encode(None))
        _encode_sound(file, stream, frames, layout, rate_hz)
    return out.getvalue()


def film_without_sound() -> bytes:
    """An MP4 with a video track only."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream: Any = file.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        file.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        file.mux(stream.encode(None))
    return out.getvalue()


def _encode_sound(file: Any, stream: Any, frames: NDArray[np.int16], layout: str, rate_hz: int) -> None:
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(stream.codec_context.format, layout, stream.codec_context.rate, size)
    for start in range(0, len(frames), rate_hz):
        part = np.ascontiguousarray(frames[start : start + rate_hz].reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
        frame.sample_rate, frame.pts = rate_hz, start
        for ready in resampler.resample(frame):
            file.mux(stream.encode(ready))
    for ready in resampler.resample(None):
        file.mux(stream.encode(ready))
    file.mux(stream.encode(None))


def mp3_without_length(samples: NDArray[np.float32], rate_hz: int = 8000, mode: str = "CONSTANT") -> bytes:
    """An MP3 whose first frame, which states the length, is cut off, as an encoder writes to a pipe."""
    out = io.BytesIO()
    soundfile.write(
        out,
        samples,
        rate_hz,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode=mode,
        compression_level=0.4,
    )
    data = out.getvalue()
    start = find_start(data)
    assert start is not None
    header = parse_frame(data, start)
    assert header is not None
    first = data[start : start + header.size]
    return data[start + header.size :] if b"Xing" in first or b"Info" in first else data[start:]


def flac_with_total(data: bytes, frames: int) -> bytes:
    """The FLAC file with another number of samples in its header; 0 leaves it open."""
    number = int.from_bytes(data[18:26], "big") >> 36 << 36 | frames
    return data[:18] + number.to_bytes(8, "big") + data[26:]


def rf64(samples: NDArray[np.int16], rate_hz: int = 8000) -> bytes:
    """An RF64 file (EBU Tech 3306) of one channel."""
    audio = samples.tobytes()
    fmt = struct.pack("<HHIIHH", 1, 1, rate_hz, rate_hz * 2, 2, 16)
    ds64 = struct.pack("<QQQI", len(audio) + 72, len(audio), len(samples), 0)
    chunks = b"ds64" + struct.pack("<I", len(ds64)) + ds64
    chunks += b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + b"\xff" * 4 + audio
    return b"RF64" + b"\xff" * 4 + b"WAVE" + chunks
