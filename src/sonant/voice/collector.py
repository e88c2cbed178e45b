"""Collect speech from audio that comes in pieces of any size: a recording's blocks or a call's frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.telephone_band import TelephoneBand
from sonant.voice.models import Models
from sonant.voice.quality import Quality, at_full_scale, frame_power, measure
from sonant.voice.speech import FRAME, SpeechDetector

Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechWindow:
    """The first speech of a stream, of the requested length."""

    samples: NDArray[np.float32]
    """Shape [n], 8 kHz, -1..1, pauses removed, filtered to the telephone band."""
    start: int
    """Position of its first sample in the stream."""
    end: int
    """Position behind its last sample."""
    quality: Quality


class SpeechCollector:
    """Collects the first speech of one recording or stream, 8 kHz, until there is enough.

    Everything passes `TelephoneBand` first. The result does not depend on how the audio is cut into pieces.
    """

    __slots__ = (
        "_band",
        "_clipped",
        "_detector",
        "_dropped",
        "_history",
        "_pieces",
        "_powers",
        "_recent",
        "_recent_clipped",
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
        self._band, self._detector = TelephoneBand(), SpeechDetector(models)
        self._recent = _Recent(np.empty(0, np.float32))
        self._recent_clipped = _Recent(np.empty(0, np.bool_))
        self._rest = np.empty(0, np.float32)
        self._pieces: list[NDArray[np.float32]] = []
        self._clipped: list[NDArray[np.bool_]] = []
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
            self._recent_clipped.drop_before(self._detector.undecided_start)
            self._drop_history()

    def finish(self) -> None:
        """Process the end of the audio: decide the last span."""
        if self.enough:
            return
        self._analyze(self._rest, last=True)
        self._rest = np.empty(0, np.float32)
        self._add(self._detector.finish())

    @property
    def samples(self) -> NDArray[np.float32]:
        """The speech found, at most `need` samples."""
        return np.concatenate([np.empty(0, np.float32), *self._pieces])[: self.need]

    @property
    def clipped(self) -> NDArray[np.bool_]:
        """Which of those samples were at full scale before they were filtered."""
        return np.concatenate([np.empty(0, np.bool_), *self._clipped])[: self.need]

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
                clipped=np.concatenate(self._clipped[: last + 1])[:count],
                power=self.power[:frames],
                probability=self.probability[:frames],
                duration_s=end / RATE_HZ,
            ),
        )

    def _analyze(self, block: NDArray[np.float32], *, last: bool = False) -> None:
        """Analyze whole frames, or what is left at the end."""
        filtered = self._band.push(block)
        if last:
            filtered = np.concatenate([filtered, self._band.finish()])
        self.analyzed += len(block)
        self._powers.append(frame_power(filtered))
        self._recent.add(filtered)
        self._recent_clipped.add(at_full_scale(block))
        self._add(self._detector.push(filtered))
        if self._detector.open_span:
            self._add([self._detector.open_span])

    def _add(self, spans: Sequence[tuple[int, int]]) -> None:
        clipped = self._recent_clipped.take(spans)
        for (start, piece), (_, at_limit) in zip(self._recent.take(spans), clipped, strict=True):
            if len(piece):
                self._starts.append(start)
                self._pieces.append(piece)
                self._clipped.append(at_limit)
                self.count += len(piece)

    def _drop_history(self) -> None:
        if self._history is None:
            return
        known = self.analyzed // FRAME - self._dropped
        if known > 2 * self._history:
            self._powers = [self.power[-self._history :]]
            self._detector.drop_history(self._history)
            self._dropped += known - self._history


class _Recent(Generic[Value]):
    """Buffers what is known of samples that may still become part of a span of speech, a value a sample."""

    __slots__ = ("_begin", "_taken", "_values")

    def __init__(self, empty: NDArray[Value]) -> None:
        self._values = empty
        self._begin = 0  # position of the first buffered sample
        self._taken = 0  # speech before this position has been returned

    def add(self, block: NDArray[Value]) -> None:
        self._values = np.concatenate([self._values, block])

    def take(self, spans: Iterable[tuple[int, int]]) -> list[tuple[int, NDArray[Value]]]:
        """Return the part of each span that was not taken before, with the position of its first sample."""
        pieces = []
        for start, end in spans:
            start = max(start, self._taken)
            pieces.append((start, self._values[start - self._begin : end - self._begin].copy()))
            self._taken = end
        return pieces

    def drop_before(self, sample: int) -> None:
        sample = max(sample, self._taken)
        self._values, self._begin = self._values[sample - self._begin :], sample
