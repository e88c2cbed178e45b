"""Take one person's speech out of a call in which several people speak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models
from sonant.voice.speaker_change import find_change
from sonant.voice.turn_detection import find_turns
from sonant.voice.turns import SecondVoice, Span, length, take

VOICE_S = 3.0
"""Seconds of speech alone with which a voice is analyzed by itself: the least of a calibration."""

PART_S = 3.0
"""Seconds of speech in a part of a voice's speech, at least, where it is cut in three."""
MIN_SEPARATION, MIN_SHARE = 0.4, 0.1
"""Two voices count as two people if they are so far apart and the second has so much of the speech;"""
MIN_OVERLAP = 0.2
"""or if two talk at once in so much of it;"""
MIN_UNCERTAIN_SHARE = 0.2
"""or if the second has so much speech in turns too short to compare.

With these values none of 128 calls of one of 55 people counted as one of several people, with 5, 7 or 10 s of
speech over 10 kinds of lines.
"""

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


def parts_of(speech: Samples) -> tuple[Samples, ...]:
    """Cut the speech of one person into its halves, and into thirds where these have PART_S."""
    thirds = np.array_split(speech, 3) if len(speech) >= 3 * PART_S * RATE_HZ else []
    return (*np.array_split(speech, 2), *thirds)


def separate(samples: Samples, need: int, models: Models) -> SeparatedSpeech:
    """Find `need` samples of one voice in speech (8 kHz, [n], pauses removed, n >= need).

    Of several voices with as much speech the one that spoke last is taken: it is the one on the line now.
    """
    voices = _voices(samples, models)
    if len(voices) < 2:
        return SeparatedSpeech(voices=Voices(), one=samples[len(samples) - need :], each=())
    lengths = [length(spans) for spans in voices]
    enough = [spans for spans, count in zip(voices, lengths, strict=True) if count >= need]
    last = max(enough, key=lambda spans: spans[-1], default=None)
    each = sorted((take(samples, spans) for spans in voices), key=len, reverse=True)
    return SeparatedSpeech(
        voices=Voices(count=len(voices), missing=max(0, need - max(lengths))),
        one=samples if last is None else take(samples, last)[-need:],
        each=tuple(voice for voice in each if len(voice) >= VOICE_S * RATE_HZ),
    )


def _voices(samples: Samples, models: Models) -> list[tuple[Span, ...]]:
    """List the spans in which each voice speaks alone; at most one for one person."""
    turns = find_turns(samples, models)
    if _are_several(turns.second_voice):
        return [turns.alone(speaker) for speaker in range(turns.speakers)]
    change = find_change(samples, models)
    if change is None or not change.certain:
        return []
    return [((0, change.position),), ((change.position, len(samples)),)]


def _are_several(second: SecondVoice) -> bool:
    if second.overlap >= MIN_OVERLAP:
        return True
    if second.separation is None:
        return second.share >= MIN_UNCERTAIN_SHARE
    return second.separation >= MIN_SEPARATION and second.share >= MIN_SHARE
