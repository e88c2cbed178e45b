"""Where there is speech: Silero's network over frames of 32 ms, then hysteresis.

The detector takes a recording in blocks of any size and gives the same segments for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ, Waveform
from sonant.voice.models import Models

FRAME = 256
"""Samples a frame of the network (32 ms)."""

_CONTEXT = 32  # samples before each frame that the network also sees
_STATE = (1, 1, 128)
_MAX_FRAMES = 128  # a network call: all that the network makes of them stays in the processor's cache

# The defaults of Silero's own segmentation.
BEGIN_PROBABILITY, GO_ON_PROBABILITY = 0.5, 0.35
MIN_SPEECH, MIN_SILENCE, PAD = (int(seconds * RATE_HZ) for seconds in (0.250, 0.100, 0.030))


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of speech, from the start of the recording."""

    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


def speech(waveform: Waveform, models: Models) -> tuple[Segment, ...]:
    """The segments of speech in a waveform at 8 kHz, in order, apart from each other."""
    detector = SpeechDetector(models)
    spans = [*detector.feed(waveform.samples), *detector.finish()]
    return tuple(Segment(start_s=start / RATE_HZ, end_s=end / RATE_HZ) for start, end in spans)


def net_speech_s(segments: Iterable[Segment]) -> float:
    """Seconds of speech, pauses left out."""
    return sum(segment.duration_s for segment in segments)


class SpeechDetector:
    """Finds speech in one recording that arrives in blocks. Spans are sample numbers at 8 kHz."""

    __slots__ = ("_network", "_position", "_spans")

    def __init__(self, models: Models) -> None:
        self._network = _FrameNetwork(models)
        self._spans = _Hysteresis()
        self._position = 0

    def feed(self, samples: NDArray[np.float32]) -> list[tuple[int, int]]:
        """Take the next samples (float32, [n]); return the spans that have ended by now."""
        self._position += len(samples)
        return self._spans.feed(self._network.feed(samples).tolist())

    def finish(self) -> list[tuple[int, int]]:
        """The recording is over: return the last spans."""
        ended = self._spans.feed(self._network.finish().tolist())
        return ended + self._spans.finish(self._position)

    @property
    def going_on(self) -> tuple[int, int] | None:
        """The span that has not ended, as far as it is certain, once it is long enough to count."""
        return self._spans.going_on

    @property
    def undecided_from(self) -> int:
        """Samples before this one can no longer become part of a span that has not been returned."""
        return self._spans.undecided_from

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Speech probability of every frame so far, but for those that were forgotten, [n]."""
        return self._network.probabilities

    def forget(self, keep: int) -> None:
        """Remember the probabilities of the last `keep` frames only: a stream may go on for hours."""
        self._network.forget(keep)


class _FrameNetwork:
    """Frame probabilities; carries the LSTM's state and the samples that fill no frame yet."""

    __slots__ = ("_c", "_done", "_h", "_rest", "_session")

    def __init__(self, models: Models) -> None:
        self._session = models.detector
        self._h = self._c = np.zeros(_STATE, np.float32)
        self._rest = np.zeros(_CONTEXT, np.float32)  # always begins with the context of the next frame
        self._done: list[NDArray[np.float32]] = []

    @property
    def probabilities(self) -> NDArray[np.float32]:
        return np.concatenate([np.empty(0, np.float32), *self._done])

    def forget(self, keep: int) -> None:
        self._done = [self.probabilities[-keep:]]

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
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
        """The last, incomplete frame, filled up with silence."""
        missing = -(len(self._rest) - _CONTEXT) % FRAME
        return self.feed(np.zeros(missing, np.float32))


class _Hysteresis:
    """Probabilities to spans: begin at 0.5, end after 100 ms below 0.35, drop what is under 250 ms."""

    __slots__ = ("_quiet_from", "_seen", "_start")

    def __init__(self) -> None:
        self._seen = 0
        self._start: int | None = None
        self._quiet_from: int | None = None

    def feed(self, probabilities: Sequence[float]) -> list[tuple[int, int]]:
        ended = []
        for probability in probabilities:
            if probability >= BEGIN_PROBABILITY:
                self._quiet_from = None
                if self._start is None:
                    self._start = self._seen
            elif probability < GO_ON_PROBABILITY and self._start is not None:
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
    def going_on(self) -> tuple[int, int] | None:
        if self._start is None:
            return None
        end = self._seen if self._quiet_from is None else self._quiet_from
        return (max(0, self._start - PAD), end) if end - self._start >= MIN_SPEECH else None

    @property
    def undecided_from(self) -> int:
        return max(0, (self._seen if self._start is None else self._start) - PAD)

    def _end(self, end: int) -> list[tuple[int, int]]:
        start, self._start, self._quiet_from = self._start, None, None
        # Spans lie at least MIN_SILENCE apart, so the padding of neighbours cannot meet.
        return [(max(0, start - PAD), end + PAD)] if start is not None and end - start >= MIN_SPEECH else []
