"""Separate the two parties of a conversation that was recorded on one channel.

The segmentation network separates voices within windows of ten seconds. Every window's voices are assigned to
two parties by their embeddings, so that two voices of one window are never one party and the voices of a
party are as similar as possible. Speech in which both talk belongs to nobody, and neither do voices that are
about as similar to one party as to the other: mostly both people in one.

All positions are samples at 8 kHz of speech without pauses (see `collector`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models
from sonant.voice.models.embedding import WINDOW_S, embed
from sonant.voice.models.segmentation import FIRST_FRAME, FRAME_STEP, MIN_WINDOW, WINDOW, segment
from sonant.voice.turns import Span, length, take

ANALYZED_S = 180.0
"""Speech of a recording in which parties are searched; what comes later is not used."""
MIN_PARTY_S = 4.0
"""Speech below which a voice is not counted as a party: it cannot be recognized in another recording."""
ONE_PERSON = 0.75
"""Two groups of voices that are this similar are one person. Of two people of one recording in a hundred are;
of two halves of one person's speech nine in ten."""
LEAST_LEAD = 0.05
"""How much more similar a voice must be to its own party than to the other one."""

Vector = NDArray[np.float32]
_ROUNDS = 12
_STARTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One person of a recording."""

    vector: Vector = field(repr=False)
    """Embedding of the speech in `spans`, unit length."""
    spans: tuple[Span, ...] = field(repr=False)
    """Where this person speaks alone, in order."""

    @property
    def speech_s(self) -> float:
        """Seconds of speech in which nobody else speaks."""
        return length(self.spans) / RATE_HZ


@dataclass(frozen=True, slots=True, kw_only=True)
class _Voice:
    """One voice of one window."""

    vector: Vector
    spans: tuple[Span, ...]

    @property
    def weight(self) -> float:
        return float(length(self.spans))


def find_parties(speech: NDArray[np.float32], models: Models) -> tuple[Party, ...]:
    """Find the parties in speech of one channel (float32, [n], pauses removed): none, one or two.

    Who speaks more is first. Speech after ANALYZED_S is left out.
    """
    speech = speech[: round(ANALYZED_S * RATE_HZ)]
    windows = [voices for voices in _windows(speech, models) if voices]
    groups = _two_groups(windows)
    parties = [party for group in groups if (party := _party(group, speech, models)) is not None]
    if len(parties) == 2 and float(parties[0].vector @ parties[1].vector) >= ONE_PERSON:
        whole = _party([voice for group in groups for voice in group], speech, models)
        parties = [] if whole is None else [whole]
    return tuple(sorted(parties, key=lambda party: -party.speech_s))


def _party(voices: Sequence[_Voice], speech: NDArray[np.float32], models: Models) -> Party | None:
    spans = tuple(sorted(span for voice in voices for span in voice.spans))
    if length(spans) < MIN_PARTY_S * RATE_HZ:
        return None
    return Party(vector=embed(take(speech, spans), models).vector, spans=spans)


def _windows(speech: NDArray[np.float32], models: Models) -> Iterator[list[_Voice]]:
    """Find and embed the voices of each window; those with too little speech alone are left out."""
    for start in range(0, len(speech), WINDOW):
        window = speech[start : start + WINDOW]
        if len(window) < MIN_WINDOW:
            return
        (active,) = segment([window], models)
        alone = active & (active.sum(axis=1, keepdims=True) == 1)
        voices = []
        for voice in alone.T:
            spans = _spans(voice, start, start + len(window))
            if length(spans) >= WINDOW_S * RATE_HZ:
                voices.append(_Voice(vector=embed(take(speech, spans), models).vector, spans=spans))
        yield voices


def _spans(frames: NDArray[np.bool_], start: int, end: int) -> tuple[Span, ...]:
    edges = np.flatnonzero(np.diff(frames, prepend=False, append=False))
    at = np.minimum(start + FIRST_FRAME + FRAME_STEP * edges, end)
    return tuple((int(first), int(last)) for first, last in at.reshape(-1, 2))


def _two_groups(windows: Sequence[Sequence[_Voice]]) -> tuple[list[_Voice], list[_Voice]]:
    """Assign voices to two groups, from several starts; the assignment with the most similar voices wins."""
    voices = [voice for window in windows for voice in window]
    if len(voices) < 2:
        return list(voices), []
    best, best_total = _assigned(windows, *_least_similar(voices))
    pairs = [window[:2] for window in sorted(windows, key=_second_weight, reverse=True) if len(window) > 1]
    for one, other in pairs[:_STARTS]:
        groups, total = _assigned(windows, one.vector, other.vector)
        if total > best_total:
            best, best_total = groups, total
    return _clear(*best)


def _assigned(
    windows: Sequence[Sequence[_Voice]], one: Vector, other: Vector
) -> tuple[tuple[list[_Voice], list[_Voice]], float]:
    """Improve two centres by turns of assignment and averaging; return groups and their total similarity."""
    groups: tuple[list[_Voice], list[_Voice]] = ([], [])
    total, before = -np.inf, -np.inf
    for _ in range(_ROUNDS):
        groups, total = ([], []), 0.0
        for window in windows:
            choice, gained = _best_choice(window, one, other)
            total += gained
            for voice, second in zip(window, choice, strict=True):
                groups[second].append(voice)
        if total <= before:
            break
        before = total
        one, other = (
            _centre(group) if group else old for group, old in zip(groups, (one, other), strict=True)
        )
    return groups, total


def _best_choice(window: Sequence[_Voice], one: Vector, other: Vector) -> tuple[tuple[int, ...], float]:
    """Assign the voices of one window; if there are several, to both groups."""
    gains = [
        (voice.weight * float(voice.vector @ one), voice.weight * float(voice.vector @ other))
        for voice in window
    ]
    choices = [
        choice for choice in product((0, 1), repeat=len(window)) if len(window) < 2 or len(set(choice)) > 1
    ]
    totals = [sum(gain[side] for gain, side in zip(gains, choice, strict=True)) for choice in choices]
    best = int(np.argmax(totals))
    return choices[best], totals[best]


def _clear(one: list[_Voice], other: list[_Voice]) -> tuple[list[_Voice], list[_Voice]]:
    """Leave out voices that are about as similar to the other group."""
    if not one or not other:
        return one, other
    centres = _centre(one), _centre(other)
    return (
        [voice for voice in one if voice.vector @ (centres[0] - centres[1]) >= LEAST_LEAD],
        [voice for voice in other if voice.vector @ (centres[1] - centres[0]) >= LEAST_LEAD],
    )


def _least_similar(voices: Sequence[_Voice]) -> tuple[Vector, Vector]:
    vectors = np.stack([voice.vector for voice in voices])
    one, other = np.unravel_index(np.argmin(vectors @ vectors.T), (len(voices), len(voices)))
    return vectors[one], vectors[other]


def _second_weight(window: Sequence[_Voice]) -> float:
    return sorted((voice.weight for voice in window), reverse=True)[1] if len(window) > 1 else 0.0


def _centre(voices: Sequence[_Voice]) -> Vector:
    total = sum((voice.weight * voice.vector for voice in voices), np.zeros_like(voices[0].vector))
    return np.asarray(total / np.sqrt(np.sum(total**2)), np.float32)
