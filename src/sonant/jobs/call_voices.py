"""Take one person's speech out of a call in which several people speak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models
from sonant.voice.turn_detection import find_turns
from sonant.voice.turns import length, take

VOICE_S = 3.0
"""Seconds of speech alone with which a voice is analyzed by itself: the least of a calibration."""

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """The voices in some speech."""

    count: int = 1
    missing: int = 0
    """Samples of speech that the voice with most of it lacks to what was asked for; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparatedSpeech:
    """The speech of a call by voice; float32, 8 kHz, each voice where it speaks alone."""

    voices: Voices
    one: Samples
    """Speech of one voice as long as asked for; shape [n]. All speech if `voices.missing`."""
    each: tuple[Samples, ...]
    """Speech of each of several voices with VOICE_S or more, who spoke most first; empty for one voice."""


def separate(samples: Samples, need: int, models: Models) -> SeparatedSpeech:
    """Find `need` samples of one voice in speech (8 kHz, [n], pauses removed, n >= need).

    Of several voices with as much speech the one that spoke last is taken: it is the one on the line now.
    """
    turns = find_turns(samples, models)
    if not turns.second_voice.possible:
        return SeparatedSpeech(voices=Voices(), one=samples[len(samples) - need :], each=())
    alone = [turns.alone(speaker) for speaker in range(turns.speakers)]
    lengths = [length(spans) for spans in alone]
    enough = [spans for spans, count in zip(alone, lengths, strict=True) if count >= need]
    each = [take(samples, spans) for spans, count in zip(alone, lengths, strict=True)]
    last = max(enough, key=lambda spans: spans[-1], default=None)
    return SeparatedSpeech(
        voices=Voices(count=turns.speakers, missing=max(0, need - max(lengths))),
        one=samples if last is None else take(samples, last)[-need:],
        each=tuple(voice for voice in each if len(voice) >= VOICE_S * RATE_HZ),
    )
