"""Speech collected from sound that comes in pieces of any size: a recording's blocks or a call's frames."""

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
    """The first speech of a stream, as much as was asked for."""

    samples: NDArray[np.float32]
    """Shape [n], 8 kHz, -1..1, pauses removed."""
    start: int
    """Number of its first sample in the stream."""
    end: int
    """Number of the sample behind its last one."""
    quality: Quality


class SpeechGatherer:
    """Collects the first speech of one recording or stream, 8 kHz, until there is as much as is needed.

    What it finds does not depend on how the sound is cut into pieces.
    """

    __slots__ = (
        "_detector",
        "_forgotten",
        "_pieces",
        "_powers",
        "_recent",
        "_remember",
        "_rest",
        "_starts",
        "count",
        "heard",
        "need",
    )

    def __init__(self, models: Models, need: int, *, remember_s: float | None = None) -> None:
        """`need` samples of speech are collected; of the sound's level the last `remember_s` seconds at
        least are remembered (None: all), which bounds what a long silence costs."""
        self.need = need
        self.count = 0
        """Samples of speech found; may go beyond `need` by a piece."""
        self.heard = 0
        """Samples listened to."""
        self._detector, self._recent = SpeechDetector(models), _Recent()
        self._rest = np.empty(0, np.float32)
        self._pieces: list[NDArray[np.float32]] = []
        self._starts: list[int] = []
        self._powers: list[NDArray[np.float64]] = []
        self._remember = None if remember_s is None else round(remember_s * RATE_HZ / FRAME)
        self._forgotten = 0  # frames

    @property
    def enough(self) -> bool:
        return self.count >= self.need

    def feed(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples (float32, [n], -1..1). Once there is enough, they are not listened to."""
        if self.enough:
            return
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // FRAME * FRAME
        self._rest = joined[whole:].copy()
        if whole:
            self._listen(joined[:whole])
            if self.enough:
                return
            self._recent.forget_before(self._detector.undecided_from)
            self._forget()

    def finish(self) -> None:
        """The sound is over: what is undecided is decided."""
        if self.enough:
            return
        self._listen(self._rest)
        self._rest = np.empty(0, np.float32)
        self._add(self._recent.take(self._detector.finish()))

    @property
    def samples(self) -> NDArray[np.float32]:
        """The speech found, at most as much as was needed."""
        return np.concatenate([np.empty(0, np.float32), *self._pieces])[: self.need]

    @property
    def power(self) -> NDArray[np.float64]:
        """Power of each frame that is remembered; see `quality.frame_power`."""
        return np.concatenate([np.empty(0, np.float64), *self._powers])

    @property
    def probability(self) -> NDArray[np.float32]:
        """Speech probability of the same frames."""
        return self._detector.probabilities[: len(self.power)]

    def window(self, count: int) -> SpeechWindow:
        """The first `count` samples of speech, and what was around them. Raises ValueError if there are
        fewer."""
        if not 0 < count <= min(self.count, self.need):
            raise ValueError(f"{count} samples of speech were asked for, there are {self.count}")
        taken = np.cumsum([len(piece) for piece in self._pieces])
        last = int(np.searchsorted(taken, count))
        samples = np.concatenate(self._pieces[: last + 1])[:count]
        end = self._starts[last] + len(self._pieces[last]) - int(taken[last] - count)
        frames = max(1, -(-end // FRAME) - self._forgotten)
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

    def _listen(self, block: NDArray[np.float32]) -> None:
        self.heard += len(block)
        self._powers.append(frame_power(block))
        self._recent.add(block)
        self._add(self._recent.take(self._detector.feed(block)))
        if self._detector.going_on:
            self._add(self._recent.take([self._detector.going_on]))

    def _add(self, pieces: Iterable[tuple[int, NDArray[np.float32]]]) -> None:
        for start, piece in pieces:
            if len(piece):
                self._starts.append(start)
                self._pieces.append(piece)
                self.count += len(piece)

    def _forget(self) -> None:
        if self._remember is None:
            return
        known = self.heard // FRAME - self._forgotten
        if known > 2 * self._remember:
            self._powers = [self.power[-self._remember :]]
            self._detector.forget(self._remember)
            self._forgotten += known - self._remember


class _Recent:
    """The samples of a recording that may still turn out to be speech."""

    __slots__ = ("_begin", "_samples", "_taken")

    def __init__(self) -> None:
        self._samples = np.empty(0, np.float32)
        self._begin = 0  # sample number of the first one kept
        self._taken = 0  # speech before this sample number has been handed out

    def add(self, block: NDArray[np.float32]) -> None:
        self._samples = np.concatenate([self._samples, block])

    def take(self, spans: Iterable[tuple[int, int]]) -> list[tuple[int, NDArray[np.float32]]]:
        """The part of each span that was not taken before, with the number of its first sample."""
        pieces = []
        for start, end in spans:
            start = max(start, self._taken)
            pieces.append((start, self._samples[start - self._begin : end - self._begin].copy()))
            self._taken = end
        return pieces

    def forget_before(self, sample: int) -> None:
        sample = max(sample, self._taken)
        self._samples, self._begin = self._samples[sample - self._begin :], sample
