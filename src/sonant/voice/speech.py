"""Detect speech: Silero's network over frames of 32 ms, then hysteresis.

The detector takes a recording in blocks of any size; the segments do not depend on their sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ, Waveform
from sonant.voice.audio.telephone_band import telephone_band
from sonant.voice.models import Models

Value = TypeVar("Value", bound=np.generic)

FRAME = 256
"""Samples per frame of the network (32 ms)."""

_CONTEXT = 32  # samples before each frame that the network takes as well
_STATE = (1, 1, 128)
_MAX_FRAMES = 128  # per network call: its intermediate results stay in the processor's cache

# The defaults of Silero's own segmentation.
BEGIN_PROBABILITY, CONTINUE_PROBABILITY = 0.5, 0.35
MIN_SPEECH, MIN_SILENCE, PAD = (int(seconds * RATE_HZ) for seconds in (0.250, 0.100, 0.030))


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment of speech; times count from the start of the recording."""

    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzedAudio:
    """A whole recording with the speech in it."""

    samples: NDArray[np.float32]
    """Shape [n], 8 kHz, -1..1, pauses included, filtered to the telephone band."""
    spans: tuple[tuple[int, int], ...]
    """First and last sample (exclusive) of each stretch of speech, in order; they do not touch each other."""
    probabilities: NDArray[np.float32]
    """Speech probability of each frame; the last frame may be incomplete."""

    @property
    def speech(self) -> NDArray[np.float32]:
        """The speech without pauses, as the encoder takes it."""
        return self.speech_of(self.samples)

    def speech_of(self, values: NDArray[Value]) -> NDArray[Value]:
        """Take the values of the samples of speech, given one for each sample; [n]."""
        return np.concatenate([values[:0], *(values[start:end] for start, end in self.spans)])


def analyze(samples: NDArray[np.float32], models: Models) -> AnalyzedAudio:
    """Filter a whole recording at 8 kHz (float32, [n], -1..1) to the telephone band and find its speech."""
    filtered, detector = telephone_band(samples), SpeechDetector(models)
    spans = [*detector.push(filtered), *detector.finish()]
    return AnalyzedAudio(
        samples=filtered,
        spans=tuple((start, min(end, len(filtered))) for start, end in spans),
        probabilities=detector.probabilities,
    )


def find_speech(waveform: Waveform, models: Models) -> tuple[Segment, ...]:
    """Find the segments of speech in a waveform at 8 kHz, in order; they do not touch each other."""
    spans = analyze(waveform.samples, models).spans
    return tuple(Segment(start_s=start / RATE_HZ, end_s=end / RATE_HZ) for start, end in spans)


def net_speech_s(segments: Iterable[Segment]) -> float:
    """Add up the seconds of speech."""
    return sum(segment.duration_s for segment in segments)


class SpeechDetector:
    """Detects speech in one recording that arrives in blocks. Spans are sample positions at 8 kHz.

    The samples must have passed the filter of `telephone_band`.
    """

    __slots__ = ("_network", "_position", "_spans")

    def __init__(self, models: Models) -> None:
        self._network = _FrameNetwork(models)
        self._spans = Hysteresis()
        self._position = 0

    def push(self, samples: NDArray[np.float32]) -> list[tuple[int, int]]:
        """Take the next samples (float32, [n]); return the spans that have ended by now."""
        self._position += len(samples)
        return self._spans.push(self._network.push(samples).tolist())

    def finish(self) -> list[tuple[int, int]]:
        """Process the end of the recording; return the last spans."""
        ended = self._spans.push(self._network.finish().tolist())
        return ended + self._spans.finish(self._position)

    @property
    def open_span(self) -> tuple[int, int] | None:
        """The span that has not ended, as far as it is certain, once it is long enough to count."""
        return self._spans.open_span

    @property
    def undecided_start(self) -> int:
        """The first sample that may still become part of a span that has not been returned."""
        return self._spans.undecided_start

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Speech probability of every frame so far, without dropped ones, [n]."""
        return self._network.probabilities

    def drop_history(self, keep: int) -> None:
        """Keep the probabilities of the last `keep` frames only: a stream may last for hours."""
        self._network.drop_history(keep)


class _FrameNetwork:
    """Computes frame probabilities; carries the LSTM's state and the samples of an incomplete frame."""

    __slots__ = ("_c", "_done", "_h", "_rest", "_session")

    def __init__(self, models: Models) -> None:
        self._session = models.detector
        self._h = self._c = np.zeros(_STATE, np.float32)
        self._rest = np.zeros(_CONTEXT, np.float32)  # always begins with the context of the next frame
        self._done: list[NDArray[np.float32]] = []

    @property
    def probabilities(self) -> NDArray[np.float32]:
        return np.concatenate([np.empty(0, np.float32), *self._done])

    def drop_history(self, keep: int) -> None:
        self._done = [self.probabilities[-keep:]]

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        buffer = np.concatenate([self._rest, samples])
        count = (len(buffer) - _CONTEXT) // FRAME
        self._rest = buffer[count * FRAME :].copy()
        if count == 0:
            return np.empty(0, np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(buffer, _CONTEXT + FRAME)[::FRAME]
        found = []
        for first in range(0, count, _MAX_FRAMES):
            block = np.ascontiguousarray(frames[first : min(first + _MAX_FRAMES, count)])
            values, self._h, self._c = self._session.run(None, {"frames": block, "h": self._h, "c": self._c})
            found.append(values)
        probabilities: NDArray[np.float32] = np.concatenate(found)
        self._done.append(probabilities)
        return probabilities

    def finish(self) -> NDArray[np.float32]:
        """Process the last, incomplete frame, padded with silence."""
        missing = -(len(self._rest) - _CONTEXT) % FRAME
        return self.push(np.zeros(missing, np.float32))


class Hysteresis:
    """Turns probabilities into spans: start at 0.5, end after 100 ms below 0.35, drop spans under 250 ms."""

    __slots__ = ("_quiet_from", "_seen", "_start")

    def __init__(self) -> None:
        self._seen = 0
        self._start: int | None = None
        self._quiet_from: int | None = None

    def push(self, probabilities: Sequence[float]) -> list[tuple[int, int]]:
        ended = []
        for probability in probabilities:
            if probability >= BEGIN_PROBABILITY:
                self._quiet_from = None
                if self._start is None:
                    self._start = self._seen
            elif probability < CONTINUE_PROBABILITY and self._start is not None:
                if self._quiet_from is None:
                    self._quiet_from = self._seen
                if self._seen - self._quiet_from >= MIN_SILENCE:
                    ended += self._end(self._quiet_from)
            self._seen += FRAME
        return ended

    def finish(self, position: int) -> list[tuple[int, int]]:
        end = position if self._quiet_from is None else self._quiet_from
        return [(start, min(end, position)) for start, end in self._end(end)]

    @property
    def open_span(self) -> tuple[int, int] | None:
        if self._start is None:
            return None
        end = self._seen if self._quiet_from is None else self._quiet_from
        return (max(0, self._start - PAD), end) if end - self._start >= MIN_SPEECH else None

    @property
    def undecided_start(self) -> int:
        return max(0, (self._seen if self._start is None else self._start) - PAD)

    def _end(self, end: int) -> list[tuple[int, int]]:
        start, self._start, self._quiet_from = self._start, None, None
        # Spans lie at least MIN_SILENCE apart, so the padding of neighbours cannot meet.
        return [(max(0, start - PAD), end + PAD)] if start is not None and end - start >= MIN_SPEECH else []
