"""Take one person's speech out of a call in which several people speak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.calibration.model import PartLimits
from sonant.voice.enrollment import Speech
from sonant.voice.models import Models
from sonant.voice.models.embedding import EncodedSpeech
from sonant.voice.speaker_change import are_two_people, find_change
from sonant.voice.turn_detection import find_turns, is_one_person
from sonant.voice.turns import Span, length, take

VOICE_S = 3.0
"""Seconds of speech alone with which a voice is analyzed by itself: the least of a calibration."""

PART_S = 3.0
"""Seconds of speech in a part of a voice's speech, at least, where it is cut in three."""
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """The voices in some speech."""

    count: int = 1
    missing: int = 0
    """Samples of speech that the voice with most of it lacks to what was asked for; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallVoices:
    """The speech of a call by voice; float32, 8 kHz, each voice where it speaks alone."""

    voices: Voices
    one: Samples
    """Speech of one voice as long as asked for; shape [n]. All speech if `voices.missing`."""
    each: tuple[Samples, ...]
    """Speech of each of several voices with VOICE_S or more, who spoke most first; empty for one voice."""
    encoded: EncodedSpeech | None = None
    """`one` by the shipped encoder, where it was used to look for other voices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerScore:
    """How well the speech of a call matches a speaker, 0..100, as a whole and in its parts.

    Where one person hands over to another, some parts match, and the whole may match, too. How far the parts
    of one person's speech fall below the whole depends on the voice model: see `calibration.PartLimits`.
    """

    whole: int
    parts: tuple[int, ...] = ()
    """The two halves; then the thirds, if they are long enough. See `part_spans`."""
    limits: PartLimits
    """Those of the voice model."""

    @property
    def value(self) -> int:
        """The score to decide by."""
        weak = [score for place, score in enumerate(self.parts) if score < self.limits.of_part(place)]
        return min([self.whole, *weak])

    def is_handover(self, threshold: int) -> bool:
        """Return whether the whole would be accepted, but not all of its parts."""
        return self.value < threshold <= self.whole


def part_spans(count: int) -> tuple[Span, ...]:
    """Give the spans of the halves of so many samples, and of their thirds where these have PART_S."""
    cuts = (2, 3) if count >= 3 * PART_S * RATE_HZ else (2,)
    return tuple((part * count // of, (part + 1) * count // of) for of in cuts for part in range(of))


def separate(speech: Speech, need: int, models: Models) -> CallVoices:
    """Find `need` samples of one voice in speech of that length or more.

    Of several voices with as much speech the one that spoke last is taken: it is the one on the line now.
    """
    samples = speech.samples
    encoded = EncodedSpeech.of(samples, models)
    voices = [] if is_one_person(samples, encoded, models) else _voices(speech, encoded, models)
    if len(voices) < 2:
        one = samples[len(samples) - need :]
        return CallVoices(
            voices=Voices(), one=one, each=(), encoded=encoded if len(one) == len(samples) else None
        )
    lengths = [length(spans) for spans in voices]
    enough = [spans for spans, count in zip(voices, lengths, strict=True) if count >= need]
    last = max(enough, key=lambda spans: spans[-1], default=None)
    each = sorted((take(samples, spans) for spans in voices), key=len, reverse=True)
    return CallVoices(
        voices=Voices(count=len(voices), missing=max(0, need - max(lengths))),
        one=samples if last is None else take(samples, last)[-need:],
        each=tuple(voice for voice in each if len(voice) >= VOICE_S * RATE_HZ),
    )


def _voices(speech: Speech, encoded: EncodedSpeech, models: Models) -> list[tuple[Span, ...]]:
    """List the spans in which each voice speaks alone; at most one for one person.

    Two people who speak one after the other, each for some seconds, are often found by the change of speaker
    only.
    """
    samples = speech.samples
    turns = find_turns(samples, models, encoded=encoded)
    if turns.second_voice.certain:
        # Where two people talk at once all the time, the second may have no turn.
        return [turns.alone(speaker) for speaker in range(max(2, turns.speakers))]
    change = find_change(encoded.power, speech.net_speech_s, models)
    if change is None or not are_two_people(change.similarity, speech.quality.snr_db):
        return []
    return [((0, change.position),), ((change.position, len(samples)),)]
