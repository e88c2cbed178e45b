"""Read corpora of genuine and synthetic speech, and make copies of genuine speech with vocoders.

A copy says the same as the original, in the same voice and room: what differs is the vocoder. Matched pairs
keep a detector from learning who speaks, or where.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ

Samples = NDArray[np.float32]
Copier = Callable[[Samples, np.random.Generator], Samples]
"""Analyzes and synthesizes speech at 16 kHz, [n]."""

SUFFIXES = (".flac", ".wav", ".opus", ".ogg")
COPY_RATE_HZ = 16000
LONGEST_S = 10.0
"""Of a recording so much is read."""
COPIED_S = 6.0
LEAST_RECORDINGS, MOST_RECORDINGS = 2, 4
"""Recordings of a person over simulated lines: each file, and files again over other lines."""
_MIN_S = 3.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One recording to send over a simulated line."""

    key: str
    """Names the line's random numbers: a copy has those of its original."""
    person: str
    variant: int
    load: Callable[[], Samples]
    """Gives samples at 8 kHz."""


def genuine_items(corpus: str, folder: Path) -> list[Item]:
    """List recordings of every person of a corpus."""
    items = []
    for person, files in people(folder).items():
        count = min(max(len(files), LEAST_RECORDINGS), MOST_RECORDINGS)
        for number in range(count):
            path = files[number % len(files)]
            items.append(
                Item(
                    key=f"{corpus}/{person}/{path.name}",
                    person=f"{corpus}/{person}",
                    variant=number // len(files),
                    load=partial(read, path, RATE_HZ),
                )
            )
    return items


def fake_items(family: str, folder: Path, variants: int, made_from: str | None = None) -> list[Item]:
    """List recordings of a family of generators: every file over several lines.

    Of copies of a corpus (`made_from`), the person is what stands before `-` in the name of the sub-folder or
    file.
    """
    return [
        Item(
            key=f"{family}/{path.relative_to(folder)}",
            person=f"{made_from}/{path.relative_to(folder).parts[0].partition('-')[0]}"
            if made_from
            else f"{family}/{path.relative_to(folder)}",
            variant=variant,
            load=partial(read, path, RATE_HZ),
        )
        for path in files_of(folder)
        for variant in range(variants)
    ]


def copied_items(corpus: str, folder: Path, copier: str, step: int, first: int) -> list[Item]:
    """List copies of one recording of every so many people."""
    chosen = list(people(folder).items())[first::step]
    return [
        Item(
            key=f"{corpus}/{person}/{files[0].name}",
            person=f"{corpus}/{person}",
            variant=variant,
            load=partial(copied, files[0], copier),
        )
        for person, files in chosen
        for variant in (0, 1)
    ]


def people(folder: Path) -> dict[str, list[Path]]:
    """Find the people of a corpus: by folder, or by what stands before `-` in the name of a file."""
    found: dict[str, list[Path]] = {}
    for path in files_of(folder):
        parent = path.parent.relative_to(folder)
        person = path.name.partition("-")[0] if parent == Path() else str(parent)
        found.setdefault(person, []).append(path)
    return found


def files_of(folder: Path) -> list[Path]:
    """Find recordings in a folder and below, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def read(path: Path, rate_hz: int) -> Samples:
    """Read the beginning of a recording, at this rate."""
    with soundfile.SoundFile(path) as file:
        samples = file.read(int(LONGEST_S * file.samplerate), dtype="float32", always_2d=True)[:, 0]
        found = file.samplerate
    return samples if found == rate_hz else np.asarray(soxr.resample(samples, found, rate_hz), np.float32)


@lru_cache(4)
def copied(path: Path, copier: str) -> Samples:
    """Copy the beginning of a recording with a vocoder; samples at 8 kHz."""
    samples = read(path, COPY_RATE_HZ)[: int(COPIED_S * COPY_RATE_HZ)]
    rng = np.random.default_rng(zlib.crc32(f"{copier}/{path.name}".encode()))
    return np.asarray(soxr.resample(COPIERS[copier](samples, rng), COPY_RATE_HZ, RATE_HZ), np.float32)


# --- vocoders ---------------------------------------------------------------------------------------------


def griffin_lim(samples: Samples, rng: np.random.Generator) -> Samples:
    """Invert 80 mel bands with random phases and 30 iterations of Griffin and Lim (1984)."""
    size, hop = 1024, 256
    spectrum = _stft(samples, size, hop)
    banks = _mel_banks(80, size)
    mels = np.abs(spectrum) @ banks
    magnitude = np.maximum(mels @ np.linalg.pinv(banks), 1e-7)
    angles = np.exp(2j * np.pi * rng.random(magnitude.shape))
    for _ in range(30):
        rebuilt = _istft(magnitude * angles, hop, len(samples))
        again = _stft(rebuilt, size, hop)
        angles = again / np.maximum(np.abs(again), 1e-9)
    return _istft(magnitude * angles, hop, len(samples))


def source_filter(samples: Samples, rng: np.random.Generator) -> Samples:
    """Excite the envelopes of linear prediction with pulses and noise (a vocoder of order 20)."""
    size, hop, order = 512, 128, 20
    window = np.hanning(size)
    out = np.zeros(len(samples) + size)
    phase = 0.0
    for start in range(0, len(samples) - size, hop):
        frame = samples[start : start + size] * window
        correlation = np.fft.irfft(np.abs(np.fft.rfft(frame, 2 * size)) ** 2)[: size // 2 + 1]
        energy = correlation[0] + 1e-9
        matrix = correlation[np.abs(np.arange(order)[:, None] - np.arange(order))] / energy
        taps = np.linalg.solve(matrix + 1e-3 * np.eye(order), correlation[1 : order + 1] / energy)
        lag = 40 + int(np.argmax(correlation[40:240]))
        voicing = float(np.clip(correlation[lag] / energy, 0, 1))
        excitation = rng.standard_normal(size) * (1 - voicing)
        pulses = np.arange(phase, size, lag).astype(int)
        excitation[pulses] += np.sqrt(lag) * voicing
        phase = (phase - hop) % lag
        response = 1 / np.fft.rfft(np.concatenate([[1.0], -taps]), size)
        shaped = np.fft.irfft(np.fft.rfft(excitation * window) * response, size)
        gain = np.sqrt(np.sum(frame**2) / (np.sum(shaped**2) + 1e-9))
        out[start : start + size] += shaped * gain * window
    return out[: len(samples)].astype(np.float32)


def world(samples: Samples, rng: np.random.Generator) -> Samples:
    """Analyze and synthesize with WORLD (Morise et al. 2016), half of the voices changed a little."""
    import pyworld

    wide = samples.astype(np.float64)
    pitch, times = pyworld.dio(wide, COPY_RATE_HZ)
    pitch = pyworld.stonemask(wide, pitch, times, COPY_RATE_HZ)
    envelope = pyworld.cheaptrick(wide, pitch, times, COPY_RATE_HZ)
    breath = pyworld.d4c(wide, pitch, times, COPY_RATE_HZ)
    if rng.random() < 0.5:
        pitch = pitch * 2 ** rng.uniform(-0.3, 0.3)
        bins = np.arange(envelope.shape[1])
        stretched = np.clip(bins / rng.uniform(0.88, 1.14), 0, len(bins) - 1)
        envelope = np.array([np.interp(stretched, bins, row) for row in envelope])
    return np.asarray(pyworld.synthesize(pitch, envelope, breath, COPY_RATE_HZ), np.float32)


def phase_vocoder(samples: Samples, rng: np.random.Generator) -> Samples:
    """Keep the magnitudes of the spectrum and let the phases run on by themselves."""
    size, hop = 512, 128
    spectrum = _stft(samples, size, hop)
    advance = 2 * np.pi * hop * np.arange(spectrum.shape[1]) / size
    angles = rng.uniform(0, 2 * np.pi, spectrum.shape[1]) + np.cumsum(
        np.broadcast_to(advance, spectrum.shape) + rng.normal(0, 0.15, spectrum.shape), axis=0
    )
    return _istft(np.abs(spectrum) * np.exp(1j * angles), hop, len(samples))


COPIERS: Mapping[str, Copier] = {
    "griffin-lim": griffin_lim,
    "source-filter": source_filter,
    "phase-vocoder": phase_vocoder,
    "world": world,
}


def _stft(samples: Samples, size: int, hop: int) -> NDArray[np.complex128]:
    padded = np.pad(samples, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    return np.asarray(np.fft.rfft(frames * np.hanning(size)), np.complex128)


def _istft(spectrum: NDArray[np.complex128], hop: int, length: int) -> Samples:
    size = 2 * (spectrum.shape[1] - 1)
    window = np.hanning(size)
    frames = np.fft.irfft(spectrum, axis=1) * window
    out, norm = np.zeros(hop * len(frames) + size), np.zeros(hop * len(frames) + size)
    for number, frame in enumerate(frames):
        out[number * hop : number * hop + size] += frame
        norm[number * hop : number * hop + size] += window**2
    found = out / np.maximum(norm, 1e-3)
    return np.resize(found[size // 2 :], length).astype(np.float32)


def _mel_banks(bands: int, size: int) -> NDArray[np.float64]:
    top = 2595 * np.log10(1 + COPY_RATE_HZ / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    hz = np.arange(size // 2 + 1)[:, None] * COPY_RATE_HZ / size
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def all_items(items: Mapping[str, list[Item]]) -> Iterator[tuple[str, Item]]:
    """Walk through the items of several sources."""
    for name, found in items.items():
        for item in found:
            yield name, item
