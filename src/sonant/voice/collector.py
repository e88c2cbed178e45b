"""Collect speech from audio that comes in pieces of any size: a recording's blocks or a call's frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models
from sonant.voice.quality import Quality, frame_power, measure
from sonant.voice.speech import FRAME, SpeechDetector


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechWindow:
    """The first speech of a stream, of the requested length."""

    samples: NDArray[np.float32]
    """Shape [n], 8 kHz, -1..1, pauses removed."""
    start: int
    """Position of its first sample in the stream."""
    end: int
    """Position behind its last sample."""
    quality: Quality


class SpeechCollector:
    """Collects the first speech of one recording or stream, 8 kHz, until there is enough.

    The result does not depend on how the audio is cut into pieces.
    """

    __slots__ = (
        "_detector",
        "_dropped",
        "_history",
        "_pieces",
        "_powers",
        "_recent",
        "_rest",
        "_starts",
        "analyzed",
        "count",
        "need",
    )

    def __init__(self, models: Models, need: int, *, history_s: float | None = None) -> None:
        """Collect `need` samples of speech.

        Frame powers are stored for at least the last `history_s` seconds (None: all), which bounds the memory
        of a long silence.
        """
        self.need = need
        """Samples of speech to collect."""
        self.count = 0
        """Samples of speech found; may exceed `need` by a piece."""
        self.analyzed = 0
        """Samples of audio analyzed."""
        self._detector, self._recent = SpeechDetector(models), _Recent()
        self._rest = np.empty(0, np.float32)
        self._pieces: list[NDArray[np.float32]] = []
        self._starts: list[int] = []
        self._powers: list[NDArray[np.float64]] = []
        self._history = None if history_s is None else round(history_s * RATE_HZ / FRAME)  # frames
        self._dropped = 0  # frames

    @property
    def enough(self) -> bool:
        """Whether the needed speech has been found."""
        return self.count >= self.need

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples (float32, [n], -1..1). Once there is enough speech, they are ignored."""
        if self.enough:
            return
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // FRAME * FRAME
        self._rest = joined[whole:].copy()
        if whole:
            self._analyze(joined[:whole])
            if self.enough:
                return
            self._recent.drop_before(self._detector.undecided_start)
            self._drop_history()

    def finish(self) -> None:
        """Process the end of the audio: decide the last span."""
        if self.enough:
            return
        self._analyze(self._rest)
        self._rest = np.empty(0, np.float32)
        self._add(self._recent.take(self._detector.finish()))

    @property
    def samples(self) -> NDArray[np.float32]:
        """The speech found, at most `need` samples."""
        return np.concatenate([np.empty(0, np.float32), *self._pieces])[: self.need]

    @property
    def power(self) -> NDArray[np.float64]:
        """Power of each frame in the history; see `quality.frame_power`."""
        return np.concatenate([np.empty(0, np.float64), *self._powers])

    @property
    def probability(self) -> NDArray[np.float32]:
        """Speech probability of the same frames."""
        return self._detector.probabilities[: len(self.power)]

    def window(self, count: int) -> SpeechWindow:
        """Return the first `count` samples of speech and their quality.

        Raises ValueError if there are fewer.
        """
        if not 0 < count <= min(self.count, self.need):
            raise ValueError(f"{count} samples of speech were requested, there are {self.count}")
        taken = np.cumsum([len(piece) for piece in self._pieces])
        last = int(np.searchsorted(taken, count))
        samples = np.concatenate(self._pieces[: last + 1])[:count]
        end = self._starts[last] + len(self._pieces[last]) - int(taken[last] - count)
        frames = max(1, -(-end // FRAME) - self._dropped)
        return SpeechWindow(
            samples=samples,
            start=self._starts[0],
            end=end,
            quality=measure(
                samples,
                power=self.power[:frames],
                probability=self.probability[:frames],
                duration_s=end / RATE_HZ,
            ),
        )

    def _analyze(self, block: NDArray[np.float32]) -> None:
        self.analyzed += len(block)
        self._powers.append(frame_power(block))
        self._recent.add(block)
        self._add(self._recent.take(self._detector.push(block)))
        if self._detector.open_span:
            self._add(self._recent.take([self._detector.open_span]))

    def _add(self, pieces: Iterable[tuple[int, NDArray[np.float32]]]) -> None:
        for start, piece in pieces:
            if len(piece):
                self._starts.append(start)
                self._pieces.append(piece)
                self.count += len(piece)

    def _drop_history(self) -> None:
        if self._history is None:
            return
        known = self.analyzed // FRAME - self._dropped
        if known > 2 * self._history:
            self._powers = [self.power[-self._history :]]
            self._detector.drop_history(self._history)
            self._dropped += known - self._history


class _Recent:
    """Buffers samples that may still become part of a span of speech."""

    __slots__ = ("_begin", "_samples", "_taken")

    def __init__(self) -> None:
        self._samples = np.empty(0, np.float32)
        self._begin = 0  # position of the first buffered sample
        self._taken = 0  # speech before this position has been returned

    def add(self, block: NDArray[np.float32]) -> None:
        self._samples = np.concatenate([self._samples, block])

    def take(self, spans: Iterable[tuple[int, int]]) -> list[tuple[int, NDArray[np.float32]]]:
        """Return the part of each span that was not taken before, with the position of its first sample."""
        pieces = []
        for start, end in spans:
            start = max(start, self._taken)
            pieces.append((start, self._samples[start - self._begin : end - self._begin].copy()))
            self._taken = end
        return pieces

    def drop_before(self, sample: int) -> None:
        sample = max(sample, self._taken)
        self._samples, self._begin = self._samples[sample - self._begin :], sample
