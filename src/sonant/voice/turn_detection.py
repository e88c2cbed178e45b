"""Find who speaks when in speech of one channel.

The segmentation network separates voices within windows of ten seconds. Windows overlap, and voices of two
windows that speak at the same time in their overlap are one person. Embeddings of the speech in which each
voice speaks alone decide which voices are the same person after all.

All positions are samples at 8 kHz of the speech that is passed in, which has its pauses removed (see
`collector`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models
from sonant.voice.models.embedding import WINDOW_S, embed
from sonant.voice.models.segmentation import FIRST_FRAME, FRAME_STEP, MIN_WINDOW, VOICES, WINDOW, segment
from sonant.voice.turns import SecondVoice, Span, SpeakerTurns, Turn, length, subtract, take

STEP = 8 * RATE_HZ
"""Samples between two windows: they overlap by two seconds."""
MOST = 120 * RATE_HZ
"""Samples of speech that are analyzed together."""
SAME_VOICE = 0.5
"""Voices whose embeddings are at least this similar are one person."""
LINKED = RATE_HZ // 4
"""Samples for which voices of two windows must speak together to be one."""


def find_turns(samples: NDArray[np.float32], models: Models) -> SpeakerTurns:
    """Find who speaks when in speech at 8 kHz (float32, [n], pauses removed)."""
    detector = TurnDetector(models)
    detector.push(samples)
    return detector.turns()


class TurnDetector:
    """Finds turns in speech that arrives in blocks of any size.

    The result depends only on the samples, not on the blocks. Speech before the last MOST_S is forgotten.
    """

    __slots__ = ("_begin", "_models", "_samples", "_windows")

    def __init__(self, models: Models) -> None:
        self._models = models
        self._samples = np.empty(0, np.float32)
        self._begin = 0  # position of the first sample that is kept
        self._windows: list[_Window] = []

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples (float32, [n], -1..1); analyze every window that is complete."""
        self._samples = np.concatenate([self._samples, samples])
        position = self._windows[-1].start + STEP if self._windows else 0
        while position + WINDOW <= self._begin + len(self._samples):
            self._windows.append(self._window(position, position + WINDOW))
            position += STEP
        self._forget()

    def turns(self) -> SpeakerTurns:
        """Find who spoke when in all speech so far."""
        windows, end = list(self._windows), self._begin + len(self._samples)
        if not windows or windows[-1].end < end:
            start = max(self._begin, end - WINDOW)
            if end - start >= MIN_WINDOW:
                windows.append(self._window(start, end))
        return _group(windows, self._samples, self._begin, self._models)

    def _window(self, start: int, end: int) -> _Window:
        (active,) = segment([self._samples[start - self._begin : end - self._begin]], self._models)
        return _Window(start=start, end=end, active=active)

    def _forget(self) -> None:
        while len(self._samples) > MOST and len(self._windows) > 1:
            self._windows.pop(0)
            dropped = self._windows[0].start - self._begin
            self._samples, self._begin = self._samples[dropped:], self._begin + dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    start: int
    end: int
    active: NDArray[np.bool_]  # [frames, voices]

    def frame(self, position: int) -> int:
        """The frame at a position, clipped to the window's frames."""
        return int(np.clip((position - self.start - FIRST_FRAME) // FRAME_STEP, 0, len(self.active)))

    def spans(self, voice: int, low: int, high: int) -> list[Span]:
        """The spans between two positions in which a voice is active."""
        first, last = self.frame(low), self.frame(high)
        edges = np.flatnonzero(np.diff(self.active[first:last, voice], prepend=False, append=False))
        at = self.start + FIRST_FRAME + FRAME_STEP * (first + edges)
        return [(int(start), int(end)) for start, end in at.reshape(-1, 2)]


@dataclass(slots=True)
class _Voice:
    """Voices of windows that are one person."""

    spans: list[Span]
    windows: set[int]
    vector: NDArray[np.float32] | None = None


def _group(
    windows: Sequence[_Window], samples: NDArray[np.float32], begin: int, models: Models
) -> SpeakerTurns:
    voices = _linked(windows)
    everyone = [(index, span) for index, voice in enumerate(voices) for span in voice.spans]
    for index, voice in enumerate(voices):
        alone = subtract(voice.spans, (span for other, span in everyone if other != index))
        heard = take(samples, ((start - begin, end - begin) for start, end in alone))
        if len(heard) >= WINDOW_S * RATE_HZ:
            voice.vector = embed(heard, models).vector
    voices = _merged(voices)
    voices.sort(key=lambda voice: -length(voice.spans))
    turns = sorted(
        (
            Turn(speaker=speaker, start=start, end=end)
            for speaker, voice in enumerate(voices)
            for start, end in voice.spans
        ),
        key=lambda turn: (turn.start, turn.speaker),
    )
    return SpeakerTurns(turns=tuple(turns), analyzed=begin + len(samples), second_voice=_second_voice(voices))


def _linked(windows: Sequence[_Window]) -> list[_Voice]:
    """Join voices of consecutive windows that speak at the same time in both."""
    voices: list[_Voice] = []
    before: dict[int, _Voice] = {}
    for index, window in enumerate(windows):
        follower = windows[index + 1] if index + 1 < len(windows) else None
        earlier = windows[index - 1] if index else None
        shared = (window.start, earlier.end) if earlier is not None else (window.start, window.start)
        low = sum(shared) // 2
        high = window.end if follower is None else (follower.start + window.end) // 2
        now: dict[int, _Voice] = {}
        together = {
            (old, new): _common(voice_spans, window.spans(new, *shared))
            for old in before
            for new in range(VOICES)
            if earlier is not None and (voice_spans := earlier.spans(old, *shared))
        }
        while together:
            (old, new), samples = max(together.items(), key=lambda item: item[1])
            if samples < LINKED:
                break
            now[new] = before[old]
            together = {pair: count for pair, count in together.items() if old != pair[0] and new != pair[1]}
        for voice in range(VOICES):
            spans = window.spans(voice, low, high)
            if voice not in now and (spans or window.spans(voice, high, window.end)):
                now[voice] = _Voice(spans=[], windows=set())
                voices.append(now[voice])
            if voice in now:
                now[voice].spans += spans
                now[voice].windows.add(index)
        before = now
    return [voice for voice in voices if voice.spans]


def _common(spans: Sequence[Span], others: Sequence[Span]) -> int:
    return length(spans) - length(subtract(spans, others))


def _merged(voices: list[_Voice]) -> list[_Voice]:
    """Join voices that sound alike, the most similar first, unless they were told apart in one window."""
    left = [voice for voice in voices if voice.vector is not None]
    short = [voice for voice in voices if voice.vector is None]
    while True:
        pairs = [
            (float(one.vector @ other.vector), first, second)
            for first, one in enumerate(left)
            for second, other in enumerate(left[:first])
            if one.vector is not None and other.vector is not None and not one.windows & other.windows
        ]
        if not pairs or max(pairs)[0] < SAME_VOICE:
            return left + short
        _, first, second = max(pairs)
        one, other = left.pop(first), left[second]
        weights = length(other.spans), length(one.spans)
        assert one.vector is not None and other.vector is not None
        vector = weights[0] * other.vector + weights[1] * one.vector
        other.vector = np.asarray(vector / np.sqrt(np.sum(vector**2)), np.float32)
        other.spans, other.windows = sorted(other.spans + one.spans), other.windows | one.windows


def _second_voice(voices: Sequence[_Voice]) -> SecondVoice:
    everyone = [span for voice in voices for span in voice.spans]
    speech = length(everyone)
    if not speech:
        return SecondVoice(possible=False, certain=False, share=0.0, overlap=0.0, separation=None)
    others = length(span for voice in voices[1:] for span in voice.spans)
    both = sum(length(voice.spans) for voice in voices) - speech
    separation = None
    if len(voices) > 1 and voices[0].vector is not None and voices[1].vector is not None:
        separation = 1.0 - float(voices[0].vector @ voices[1].vector)
    share = others / speech
    return SecondVoice(
        possible=share >= 0.1,
        certain=share >= 0.2,
        share=share,
        overlap=both / speech,
        separation=separation,
    )
