"""Embed speech: mel power of usual slope, windows of 1.6 s, the GE2E encoder, their mean, centred.

The encoder was trained at 16 kHz (25 ms Hann windows every 10 ms, 40 Slaney mel bands over 0..8 kHz, power,
no logarithm, librosa's conventions). Speech here is at 8 kHz: the same window length in seconds gives the
same frequency bins up to 4 kHz, at a quarter of the power, so the features are computed directly and the
bands above 4 kHz stay empty, as they would after conversion to 16 kHz.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sonant.errors import NotEnoughSpeech
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models

if TYPE_CHECKING:
    import onnxruntime

MELS = 40
WINDOW_FRAMES = 160
WINDOW_S = 1.6
"""One window of the encoder; shorter speech cannot be embedded."""

_TRAINED_RATE_HZ = 16000
_FRAME, _HOP = RATE_HZ // 40, RATE_HZ // 100  # 25 ms, 10 ms
_POWER_SCALE = (_TRAINED_RATE_HZ / RATE_HZ) ** 2
# The features are powers, not logarithms, so the level matters. In training only quieter speech was raised
# to -30 dBFS; bringing louder speech down to it as well makes the embedding independent of the line's gain
# and halves the error (8 telephone voices, 402 genuine trials of 30 s against 10 s: EER 1.0 to 0.5 %; with
# random gains of +-12 dB 2.8 to 0.5 %).
_TARGET_RMS = 10 ** (-30 / 20)
# What a band never falls below is a steady sound of the line: a tone, a whistle, harmonics of mains hum. In a
# tenth of the frames of speech each band is nearly empty, so a clean voice loses nothing. Seven telephone
# voices, a tone of 1 kHz 10 dB below speech: genuine scores 80 to 94 before, 93 to 100 after; on both sides 4
# of 42 strangers reached 90, none does after.
_STEADY_SHARE = 0.1
# Equipment tilts spectra: muffled by 6 dB an octave on both sides, 14 of 42 strangers reached 90; on the call
# only, genuine scores fell to 71 to 96. The slope of a voice's mean spectrum is brought back into a range.
# Of 24 people of speechocean762's training part (12 s against 8 s) a range of -9.75 to -4.75 dB gives a d' of
# 4.12 on clean lines and 3.31 with the call shriller by 6 dB, one of -8.5 to -6 dB 4.13 and 3.80. One value,
# -7.25 dB, gives 4.03 and 3.93, but 3.69 instead of 3.86 with white noise 15 dB below: a voice's own slope
# helps to tell people apart.
_SLOPE_RANGE_DB = (-8.5, -6.0)
_SLOPE_BAND_HZ = (300.0, 2800.0)  # what all lines pass
_SILENT = 1e-12
_FRAMES_PER_BLOCK = 256  # half the time of 2048: everything stays in the processor's cache
_MAX_WINDOWS_PER_CALL = 12  # time per window is flat from 6 to 32, and twice as much for a single one
_STEP_FRAMES = WINDOW_FRAMES  # overlap doubles the cost and gains nothing from 5 s of speech on


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """The embedding of some speech by one model."""

    vector: NDArray[np.float32]
    """Shape [d], unit length; d is 256 for the model that ships with Sonant."""
    model_id: str
    """The model that made it; embeddings of two models are never compared."""


Embedder = Callable[[NDArray[np.float32]], Embedding]
"""Embeds speech at 8 kHz, float32, [n]. Raises AudioError."""


@runtime_checkable
class PartsEmbedder(Protocol):
    """An embedder that takes speech and parts of it in one pass, at the cost of the whole."""

    def embed_with_parts(
        self, samples: NDArray[np.float32], spans: Sequence[tuple[int, int]]
    ) -> tuple[Embedding, tuple[Embedding, ...]]:
        """Embed all samples, and spans of them (first, behind the last). Raises AudioError."""
        ...


def embed_with_parts(
    embedder: Embedder, samples: NDArray[np.float32], spans: Sequence[tuple[int, int]]
) -> tuple[Embedding, tuple[Embedding, ...]]:
    """Embed speech and spans of its samples, in one pass where the embedder can. Raises AudioError."""
    if isinstance(embedder, PartsEmbedder):
        return embedder.embed_with_parts(samples, spans)
    return embedder(samples), tuple(embedder(samples[first:end]) for first, end in spans)


def embed(samples: NDArray[np.float32], models: Models) -> Embedding:
    """Embed speech at 8 kHz (float32, [n], pauses already removed).

    Windows are spaced evenly from the first sample to the last. Raises NotEnoughSpeech under 1.6 s.
    """
    return EncodedSpeech.of(samples, models).embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSpeech:
    """Speech as the shipped encoder sees it."""

    power: NDArray[np.float32] = field(repr=False)
    """The encoder's input, [frames, 40]; see `encoder_input`."""
    windows: NDArray[np.float32] = field(repr=False)
    """Embeddings of windows of 1.6 s, spaced evenly over all frames; [n, 256], of unit length."""
    embedding: Embedding
    """The embedding of all of it."""
    inference_s: float = field(compare=False)
    """Time that the network took."""

    @classmethod
    def of(cls, samples: NDArray[np.float32], models: Models) -> EncodedSpeech:
        """Encode speech at 8 kHz (float32, [n], pauses removed). Raises NotEnoughSpeech under 1.6 s."""
        power = encoder_input(samples)
        started_s = time.perf_counter()
        found = _run(power, _window_starts(len(power)), models.encoder, "mels")
        return cls(
            power=power,
            windows=_centred(found, models.centre),
            embedding=_embedding(found, models.encoder_id, models.centre),
            inference_s=time.perf_counter() - started_s,
        )


def embed_windows(
    samples: NDArray[np.float32], encoder: onnxruntime.InferenceSession, input_name: str, model_id: str
) -> Embedding:
    """Embed with any network of the encoder's form, [n, 160, 40] to [n, d]. Raises NotEnoughSpeech."""
    power = encoder_input(samples)
    return _embedding(_run(power, _window_starts(len(power)), encoder, input_name), model_id, None)


def encoder_input(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute what the encoder reads of speech at 8 kHz (float32, [n]): mel power, [1 + n // 80, 40].

    Its level is that of training, steady sounds are taken out, and the slope of its spectrum is in the usual
    range. Raises NotEnoughSpeech under 1.6 s.
    """
    if len(samples) < WINDOW_S * RATE_HZ:
        raise NotEnoughSpeech(len(samples) / RATE_HZ, WINDOW_S)
    return with_usual_slope(without_steady_power(mel_power(levelled(samples, _TARGET_RMS))))


def embed_series(
    power: NDArray[np.float32], models: Models, step_s: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Embed every window of 1.6 s that begins a multiple of `step_s` seconds after the first frame.

    `power` is an encoder's input. Returns the windows' first samples, [n], and their embeddings, [n, d], each
    of unit length.
    """
    starts = np.arange(0, len(power) - WINDOW_FRAMES + 1, round(step_s * RATE_HZ / _HOP))
    return starts * _HOP, _centred(_run(power, starts, models.encoder, "mels"), models.centre)


def embed_spans(
    power: NDArray[np.float32], pieces: Sequence[Sequence[tuple[int, int]]], models: Models
) -> NDArray[np.float32]:
    """Embed parts of speech, each by itself, in few calls of the encoder; [pieces, d], each of unit length.

    `power` is the encoder's input of all the speech; a piece is a list of spans of its samples. One that is
    shorter than a window is repeated until it fills one.
    """
    parts, owners = [], []
    for number, spans in enumerate(pieces):
        frames = np.concatenate([_frames(start, end, len(power)) for start, end in spans])
        frames = np.resize(frames, max(len(frames), WINDOW_FRAMES))
        starts = _window_starts(len(frames))
        parts += [frames[start : start + WINDOW_FRAMES] for start in starts]
        owners += [number] * len(starts)
    total = np.zeros((len(pieces), len(models.centre)), np.float64)
    for first in range(0, len(parts), _MAX_WINDOWS_PER_CALL):
        part = slice(first, first + _MAX_WINDOWS_PER_CALL)
        (found,) = models.encoder.run(None, {"mels": power[np.stack(parts[part])]})
        np.add.at(total, owners[part], found)
    return _centred(total, models.centre) if len(pieces) else np.empty(total.shape, np.float32)


def _frames(start: int, end: int, count: int) -> NDArray[np.int64]:
    """List the frames whose middle lies in a span of samples; at least one."""
    first = min(-(-start // _HOP), count - 1)
    return np.arange(first, max(first + 1, min(-(-end // _HOP), count)))


def _run(
    power: NDArray[np.float32],
    starts: NDArray[np.int64],
    encoder: onnxruntime.InferenceSession,
    input_name: str,
) -> NDArray[np.float32]:
    """Run the encoder on the windows that begin at these frames; [starts, d]."""
    windows = np.lib.stride_tricks.sliding_window_view(power, WINDOW_FRAMES, axis=0)
    # Split evenly, so that the last call is not left with a window or two.
    found = [
        encoder.run(None, {input_name: np.ascontiguousarray(windows[part].transpose(0, 2, 1))})[0]
        for part in np.array_split(starts, -(-len(starts) // _MAX_WINDOWS_PER_CALL))
    ]
    return np.concatenate(found)


def _embedding(found: NDArray[np.float32], model_id: str, centre: NDArray[np.float32] | None) -> Embedding:
    own = _unit(found.sum(axis=0, dtype=np.float64))
    if centre is not None:
        # The mean of all voices carries no information about the speaker.
        own = _unit(own - centre)
    return Embedding(vector=own.astype(np.float32), model_id=model_id)


def _centred(found: NDArray[Any], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    return _units(_units(found.astype(np.float64)) - centre).astype(np.float32)


def _units(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    units: NDArray[np.float64] = vectors / np.sqrt(np.sum(vectors**2, axis=1, keepdims=True))
    return units


def mel_power(samples: NDArray[np.float32], *, hop: int = _HOP) -> NDArray[np.float32]:
    """Compute mel power spectra of 8 kHz samples on the 16 kHz scale: [1 + n // hop, 40], float32.

    Frames are centred, the ends padded with silence (librosa's `center=True`, `pad_mode="constant"`).
    """
    padded = np.pad(samples, _FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::hop]
    window, filters = _hann(), _filter_bank()
    mels = np.zeros((len(frames), MELS), np.float32)
    for first in range(0, len(frames), _FRAMES_PER_BLOCK):
        spectra = np.fft.rfft(frames[first : first + _FRAMES_PER_BLOCK] * window)
        power = spectra.real**2 + spectra.imag**2
        # einsum and not `@`: BLAS would start threads that compete with the other workers.
        mels[first : first + _FRAMES_PER_BLOCK, : filters.shape[1]] = np.einsum("fb,bm->fm", power, filters)
    return mels


def without_steady_power(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract from each band the power below which it is in a tenth of the frames; [frames, bands]."""
    place = int(_STEADY_SHARE * len(power))
    steady = np.partition(power, place, axis=0)[place]
    left: NDArray[np.float32] = np.maximum(power - steady, np.float32(0))
    return left


def with_usual_slope(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring the slope of the mean spectrum into its usual range; the total stays the same; [frames, 40].

    The slope is that of a straight line through the bands' levels in dB over the logarithm of frequency.
    Within the range nothing changes.
    """
    octaves, counted = _octaves()
    mean = power.mean(axis=0, dtype=np.float64)
    level_db = 10 * np.log10(np.maximum(mean[counted], _SILENT))
    place = octaves[counted] - octaves[counted].mean()
    slope_db = float(np.sum(place * level_db) / np.sum(place**2))
    change_db = float(np.clip(slope_db, *_SLOPE_RANGE_DB)) - slope_db
    if change_db == 0 or not mean.any():
        return power
    gain = 10 ** (change_db / 10 * octaves)
    gain *= mean.sum() / np.sum(mean * gain)
    return power * gain.astype(np.float32)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vector / np.sqrt(np.sum(vector**2))
    return unit


def levelled(samples: NDArray[np.float32], target_rms: float) -> NDArray[np.float32]:
    """Scale samples, [n], to a root mean square; silence is unchanged."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return samples * np.float32(target_rms / rms) if rms > 0 else samples


def _window_starts(frames: int) -> NDArray[np.int64]:
    last = frames - WINDOW_FRAMES
    count = 1 + -(-last // _STEP_FRAMES)
    return np.round(np.linspace(0, last, count)).astype(np.int64)


@cache
def _octaves() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Compute each band's distance from 1 kHz in octaves, and which bands the slope is measured in."""
    centre = _mel_to_hz(np.linspace(0, _hz_to_mel(_TRAINED_RATE_HZ / 2), MELS + 2))[1:-1]
    octaves = np.log2(np.maximum(centre, 100) / 1000)
    return octaves, (centre > _SLOPE_BAND_HZ[0]) & (centre < _SLOPE_BAND_HZ[1])


@cache
def _hann() -> NDArray[np.float32]:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME)).astype(np.float32)


@cache
def _filter_bank() -> NDArray[np.float32]:
    """Build Slaney's triangles of equal area over 0..8 kHz, those below 4 kHz; [101, 32]."""
    edges = _mel_to_hz(np.linspace(0, _hz_to_mel(_TRAINED_RATE_HZ / 2), MELS + 2))
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    hz = np.arange(_FRAME // 2 + 1)[:, None] * (RATE_HZ / _FRAME)
    triangles = np.maximum(0, np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)))
    weights = triangles * (2 / (high - low)) * _POWER_SCALE
    return weights[:, low < RATE_HZ / 2].astype(np.float32)


# Slaney's mel scale (Auditory Toolbox): linear to 1 kHz (15 mel), then 27 mel for each factor of 6.4.
def _hz_to_mel(hz: float) -> float:
    return 15 + 27 * float(np.log(hz / 1000)) / float(np.log(6.4)) if hz > 1000 else hz * 3 / 200


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel > 15, 1000 * 6.4 ** ((mel - 15) / 27), mel * 200 / 3)
