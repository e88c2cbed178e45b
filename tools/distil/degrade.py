"""Simulate random telephone calls: rooms, noise, handsets, lines, codecs, lost packets.

All functions take mono float32 samples at 8 kHz and keep their number and alignment in time, so that a window
of the result can be compared with the same window of the clean recording.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import soundfile
from numpy.typing import NDArray

Array = NDArray[np.float32]

RATE_HZ = 8000
# Lower and upper edge in Hz: plain telephony, wider and narrower lines, the band of AMR narrow-band.
BANDS = ((300, 3400), (200, 3500), (250, 3450), (100, 3700), (80, 3400), (300, 3000))
CODECS = ("none", "ulaw", "alaw", "gsm", "adpcm", "shaped", "opus")
_ODDS = (0.12, 0.26, 0.16, 0.24, 0.04, 0.16, 0.02)
_PACKET = RATE_HZ // 50  # 20 ms


def call(clean: Array, others: Sequence[Array], rng: np.random.Generator, *, mild: float = 0) -> Array:
    """Simulate one random call. `others` are recordings of other people, for babble; 1 in 12 calls is clean.

    A share of `mild` has only one or two codecs.
    """
    samples = at_level(clean, -26)
    if mild > 0 and rng.random() < mild:
        for _ in range(1 + (rng.random() < 0.3)):
            samples = coded(samples, str(rng.choice(CODECS, p=_ODDS)), rng)
    elif rng.random() >= 1 / 12:
        if rng.random() < 0.3:
            samples = room(samples, rng)
        if rng.random() < 0.6:
            samples = noisy(samples, float(rng.uniform(5, 30)), others, rng)
        samples = line(samples, rng)
        samples = at_level(samples, float(rng.uniform(-38, -14)))
        if rng.random() < 0.05:
            samples = samples * np.float32(10 ** (rng.uniform(6, 12) / 20))  # overdriven
        for _ in range(1 + (rng.random() < 0.3)):
            samples = coded(samples, str(rng.choice(CODECS, p=_ODDS)), rng)
        if rng.random() < 0.15:
            samples = lossy(samples, float(rng.uniform(0.01, 0.1)), rng)
    return samples


def at_level(samples: Array, level_dbfs: float) -> Array:
    """Scale to a root mean square in dB of full scale; silence is unchanged."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return samples * np.float32(10 ** (level_dbfs / 20) / rms) if rms > 0 else samples


def noisy(samples: Array, snr_db: float, others: Sequence[Array], rng: np.random.Generator) -> Array:
    """Add white or pink noise or the babble of three to six other people, at a ratio of mean powers."""
    kind, count = rng.choice(["white", "pink", "babble"]), len(samples)
    if kind == "babble" and len(others) > 0:
        noise = np.zeros(count, np.float32)
        for index in rng.choice(len(others), int(rng.integers(3, 7))):
            noise += np.resize(np.roll(at_level(others[index], -26), int(rng.integers(RATE_HZ))), count)
    else:
        size = _fast(count)
        spectrum = np.fft.rfft(rng.normal(size=size))
        if kind == "pink":
            spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), size * 50 / RATE_HZ))
        noise = np.fft.irfft(spectrum, size)[:count].astype(np.float32)
    level_db = 20 * np.log10(max(1e-9, float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))))
    return samples + at_level(noise, level_db - snr_db)


def room(samples: Array, rng: np.random.Generator) -> Array:
    """Add a light echo: noise 3 to 15 dB below the direct sound that falls by 60 dB in 100 to 500 ms."""
    decay_s, below_db = rng.uniform(0.1, 0.5), rng.uniform(3, 15)
    time_s = np.arange(1, int(decay_s * RATE_HZ)) / RATE_HZ
    tail = rng.normal(size=len(time_s)) * 10 ** (-3 * time_s / decay_s)
    tail *= 10 ** (-below_db / 20) / np.sqrt(np.sum(tail**2))
    response = np.concatenate([[1.0], tail])
    size = _fast(len(samples) + len(response))
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def line(samples: Array, rng: np.random.Generator) -> Array:
    """Filter as handset and line, with zero phase: a band, a tilt of up to 6 dB, bumps of about 3 dB."""
    size = _fast(len(samples))
    hz = np.fft.rfftfreq(size, 1 / RATE_HZ)
    gain = np.ones(len(hz))
    if rng.random() < 0.85:
        low, high = BANDS[rng.integers(len(BANDS))]
        steep = 2 * rng.integers(2, 8)
        gain /= np.sqrt(1 + (low / np.maximum(hz, 1)) ** steep) * np.sqrt(1 + (hz / high) ** (4 * steep))
    if rng.random() < 0.6:
        knots = rng.normal(0, 3, 9) + np.linspace(-1, 1, 9) * rng.uniform(-6, 6)
        gain *= 10 ** (np.interp(hz, np.linspace(0, RATE_HZ / 2, 9), knots) / 20)
    return np.fft.irfft(np.fft.rfft(samples, size) * gain, size)[: len(samples)].astype(np.float32)


def coded(samples: Array, codec: str, rng: np.random.Generator) -> Array:
    """Encode and decode with a codec; samples beyond full scale clip."""
    limited = np.clip(samples, -1, 1)
    match codec:
        case "ulaw" | "alaw" | "gsm" | "adpcm":
            subtype = {"ulaw": "ULAW", "alaw": "ALAW", "gsm": "GSM610", "adpcm": "G721_32"}[codec]
            return _through(limited, "AU" if codec == "adpcm" else "WAV", subtype)
        case "opus":
            return _through(limited, "OGG", "OPUS")
        case "shaped":
            return _shaped_noise(limited, float(rng.uniform(6, 16)), rng)
        case _:
            return limited


def lossy(samples: Array, rate: float, rng: np.random.Generator) -> Array:
    """Drop packets of 20 ms at random; replace them by silence or by the last one, repeated and fading."""
    packets = np.resize(samples, (-(-len(samples) // _PACKET), _PACKET)).copy()
    repeat, fade = rng.random() < 0.6, np.float32(0.7)
    for index in np.flatnonzero(rng.random(len(packets)) < rate):
        packets[index] = packets[index - 1] * fade if repeat and index > 0 else 0
    return packets.reshape(-1)[: len(samples)]


def _fast(count: int) -> int:
    """Return the next power of two: transforms of other lengths can take many times as long."""
    return 1 << (count - 1).bit_length()


def _through(samples: Array, container: str, subtype: str) -> Array:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE_HZ, format=container, subtype=subtype)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return np.pad(decoded, (0, max(0, len(samples) - len(decoded))))[: len(samples)]


def _shaped_noise(samples: Array, snr_db: float, rng: np.random.Generator) -> Array:
    """Generate noise with the spectrum of the speech in frames of 32 ms, like that of CELP (AMR)."""
    size, hop = 256, 128
    padded = np.pad(samples, (size, 2 * size))
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window
    spectra = np.fft.rfft(frames)
    spectra *= rng.normal(size=spectra.shape) + 1j * rng.normal(size=spectra.shape)
    shaped = np.fft.irfft(spectra, size) * (window * 10 ** (-snr_db / 20) / np.sqrt(2))
    noise = np.zeros(len(padded))
    for half in (0, 1):
        part = shaped[half::2].reshape(-1)
        noise[half * hop : half * hop + len(part)] += part
    return samples + noise[size : size + len(samples)].astype(np.float32)
